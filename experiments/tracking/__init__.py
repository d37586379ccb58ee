"""Weights & Biases: options, what may leave the machine, runs and offline runs."""
