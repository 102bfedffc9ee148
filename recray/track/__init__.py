"""Progress, learning curves, trackers and notices: what is told of a run while it goes on."""
