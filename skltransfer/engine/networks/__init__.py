"""What is trained: the private suffix and the readout, alive and as plain arrays. Knows no samples."""
