"""What is measured. Standard library, NumPy and torch only."""
