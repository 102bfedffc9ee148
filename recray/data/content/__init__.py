"""What items say about themselves, as vectors that are kept with the data set."""
