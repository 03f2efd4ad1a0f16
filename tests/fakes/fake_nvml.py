"""A pynvml of cards that are made up: the functions that NvmlDevices calls, failing where a test says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


class NVMLLibraryMismatchError(Exception):
    """As in pynvml, no NVMLError."""


@dataclass
class FakeCard:
    """Values in NVML's units (milliwatts, millijoules). `broken` maps a function's suffix to what it raises."""

    uuid: str
    name: str = "NVIDIA H100 80GB HBM3"
    total_bytes: int = 80 << 30
    used_bytes: int = 1 << 30
    utilisation: int = 37
    milliwatts: int = 412_500
    millijoules: int = 9_000_500
    celsius: int = 61
    megahertz: int = 1755
    lost: bool = False
    broken: dict[str, Exception] = field(default_factory=dict)


class FakeNvml:
    """Pass it to NvmlDevices. Handles are the cards themselves."""

    NVMLError = NVMLError
    NVMLLibraryMismatchError = NVMLLibraryMismatchError
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_GPU_IS_LOST = 15
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1

    def __init__(self, *cards: FakeCard, init_error: Exception | None = None) -> None:
        self.cards = list(cards)
        self.init_error = init_error
        self.open = False

    def nvmlInit(self) -> None:
        if self.init_error is not None:
            raise self.init_error
        self.open = True

    def nvmlShutdown(self) -> None:
        self.open = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeCard:
        return self._ask(self.cards[index], "HandleByIndex", lambda card: card)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers: dict[str, Callable[[FakeCard], Any]] = {
            "UUID": lambda card: card.uuid,
            "Name": lambda card: card.name,
            "MemoryInfo": lambda card: SimpleNamespace(total=card.total_bytes, used=card.used_bytes),
            "UtilizationRates": lambda card: SimpleNamespace(gpu=card.utilisation, memory=0),
            "PowerUsage": lambda card: card.milliwatts,
            "TotalEnergyConsumption": lambda card: card.millijoules,
            "Temperature": lambda card: card.celsius,
            "ClockInfo": lambda card: card.megahertz,
        }
        suffix = name.removeprefix("nvmlDeviceGet")
        if suffix not in answers:
            raise AttributeError(name)
        return lambda card, *more: self._ask(card, suffix, answers[suffix])

    def _ask(self, card: FakeCard, suffix: str, answer: Callable[[FakeCard], Any]) -> Any:
        if card.lost:
            raise NVMLError(self.NVML_ERROR_GPU_IS_LOST)
        if suffix in card.broken:
            raise card.broken[suffix]
        return answer(card)
