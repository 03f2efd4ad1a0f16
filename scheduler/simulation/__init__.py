"""Virtual time: the live logic under simulated ports. Grows with the simulator issue."""
