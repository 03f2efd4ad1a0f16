"""The small network in batches of one: what dynamic batching is compared with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

if (root := str(Path(__file__).resolve().parents[4])) not in sys.path:  # served from a file of a checkout
    sys.path.insert(0, root)

from examples.serve_mlp import Mlp


class MlpAlone(Mlp):
    batching: ClassVar[dict[str, float]] = {"max": 1}
