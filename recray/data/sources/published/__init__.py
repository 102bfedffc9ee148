"""The formats that published data sets come in, and a benchmark's own split."""
