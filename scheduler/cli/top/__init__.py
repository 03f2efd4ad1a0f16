"""`suanli top`: a live full-screen view of nodes, devices, queue and services.

`verb.py` composes it; `feed.py` asks the service in a thread of its own; `answers.py`, `pane.py` and the `*_pane.py`
are pure: what there is, in which columns, in what order; `app.py`, `grid.py` and `dialogs.py` draw it with Textual, and
are the only ones that import it.
"""
