"""Samples in, activations out: each frozen stage passed once per sample. Knows no targets."""
