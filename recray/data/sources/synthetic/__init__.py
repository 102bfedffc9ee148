"""The synthetic data set, made from a planted truth whose best answer is known."""
