"""Watches data and models: what is wrong with them, with a number and with examples."""
