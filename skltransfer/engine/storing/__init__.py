"""Activations that are remembered: their key, in memory, in a folder. Knows no samples and no networks."""
