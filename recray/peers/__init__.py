"""Other libraries in environments of their own, measured under the same card."""
