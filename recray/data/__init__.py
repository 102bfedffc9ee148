"""Raw files become immutable data sets; data sets become splits, batches and evaluation examples.

The files in this folder are its ground: what readers promise, and blocks of rows. On it, imports pointing
strictly down: ``batches``, ``etl`` (Ray Data), ``rows`` and ``content``, ``events``, ``sources``, ``report``.
"""
