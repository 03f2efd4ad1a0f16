"""Results over nights: the append-only record."""
