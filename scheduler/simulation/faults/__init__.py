"""Nodes, disks and processes that fail by a seed, in virtual time. Everything in here is simulated."""
