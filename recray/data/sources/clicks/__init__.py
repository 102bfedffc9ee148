"""Rows of clicks: tables of any columns, and the format of Criteo's logs."""
