"""Worker: the rate this core reaches on large square matrix products, in GFLOP/s; the roof for every other row."""

from __future__ import annotations

import json
import time

from common import start_worker


def main() -> None:
    job, _, _, result = start_worker()
    import torch

    dtype = getattr(torch, job.dtype)
    best = 0.0
    for precision in ("highest", "medium"):  # on some processors they choose different libraries for float32
        torch.set_float32_matmul_precision(precision)
        for size in (1024, 2048):
            left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
            out = torch.empty(size, size, dtype=dtype)
            for _ in range(6):
                begin = time.perf_counter()
                torch.mm(left, right, out=out)
                best = max(best, 2 * size**3 / (time.perf_counter() - begin) / 1e9)
    result.write_text(json.dumps({"gflops": best}))


if __name__ == "__main__":
    main()
