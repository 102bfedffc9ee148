"""Where raw files are found, fetched, unpacked and read block by block."""
