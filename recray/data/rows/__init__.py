"""Rows to rank: prepared, described and read block by block."""
