"""Ranking features: the point-in-time log, each feature's one definition, and examples made of them."""
