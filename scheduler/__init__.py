"""Suanli's scheduler: a pure planner, and the rooms around it that make its decisions true."""

__version__ = "0.1.0"
