"""How fast is a job started? Through the running service, beside peers on the same machine in the same run."""
