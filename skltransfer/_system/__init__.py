"""What the operating system gives and users see on the way: files, locks, progress, tables, precision. Knows no estimator."""
