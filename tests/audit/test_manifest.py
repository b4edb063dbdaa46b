"""Real files are read row for row, and the length figures that their manifest states are found again.

The manifest's rule: a byte-level BPE of 16,384 entries trained on the texts; pairs of equal length are left out of P.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from burnish.audit import Auditor
from burnish.data.readers import read
from burnish.data.render import Renderer
from burnish.data.tokenizers import load_light

VOTES_ALONE = {"human/mtbench_gpt4_verdicts.jsonl", "human/mtbench_human_votes.jsonl"}
NO_PREFERENCES = (
    "human/mtbench_questions", "judged/vicuna_bench_reviews", "verifiable/humaneval", "verifiable/ifeval_gpt4_oracle",
    "sft/tiny_shakespeare", "nasty",
)  # fmt: skip
# file -> (the manifest's name of it, whether our reading leaves rows out that the manifest counts: empty answers)
BIAS = {
    "hh/harmless_base_pairs": ("HH harmless, human", False),
    "nc/alpaca_eval_pairs": ("alpaca_eval pairs, GPT-4 judges", False),
    "judged/vicuna_bench_ranked": ("vicuna-bench, GPT-4 marks", False),
    "human/tulu1_pairs": ("Tulu-1, human", False),
    "human/pandalm_pairs": ("PandaLM, human majority", True),
    "human/oasst_ranked": ("OASST ranks, human", False),
    "chat_pairs/dpo_en": ("dpo_en", False),
    "chat_pairs/gsm8k_verified_pairs": ("GSM8K correct vs wrong", False),
}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


@pytest.fixture(scope="module")
def renderer(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    folder = tmp_path_factory.mktemp("bpe")
    files = [f for f in sorted(shared_data.glob("*/*.jsonl")) if f.parent.name != "nasty"]
    lines = (json.loads(line) for file in files for line in file.open(encoding="utf-8"))
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=16384, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator((text for line in lines for text in _texts(line)), trainer)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    return Renderer(load_light(str(folder)), "hh")


def _table(shared_data: Path, columns: int) -> list[list[str]]:
    lines = (shared_data / "MANIFEST.md").read_text(encoding="utf-8").splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in cells if len(row) == columns]


def test_every_preference_file_has_the_rows_of_its_manifest(shared_data: Path) -> None:
    seen = 0
    for name, rows, *_ in _table(shared_data, 4):
        if not name.endswith(".jsonl") or name.startswith(NO_PREFERENCES):
            continue
        found = read(str(shared_data / name), keep_faults=True)
        count = int(rows.replace(",", ""))
        faults = count if name in VOTES_ALONE else 0  # votes without texts are refused, each by name
        assert (len(found.groups) + len(found.skipped), len(found.faults)) == (count - faults, faults), name
        seen += 1
    assert seen >= 20


@pytest.mark.parametrize("file", BIAS)
def test_length_bias_is_the_manifests_within_standard_errors(shared_data: Path, renderer: Renderer, file: str) -> None:
    name, some_left_out = BIAS[file]
    row = next(row for row in _table(shared_data, 7) if row[0] == name)
    share, error = (float(x) for x in re.findall(r"[\d.]+", row[2])[:2])
    mean, median = (float(row[k].replace("+", "").replace("\u2212", "-")) for k in (5, 6))
    look = Auditor(renderer, deep=False)
    look.read(str(shared_data / f"{file}.jsonl"))
    (found, *_) = look.pairs.columns().length_rows()
    allowed = (2 if some_left_out else 1) * max(error, found["error"])
    assert abs(found["p_longer"] - share) <= allowed
    spread = float((look.pairs.columns().winners - look.pairs.columns().losers).std()) / found["pairs"] ** 0.5
    assert abs(found["mean_gap"] - mean) <= (2 if some_left_out else 1) * spread + 1
    assert abs(found["median_gap"] - median) <= max(5 if some_left_out else 3, 0.1 * abs(median))
