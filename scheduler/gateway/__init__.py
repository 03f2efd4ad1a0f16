"""The inference data path: requests go from here straight to replicas."""
