"""The planner: facts in, decisions out. Standard library and NumPy only; time and chance are arguments."""
