"""`python -m scheduler.cli`: the same as `suanli`, for places where the script's directory is not known."""

from scheduler.cli import main

main()
