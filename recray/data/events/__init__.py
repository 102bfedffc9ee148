"""Data sets of interactions: prepared, described, split, and asked for evaluation."""
