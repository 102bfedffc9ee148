"""What a run is, the one training loop that knows neither Ray nor model, and boosting."""
