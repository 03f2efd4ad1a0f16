"""What is really achieved: workloads, protocol, history, capacity reports."""
