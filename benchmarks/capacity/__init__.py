"""Achieved against goal: the arithmetic and the reports."""
