"""Devices to plan for: their memory, and how fast they multiply matrices."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from burnish.errors import ConfigError

GIB = 1 << 30
CONTEXT = GIB  # bytes of a CUDA process that holds nothing yet: its context and the libraries' work space
FRAGMENTS = 0.05  # share of a GPU's memory that torch's allocator cannot use for want of a piece that is large enough


@dataclass(frozen=True)
class Device:
    """`memory` in bytes, as the driver reports it; `speed` in operations a second, dense bfloat16 products, as its
    maker states it (for a CPU: measured here)."""

    name: str
    memory: int
    speed: float
    fused: bool = True  # attention kernels that keep no score matrix

    @property
    def usable(self) -> int:
        return int(self.memory * (1 - FRAGMENTS)) - CONTEXT if self.fused else self.memory


KNOWN = {  # GiB as reported by the driver, TFLOP/s from the makers' data sheets (bfloat16, dense)
    "h100": (79.6, 989.0),
    "h200": (140.4, 989.0),
    "b200": (178.0, 2250.0),
    "a100-80": (79.3, 312.0),
    "a100-40": (39.4, 312.0),
    "l40s": (44.5, 362.0),
    "rtx4090": (23.5, 165.0),
}


def find(name: str, memory: float | None = None, tflops: float | None = None) -> Device:
    """A device by name, with other numbers where they are given. Raises ConfigError for an unknown one."""
    if not name:
        name = "gpu" if memory and tflops else (_this_gpu() or "cpu")
    if name == "cpu":
        return Device("cpu", int(memory * GIB) if memory else free_memory(), (tflops or measured_speed()) * 1e12, False)
    if name not in KNOWN and not (memory and tflops):
        raise ConfigError(
            f"--device {name} is not known; known are {', '.join(KNOWN)} and cpu. For any other give --memory (GiB) "
            "and --tflops"
        )
    known = KNOWN.get(name, (0.0, 0.0))
    return Device(name, int((memory or known[0]) * GIB), (tflops or known[1]) * 1e12)


def _this_gpu() -> str | None:
    """The table's name of the GPU at hand."""
    if not torch.cuda.is_available():
        return None
    full_name = torch.cuda.get_device_name().lower().replace(" ", "")
    size = torch.cuda.get_device_properties(0).total_memory / GIB
    for name, (memory, _) in KNOWN.items():
        if name.split("-")[0] in full_name and abs(memory - size) < 0.1 * memory:
            return name
    return None


def free_memory() -> int:
    """Bytes that this process may still take: of the GPU, or of the machine's memory and the container's share."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free.append(int(line.split()[1]) * 1024)
    limit, used = _text("/sys/fs/cgroup/memory.max").strip(), _text("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():
        free.append(int(limit) - int(used))
    return max(0, min(free))


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def measured_speed() -> float:
    """TFLOP/s of float32 matrix products on this machine's CPU, from a tenth of a second of them."""
    side = 768
    matrix = torch.randn(side, side)
    torch.mm(matrix, matrix)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 0.1:
        torch.mm(matrix, matrix)
        count += 1
    return 2 * side**3 * count / (time.perf_counter() - began) / 1e12
