"""What does `suanli simulate run -o html` show? One self-contained page made from the JSON document of the same run.

`render(document, lang="en")` is all that others need. The page loads nothing and runs no script: its style is inline
and its charts are SVG drawn here. Everything on it is simulated, and every screen and printed sheet says so.

facts.py reads the document, numbers.py and words.py say things, scales.py and svg.py draw, tables.py and figures.py
decide what is told, render.py and templates/ place it.
"""

from scheduler.simulation.page.render import render

__all__ = ["render"]
