"""How busy were the multiprocessors and tensor units of a card really? From NVML's GPM samples (Hopper and newer).

Utilisation says only whether anything ran. GPM counts what worked, between two samples of one card; so the first round
has no answer, and each later one is the mean since the round before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node_agent.devices.quantities import Quantity

# NVML_GPM_METRIC_* of nvml.h, all in percent.
METRICS: Mapping[Quantity, str] = {
    Quantity.SM_ACTIVITY_PERCENT: "NVML_GPM_METRIC_SM_UTIL",
    Quantity.TENSOR_ACTIVITY_PERCENT: "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    Quantity.MEMORY_ACTIVITY_PERCENT: "NVML_GPM_METRIC_DRAM_BW_UTIL",
}


class ActivityMeter:
    """Of one card. Methods raise what the driver raises; `supported` is asked once."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._metrics = {quantity: int(getattr(nvml, name)) for quantity, name in METRICS.items()}
        self.supported = bool(nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice)
        self._samples: list[Any] = []
        self._filled = False

    def read(self) -> dict[Quantity, float | int | str]:
        """By quantity: percent, the return code of a metric that failed, or a sentence."""
        nvml = self._nvml
        while len(self._samples) < 2:
            self._samples.append(nvml.nvmlGpmSampleAlloc())
        nvml.nvmlGpmSampleGet(self._handle, self._samples[1])
        self._samples.reverse()  # [0] is the newest
        if not self._filled:
            self._filled = True
            return dict.fromkeys(self._metrics, "no time has passed since the last reading")
        asked = nvml.c_nvmlGpmMetricsGet_t()
        asked.version = nvml.NVML_GPM_METRICS_GET_VERSION
        asked.numMetrics = len(self._metrics)
        asked.sample1, asked.sample2 = self._samples[1], self._samples[0]
        for place, number in enumerate(self._metrics.values()):
            asked.metrics[place].metricId = number
        nvml.nvmlGpmMetricsGet(asked)
        found: dict[Quantity, float | int | str] = {}
        for place, quantity in enumerate(self._metrics):
            code, value = int(asked.metrics[place].nvmlReturn), float(asked.metrics[place].value)
            if code != 0:
                found[quantity] = code
            elif not 0.0 <= value <= 101.0:  # also not a number
                found[quantity] = f"the driver answered with {value} percent"
            else:
                found[quantity] = min(value, 100.0)
        return found

    def close(self) -> None:
        for sample in self._samples:
            self._nvml.nvmlGpmSampleFree(sample)
        self._samples = []
        self._filled = False
