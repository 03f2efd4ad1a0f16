"""Serves nothing: `model: examples/serve_noop.py:Noop` answers each input with itself.

What a request costs beside the model is measured with it (`suanli bench serving`).
"""

from __future__ import annotations


class Noop:
    def predict(self, batch: list[object]) -> list[object]:
        return batch
