"""What models train on: batches that are a pure function of epoch and step."""
