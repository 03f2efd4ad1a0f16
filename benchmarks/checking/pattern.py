"""What memory is filled with, so that every element can be told from its place and compared without a tolerance.

Whole numbers below 2^24, which fp32 holds exactly: place i holds i mod MODULUS, and the sum of two of them stays exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

MODULUS = 1_048_573  # a prime below 2^20, so that no power of two of an address line hides behind it
SCALE = 3.0
SHIFT = 7


def numpy_pattern(count: int, times: int = 1) -> Any:
    """float32[count]: place i holds (i · times) mod MODULUS."""
    return ((np.arange(count, dtype=np.int64) * times) % MODULUS).astype(np.float32)


def torch_pattern(torch: Any, count: int, where: Any, times: int = 1) -> Any:
    """The same, made on the device itself."""
    places = torch.arange(count, dtype=torch.int64, device=where)
    return (places.mul_(times).remainder_(MODULUS)).to(torch.float32)
