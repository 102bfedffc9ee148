"""One module per claim; each measures its peer in the same run and ends in one JSON line."""
