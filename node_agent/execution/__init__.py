"""How a job's process is set up: checks, environment, logs, checkpoints."""
