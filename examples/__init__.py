"""Small, real workloads: what a tenant would write."""
