"""Whole ways of the data, over the rooms below: a screen each."""
