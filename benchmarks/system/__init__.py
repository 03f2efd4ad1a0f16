"""Benchmarks that need the running system (Ray or HTTP)."""
