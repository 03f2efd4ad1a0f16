"""The loop: facts in, plan, commit, dispatch. Logic without I/O of its own."""
