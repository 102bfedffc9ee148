"""Raw files become immutable data sets; data sets become splits, batches and evaluation examples."""
