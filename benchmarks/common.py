"""What every part of the benchmark shares: shapes, the pinned core, honest memory, floating-point work, files.

Nothing heavy is imported here at module level: the parent process stays small, and each measurement runs in a process
of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAIRS_PER_STEP = 8
WARMUP_STEPS = 2
TIMED_STEPS = 8
MAX_LENGTH = 1024  # tokens, prompt and completion together; longer pairs are left out before sampling
LEARNING_RATE = 1e-6  # TRL's default
LORA_LEARNING_RATE = 2e-5  # an adapter starts at zero and hardly moves at a full-training rate
BETA = 0.1
LORA = {"rank": 16, "alpha": 32}
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 36), "MALLOC_TOP_PAD_": str(1 << 26)}


@dataclass(frozen=True)
class Shape:
    """A Llama with a tied head, initialised at random. Widths in units, `vocabulary` in tokens."""

    hidden: int
    layers: int
    mlp: int
    heads: int
    kv_heads: int
    vocabulary: int

    @property
    def head_width(self) -> int:
        return self.hidden // self.heads

    @property
    def layer_weights(self) -> int:
        """Weights of one layer's matrices, each of which costs 2 operations a token and pass."""
        attention = self.hidden * self.head_width * (2 * self.heads + 2 * self.kv_heads)
        return attention + 3 * self.hidden * self.mlp


SHAPES = {
    "S1": Shape(hidden=384, layers=6, mlp=1024, heads=6, kv_heads=2, vocabulary=8_192),
    "S2": Shape(hidden=512, layers=8, mlp=1408, heads=8, kv_heads=4, vocabulary=32_768),
}


@dataclass(frozen=True)
class Job:
    """One measurement, as a worker reads it. `name` is the row's name in the table.

    `side` is the worker: trl, burnish, ablation, gemm. `options` are the worker's own. `environment` is set before the
    worker starts (the allocator reads it then). `arrangement` is the order of the pairs: grouped (by length) or mixed.
    """

    name: str
    side: str
    dtype: str = "bfloat16"
    arrangement: str = "grouped"
    options: Mapping[str, Any] | None = None
    environment: Mapping[str, str] | None = None

    def option(self, key: str, default: Any) -> Any:
        return (self.options or {}).get(key, default)


def run_job(job: Job, work: Path, shape: str, core: int) -> dict[str, Any]:
    """Run one job in a process of its own and return what it reports; a failure is a row too (`error`)."""
    spec, result = work / "job.json", work / "result.json"
    spec.write_text(json.dumps({"job": asdict(job), "work": str(work), "shape": shape, "core": core}))
    result.unlink(missing_ok=True)
    environment = {**os.environ, **worker_environment(work), **(job.environment or {})}
    command = [sys.executable, str(HERE / f"side_{job.side}.py"), str(spec), str(result)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not result.exists():
        (work / "failed.log").write_text(done.stdout + done.stderr)
        last = [line for line in done.stderr.strip().splitlines() if line.strip()][-1:] or ["no output"]
        return {"error": f"exit {done.returncode}: {last[0]}"}
    answer: dict[str, Any] = json.loads(result.read_text())
    return answer


def worker_environment(work: Path) -> dict[str, str]:
    """One thread everywhere, no network, caches inside the work folder."""
    source = str(HERE.parent / "src")
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(work / "datasets_cache"),
        "TQDM_DISABLE": "1",
        "PYTHONPATH": path,
    }


def start_worker() -> tuple[Job, Path, str, Path]:
    """In a worker: read the job, pin this process to its core, one torch thread. Returns job, work, shape, result."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    os.sched_setaffinity(0, {spec["core"]})
    import torch

    torch.set_num_threads(1)
    job = Job(**spec["job"])
    torch.set_float32_matmul_precision(job.option("matmul", "highest"))
    return job, Path(spec["work"]), spec["shape"], Path(sys.argv[2])


def peak_megabytes() -> float:
    """Largest resident size of this process so far, in MB (`VmHWM`; `ru_maxrss` would carry over from the parent)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system has no VmHWM in /proc/self/status; peak memory cannot be measured")


class Stamps:
    """Wall-clock time at the end of every optimiser step. Timed span: end of the last warm-up step to the last step."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.ends: list[float] = []

    def end_of_step(self) -> None:
        self.ends.append(time.perf_counter())

    def report(self, warmup: int = WARMUP_STEPS) -> dict[str, Any]:
        """Figures over the steps after `warmup`; nothing where there are none."""
        if len(self.ends) <= warmup:
            return {}
        span = self.ends[-1] - self.ends[warmup - 1]
        steps = [end - start for start, end in zip(self.ends, self.ends[1:], strict=False)]
        timed = len(self.ends) - warmup
        return {
            "pairs_per_second": PAIRS_PER_STEP * timed / span,
            "timed_seconds": span,
            "step_seconds": steps[warmup - 1 :],
            "whole_seconds": self.ends[-1] - self.started,
        }


def needed_flops(pairs: Sequence[Mapping[str, Any]], shape: Shape, *, lora: bool) -> float:
    """Floating-point operations that one training pass over `pairs` cannot avoid (a multiply-add is two).

    Prompt once, branches once, head on rows that predict a completion token, causal attention with no masked product;
    forward 1, gradient of activations 1, gradient of weights 1 (LoRA: not for frozen weights). Recomputation, the
    reference, norms, and the optimiser are not counted; nor is anything saved inside the last layer.
    """
    passes, total = (2 if lora else 3), 0.0
    for pair in pairs:
        prompt, branches = pair["prompt_tokens"], pair["completion_tokens"]
        rows = prompt + sum(n - 1 for n in branches)
        seen = prompt * (prompt + 1) / 2 + sum((n - 1) * prompt + (n - 1) * n / 2 for n in branches)
        linear = 2.0 * rows * shape.layer_weights * shape.layers
        attention = 3 * 4.0 * seen * shape.heads * shape.head_width * shape.layers
        head = 2.0 * sum(branches) * shape.hidden * shape.vocabulary
        adapters = 0.0
        if lora:
            ends = 9 * shape.hidden + 2 * shape.kv_heads * shape.head_width + 3 * shape.mlp  # sum of (in + out)
            adapters = 3 * 2.0 * rows * LORA["rank"] * ends * shape.layers
        total += passes * (linear + head) + attention + adapters
    return total


def machine() -> dict[str, Any]:
    """Processor, cores and memory; no names or paths."""
    model = "unknown"
    flags: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name") and model == "unknown":
            model = line.split(":", 1)[1].strip()
        if line.startswith("flags") and not flags:
            flags = set(line.split(":", 1)[1].split())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "instructions": [name for name in wanted if name in flags],
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
    }


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "burnish"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "source tree" if name == "burnish" else "absent"
    return found
