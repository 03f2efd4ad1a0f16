"""`python -m benchmarks`: the benchmark by itself, from a checkout, without a cluster and without installing Suanli."""

from __future__ import annotations

from benchmarks.cli import main

if __name__ == "__main__":
    main()
