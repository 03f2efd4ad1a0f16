"""A driver library of cards that are made up: built with the machine's C compiler, and told what to say.

The real pynvml loads it: by its path, or as `libnvidia-ml.so.1` from LD_LIBRARY_PATH. What it answers stands in a file
that is mapped into memory on both sides, so it costs no call, and it can change while somebody is inside the library.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml_stub.c")
SONAME = "libnvidia-ml.so.1"
VARIABLE = "NVML_STUB"

# As in the C file.
OWN_WORDS, WORDS, CARDS, EVENTS = 64, 64, 16, 64
COUNT, INIT_RETURN, CALLS, HEAD, TAIL, INITS = range(6)
NAMES = (
    *("gone", "hang_ms", "energy", "power", "utilisation", "temperature", "clock", "memory_clock", "reasons", "total"),
    *("used", "reserved", "mig", "instances", "processes", "gpm", "sm", "tensor", "dram", "recovery", "remap_pending"),
    *("remap_failed", "ecc_uncorrected", "link_kib", "links", "value_type", "hanging", "kernel"),
)
NO_FIELDS = 32
XID = 8  # nvmlEventTypeXidCriticalError

DEFAULTS: Mapping[str, int] = {
    "energy": 9_000_500,
    "power": 412_500,
    "utilisation": 37,
    "temperature": 61,
    "clock": 1755,
    "memory_clock": 2619,
    "total": 80 << 30,
    "used": 1 << 30,
    "reserved": 512 << 20,
    "processes": 1,
    "gpm": 1,
    "sm": 81,
    "tensor": 44,
    "dram": 30,
    "link_kib": 4096,
    "links": 18,
}


class CompilerMissing(Exception):
    """There is no C compiler here, or it does not take the file; the message is its own."""


def build(directory: Path, *, old: bool = False) -> Path:
    """The library, in `directory`. Raises CompilerMissing."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CompilerMissing("no C compiler (cc or gcc) is installed here")
    library = directory / SONAME
    argv = [compiler, "-O2", "-shared", "-fPIC", f"-Wl,-soname,{SONAME}", "-o", str(library), str(SOURCE)]
    done = subprocess.run(
        [*argv, *(["-DOLD_LIBRARY"] if old else [])], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise CompilerMissing(f"the stub does not compile: {done.stderr.strip()[-800:]}")
    return library


class StubCards:
    """The file that the library reads. `environment()` leads a process to it."""

    def __init__(self, directory: Path, library: Path, count: int = 8) -> None:
        self.library = library
        self.path = directory / "nvml-stub.words"
        size = 8 * (OWN_WORDS + CARDS * WORDS + EVENTS * 3)
        self.path.write_bytes(bytes(size))
        with self.path.open("r+b") as file:
            self._words = mmap.mmap(file.fileno(), size)
        self.count = count
        for card in range(CARDS):
            for name, value in DEFAULTS.items():
                self.set(card, **{name: value})

    @property
    def count(self) -> int:
        return self._get(COUNT)

    @count.setter
    def count(self, value: int) -> None:
        self._put(COUNT, value)

    @property
    def calls(self) -> int:
        return self._get(CALLS)

    def init_returns(self, code: int) -> None:
        self._put(INIT_RETURN, code)

    def set(self, card: int, **values: int) -> None:
        for name, value in values.items():
            self._put(OWN_WORDS + card * WORDS + NAMES.index(name), value)

    def get(self, card: int, name: str) -> int:
        return self._get(OWN_WORDS + card * WORDS + NAMES.index(name))

    def without_fields(self, card: int, *numbers: int) -> None:
        """These fields of NVML the card does not support."""
        for place, number in enumerate(numbers):
            self._put(OWN_WORDS + card * WORDS + NO_FIELDS + place, number)

    def event(self, card: int, code: int, kind: int = XID) -> None:
        tail = self._get(TAIL)
        at = OWN_WORDS + CARDS * WORDS + (tail % EVENTS) * 3
        for place, value in enumerate((card, kind, code)):
            self._put(at + place, value)
        self._put(TAIL, tail + 1)

    def environment(self) -> dict[str, str]:
        return {VARIABLE: str(self.path), "LD_LIBRARY_PATH": str(self.library.parent)}

    def close(self) -> None:
        self._words.close()

    def _get(self, word: int) -> int:
        value: int = struct.unpack_from("<q", self._words, word * 8)[0]
        return value

    def _put(self, word: int, value: int) -> None:
        struct.pack_into("<q", self._words, word * 8, value)
