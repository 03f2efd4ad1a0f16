"""The inference data path: requests go straight from here to replica processes."""
