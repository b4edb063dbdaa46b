"""Multiple-choice questions through our model of the evaluation harness, against its own `hf` model.

    python benchmarks/lm_eval_backend.py --out results/lm_eval_backend.json [--questions 24]

A random S1 model in float32 on one core; contexts of 150 to 400 tokens, four choices of 4 to 24 tokens each, as in
tasks that score whole endings. `hf` runs with batches of 1, 4 and 16 requests; its best is the one to compare with.
Both get the same requests in the same process, one after the other. Seconds, and the largest difference of scores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from common import SHAPES, machine, versions
from random_data import make_model, random_ids, text_of

CHOICES = 4
BATCHES = (1, 4, 16)


def questions(count: int, vocabulary: int) -> list[Any]:
    """The harness's requests: each context with its four continuations, one after the other."""
    from lm_eval.api.instance import Instance

    draw = random.Random(0)
    requests = []
    for _ in range(count):
        context = text_of(random_ids(draw, draw.randint(150, 400), vocabulary))
        for _ in range(CHOICES):
            ending = text_of(random_ids(draw, draw.randint(4, 24), vocabulary))
            requests.append(Instance("loglikelihood", {}, (context, ending), len(requests)))
    return requests


def timed(model: Any, requests: list[Any], repeats: int) -> tuple[float, list[tuple[float, bool]]]:
    """(the best of some repeats in seconds, the scores)."""
    best, scores = float("inf"), []
    for _ in range(repeats):
        began = time.perf_counter()
        scores = model.loglikelihood(requests, disable_tqdm=True)
        best = min(best, time.perf_counter() - began)
    return best, scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM

    from burnish.evals.harness import BurnishLM

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        folder = str(make_model(SHAPES["S1"], Path(work) / "model"))
        requests = questions(given.questions, SHAPES["S1"].vocabulary)
        ours, scores = timed(BurnishLM(folder, dtype="float32"), requests, given.repeats)
        rows = {}
        for batch in BATCHES:
            model = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=batch)
            seconds, theirs = timed(model, requests, given.repeats)
            apart = max(abs(a[0] - b[0]) for a, b in zip(scores, theirs, strict=True))
            greedy = sum(a[1] != b[1] for a, b in zip(scores, theirs, strict=True))
            rows[str(batch)] = {"seconds": seconds, "largest_difference": apart, "greedy_differs": greedy}
            print(f"hf, batch {batch}: {seconds:.2f} s, scores differ by at most {apart:.1e}", flush=True)
    best = min(row["seconds"] for row in rows.values())
    print(f"burnish: {ours:.2f} s, {best / ours:.2f} times as fast as hf at its best")
    result = {
        "questions": given.questions, "choices": CHOICES, "burnish_seconds": ours, "hf": rows, "ratio": best / ours,
        "machine": machine(), "versions": {**versions(), "lm_eval": lm_eval.__version__},
    }  # fmt: skip
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
