"""By which environment variables does each vendor's software see only a run's own devices?

The one table. Whoever runs on one vendor's devices sees none of the others': a node may hold cards of several, and a
run on CPU cores or on simulated cards must touch none. These variables keep honest programs apart, and nobody else: a
program can set them anew (AMD says so itself). What keeps tenants apart is MIG and the rights on device files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Visibility:
    """`names` are set to the devices, as `by` says; `unset` must stay away, for it would count on top of them.

    `also` goes with them. `ascending`: it takes no other order. `source` is where it is written; `seen` says that it
    was tried on such a card.
    """

    names: tuple[str, ...]
    by: Literal["uuid", "index"]
    source: str
    unset: tuple[str, ...] = ()
    also: Mapping[str, str] = field(default_factory=dict)
    ascending: bool = False
    seen: bool = False


# What hides all devices from who reads the variable. AMD's runtime takes an empty one for none at all (rocdevice.cpp:
# HIP_VISIBLE_DEVICES if its first character is there, else CUDA_VISIBLE_DEVICES, else every device), so it gets a
# number that no device has. For Ascend, MLU, MUSA, XPU and MACA the empty value is unverified: no document says what it
# does.
HIDDEN: Mapping[str, str] = {
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "-1",
    "ROCR_VISIBLE_DEVICES": "",
    "ASCEND_RT_VISIBLE_DEVICES": "",
    "MLU_VISIBLE_DEVICES": "",
    "MUSA_VISIBLE_DEVICES": "",
    "XPU_VISIBLE_DEVICES": "",
    "MACA_VISIBLE_DEVICES": "",
}

_ROCM = Visibility(
    names=("HIP_VISIBLE_DEVICES",),
    by="index",
    # HIP counts from what ROCR has left, and PyTorch refuses more of one than of the other.
    unset=("ROCR_VISIBLE_DEVICES",),
    source="AMD, ROCm documentation, GPU isolation techniques; for Hygon's DTK: FlagPerf's configuration of a DCU",
)

# By the vendor as the hardware catalogue spells it.
VENDORS: Mapping[str, Visibility] = {
    "nvidia": Visibility(
        names=("CUDA_VISIBLE_DEVICES",),
        by="uuid",
        also={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        source="NVIDIA, CUDA C++ Programming Guide, CUDA Environment Variables (a UUID, also of a MIG instance)",
        seen=True,
    ),
    "amd": _ROCM,
    "hygon": _ROCM,
    "huawei": Visibility(
        names=("ASCEND_RT_VISIBLE_DEVICES",),
        by="index",
        ascending=True,
        source="Huawei, CANN 8.0, 8.5 and 9.0, Environment Variables, ASCEND_RT_VISIBLE_DEVICES (envref_07_0028)",
    ),
    "cambricon": Visibility(
        names=("MLU_VISIBLE_DEVICES",),
        by="index",
        source="no vendor document found; FlagPerf's configuration, and Cambricon's own training scripts",
    ),
    "moore-threads": Visibility(
        names=("MUSA_VISIBLE_DEVICES",),
        by="index",
        source="no vendor document found; FlagPerf's configuration, and examples for torch_musa",
    ),
    "kunlunxin": Visibility(
        names=("XPU_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
        by="index",
        source="Baidu, vLLM-Kunlun, Environment Variables (XPU_); its PyTorch (torch_xmlir) plays CUDA and reads CUDA_",
    ),
    "metax": Visibility(
        names=("MACA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
        by="index",
        source="MetaX, vLLM-metax, which keeps both the same; Ray's MetaX manager sets CUDA_ alone",
    ),
    "iluvatar": Visibility(
        names=("CUDA_VISIBLE_DEVICES",),
        by="index",
        source="Iluvatar CoreX, the scripts of its model zoo; FlagPerf's configuration",
    ),
    "t-head": Visibility(
        names=("CUDA_VISIBLE_DEVICES",),
        by="index",
        source="no vendor document found; guides for its PPU through PyTorch's CUDA bridge agree",
    ),
}

NAMES: frozenset[str] = frozenset(HIDDEN) | {name for vendor in VENDORS.values() for name in vendor.also}


def hidden() -> dict[str, str]:
    """For who is to see no device of any vendor."""
    return dict(HIDDEN)


def visible(vendor: str, ids: Sequence[str]) -> dict[str, str]:
    """For who is to see these devices of one vendor and none of any other; without ids, or of a vendor that is not in
    the table, none at all. `ids` are uuids or indices, as the vendor's row says.
    """
    own = VENDORS.get(vendor)
    if own is None or not ids:
        return hidden()
    shown = ",".join(sorted(ids, key=int) if own.ascending else ids)
    others = {name: value for name, value in HIDDEN.items() if name not in own.unset}
    return {**others, **dict.fromkeys(own.names, shown), **own.also}
