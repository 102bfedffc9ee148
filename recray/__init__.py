"""recray: train, tune and serve recommenders on Ray, from one code base."""

__version__ = "0.12.0"
