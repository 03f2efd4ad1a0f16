"""Runs a tenant's model class behind a socket. Imports nothing of scheduler."""
