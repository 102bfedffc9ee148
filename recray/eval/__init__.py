"""Evaluation: metrics over the full ranking, their uncertainty, and comparison under one protocol."""
