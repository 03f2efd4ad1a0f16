"""What does watching a node cost? The sampler over a driver library of cards that are made up."""
