"""What the operating system gives and users see on the way: files, locks, progress, precision. Knows no estimator."""
