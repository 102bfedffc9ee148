"""What was shown and what people did with it: written down as it happens, never lost, read as tables."""
