"""Runs a tenant's Python model behind a socket with dynamic batching. Imports nothing of scheduler."""
