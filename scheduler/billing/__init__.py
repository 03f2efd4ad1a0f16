"""What usage comes to in money and in PFlops-hours, and the documents that say so. Knows the core's books alone."""
