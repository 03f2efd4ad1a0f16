"""One small Ray-free process a node that forks jobs, keeps their exits and holds the lease."""
