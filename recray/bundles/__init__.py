"""What is inside a published version, by kind, and what answers from it."""
