"""What do callers of a service get? Through gateway and replicas, beside peers on the same machine in the same run."""
