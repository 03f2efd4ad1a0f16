"""pytest-benchmark suites over our own hot paths."""
