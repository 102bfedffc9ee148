"""Business rules: each is a frozen config with ``open``, and a stage."""
