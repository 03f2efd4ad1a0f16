"""What the simulator costs: replays of one workload cut to several sizes, on the shipped 10,000-card cluster."""
