"""The HTTP door: OpenAPI, tokens and roles, and nothing else."""
