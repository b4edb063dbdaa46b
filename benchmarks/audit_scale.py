"""`burnish audit` on many pairs against the least that any data tool does: load them, and map their token lengths.

    python benchmarks/audit_scale.py --data FOLDER --pairs 100000 --out results/audit.json

FOLDER holds files of preferences in any format burnish reads; they are repeated, with a number and a few words changed,
until there are enough pairs. Both sides run in processes of their own on one pinned core, with the same tokenizer; the
other side is `datasets.load_dataset("json")` and a batched map of the three texts' token counts, its caches fresh. The
bag-of-words probe is left out (`--no-probe`), everything else is in.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import machine, versions

TOKENIZER_ENTRIES = 16_384
AUDIT = """
import os, sys, time; os.sched_setaffinity(0, {{{core}}}); began = time.perf_counter()
from burnish.cli import main
try:
    main(["audit", {data!r}, "model.path={tokenizer}", "data.format=pairs", "--no-probe", "--html", {page!r}])
except SystemExit as stopped:
    assert stopped.code in (0, None, 2), stopped.code
"""
MAP = """
import os, sys, time; os.sched_setaffinity(0, {{{core}}}); began = time.perf_counter()
from datasets import load_dataset
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file({tokenizer!r} + "/tokenizer.json")
def lengths(batch):
    return {{name: [len(e.ids) for e in tokenizer.encode_batch(batch[name], add_special_tokens=False)]
            for name in ("prompt", "chosen", "rejected")}}
data = load_dataset("json", data_files={data!r}, split="train")
print(sum(data.map(lengths, batched=True, remove_columns=data.column_names)["chosen"]))
"""
REPORT = """
import json
status = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
json.dump({{"seconds": time.perf_counter() - began, "peak_mb": int(status) / 1024}}, open({result!r}, "w"))
"""


def pairs(folder: Path) -> list[tuple[str, str, str]]:
    """(prompt, chosen, rejected) of every pair in the folder's files, conversations as plain text."""
    from burnish.data.control_tokens import answer_text
    from burnish.data.readers import read
    from burnish.data.views import pair_view
    from burnish.errors import DataError
    from burnish.group import EncodedGroup

    found = []
    for file in sorted(folder.rglob("*.jsonl")):
        try:
            groups = read(str(file), keep_faults=True).groups
        except DataError:
            continue
        for group in groups:
            blank = EncodedGroup("", (), ((),) * len(group.completions), (), group.feedback)
            texts = [answer_text(c) for c in group.completions]
            prompt = group.prompt if isinstance(group.prompt, str) else "\n\n".join(m.content for m in group.prompt)
            found += [(prompt, texts[w], texts[l]) for w, l, _ in pair_view(blank, "all")[:4]]
    return found


def perturbed(real: list[tuple[str, str, str]], count: int) -> Iterator[dict[str, str]]:
    """The pairs again and again, each time with other words exchanged, so that few are exact copies."""
    rng = random.Random(0)
    for number in range(count):
        prompt, chosen, rejected = real[number % len(real)]
        words = [w for w in (prompt.split(" "), chosen.split(" "), rejected.split(" "))]
        for side in words if number >= len(real) else []:
            for _ in range(1 + len(side) // 12):
                side[rng.randrange(len(side))] = f"{rng.choice(words[1])}{rng.randrange(100)}"
        yield dict(zip(("prompt", "chosen", "rejected"), map(" ".join, words), strict=True))


def train_tokenizer(folder: Path, real: list[tuple[str, str, str]]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENIZER_ENTRIES, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator((text for row in real for text in row), trainer)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')


def measure(script: str, work: Path, **values: Any) -> dict[str, Any]:
    result = work / "result.json"
    source = str(Path(__file__).resolve().parents[1] / "src")
    with tempfile.TemporaryDirectory(dir=work) as cache:
        environment = {
            **os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_CACHE": cache, "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        text = (script + REPORT).format(result=str(result), **values)
        done = subprocess.run(
            [sys.executable, "-c", text], env=environment, cwd=work, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(f"a side failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(result.read_text())
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    real = pairs(options.data)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="burnish-audit-") as name:
        work = Path(name)
        train_tokenizer(work, real[:: max(1, len(real) // 5000)])
        for count in (options.pairs // 10, options.pairs):
            data = work / f"pairs{count}.jsonl"
            with data.open("w", encoding="utf-8") as stream:
                stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in perturbed(real, count))
            values = {"core": options.core, "data": str(data), "tokenizer": str(work), "page": str(work / "page.html")}
            for number in range(options.rounds if count == options.pairs else 1):
                for side, script in (("datasets load + map of lengths", MAP), ("burnish audit", AUDIT)):
                    found = measure(script, work, **values)
                    rows.append(
                        {"side": side, "pairs": count, "round": number, "mb": data.stat().st_size / 1e6, **found}
                    )
                    print(f"{side:32} {count:>8,} pairs ({rows[-1]['mb']:.0f} MB): {found['seconds']:.1f} s, "
                          f"{found['peak_mb']:.0f} MB peak", flush=True)  # fmt: skip
    report(rows, options.pairs)
    if options.out:
        values = {"made": time.strftime("%Y-%m-%d"), "machine": machine(), "versions": versions(), "rows": rows}
        options.out.write_text(json.dumps(values, indent=1) + "\n")


def report(rows: list[dict[str, Any]], pairs: int) -> None:
    def best(side: str, field: str, count: int) -> float:
        return min(row[field] for row in rows if row["side"] == side and row["pairs"] == count)

    theirs, ours = (best(side, "seconds", pairs) for side in ("datasets load + map of lengths", "burnish audit"))
    small, large = (best("burnish audit", "peak_mb", count) for count in (pairs // 10, pairs))
    print(f"\ntime: {ours / theirs:.2f} x that of loading and mapping (aim: at most 2)")
    print(f"memory: {(large - small) * 1e6 / (pairs - pairs // 10):.0f} bytes a pair above the first {pairs // 10:,}")


if __name__ == "__main__":
    main()
