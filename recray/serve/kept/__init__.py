"""Answers that are kept for a while: whether one may be given again, and where it is kept."""
