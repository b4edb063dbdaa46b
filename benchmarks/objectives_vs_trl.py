"""burnish's objectives against TRL's trainers: the same batch, model and settings, loss and gradient side by side.

    python benchmarks/objectives_vs_trl.py --out benchmarks/results/objectives_vs_trl.json

Sixteen random pairs of unequal lengths go through TRL's own trainer, collator and `compute_loss`, and through burnish's
loop (`train.gradients`) with its own packing, engine and objective. Where TRL departs from the paper both are shown:
burnish's default, which is to differ, and the setting that reproduces TRL, which is to be equal. Then some steps are
cut into micro-batches, and each trainer is compared with its own whole step. Exits with 1 where a row is not as
expected.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import Shape, machine, versions, worker_environment

SHAPE = Shape(hidden=48, layers=2, mlp=64, heads=4, kv_heads=2, vocabulary=97)
PAIRS = 16
LONGEST_PROMPT, LONGEST_ANSWER = 24, 20  # tokens; the first pair has both, so no mismatched answer is cut
SPREAD, SHIFT = 0.2, 0.03  # of the policy's weights, and of the noise that makes the reference: log-ratios of some nats
TEMPERATURE = 0.5  # of the policy's own writing: likelier than a plain sample, so that the weights of WPO pass 1
EQUAL = 1e-4  # share of the loss and of the gradient's largest entry: twenty log-probs summed in float32 are off by
# 1e-5 nats from one order to the other, and an exponential of the sum makes that its share


@dataclass(frozen=True)
class Data:
    """The pairs, and the single answers that are taken from them, as groups in token space."""

    pairs: list[Any]
    singles: list[Any]


def make_data(seed: int, policy: Path) -> Data:
    import torch
    from random_data import END, random_ids
    from transformers import AutoModelForCausalLM

    from burnish.group import EncodedGroup, Labels, Preferences

    draw = random.Random(seed)
    torch.manual_seed(seed)
    writer = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32).eval()
    pairs, singles = [], []
    for number in range(PAIRS):
        first = number == 0
        prompt = random_ids(draw, LONGEST_PROMPT if first else draw.randint(3, LONGEST_PROMPT), SHAPE.vocabulary)
        sizes = [LONGEST_ANSWER if first and side == 0 else draw.randint(1, LONGEST_ANSWER) for side in (0, 1)]
        own = number % 3 == 1  # written by the policy; the others are random tokens
        written = [write(writer, prompt, n) if own else random_ids(draw, n, SHAPE.vocabulary) for n in sizes]
        answers = tuple((*ids, END) for ids in written)
        pairs.append(EncodedGroup(str(number), tuple(prompt), answers, (True, True), Preferences(((0, 1, 1.0),))))
        good = number % 3 != 2
        single = (answers[0 if good else 1],)
        singles.append(EncodedGroup(str(number), tuple(prompt), single, (True,), Labels((good,))))
    return Data(pairs, singles)


def write(model: Any, prompt: Sequence[int], count: int) -> list[int]:
    """So many tokens sampled from the model, none of them a control token."""
    import torch
    from random_data import END, PAD

    ids = model.generate(
        torch.tensor([prompt]),
        do_sample=True,
        temperature=TEMPERATURE,
        top_k=0,
        min_new_tokens=count,
        max_new_tokens=count,
        suppress_tokens=[END, PAD],
    )
    found: list[int] = ids[0, len(prompt) :].tolist()
    return found


class Burnish:
    """Policy and reference in burnish's engine, and a step of its loop for any mixture of objectives."""

    def __init__(self, policy: Path, reference: Path) -> None:
        from burnish import config
        from burnish.engine import model
        from burnish.engine.loading import make_engine
        from burnish.engine.masters import Masters
        from burnish.engine.reference import Live

        self.run = config.load(
            None,
            [
                f"model.path={policy}", "model.dtype=float32", "data.train=none", "reference.kind=path",
                f"reference.path={reference}", "reference.scores=live", "log.completions=false",
            ],
        )  # fmt: skip
        loaded = model.load_policy(self.run.model)
        self.engine, self.layout = make_engine(loaded, self.run)
        self.masters = Masters(loaded.trainable(), loaded.dtype)
        other = model.load_policy(self.run.model.model_copy(update={"path": str(reference)}))
        self.reference = Live.of(make_engine(other, self.run)[0], self.run.reference)

    def trainer(self, objectives: Mapping[str, Mapping[str, Any]], groups: list[Any]) -> Any:
        """What burnish's loop works on, without a log, an optimiser or a second step."""
        from burnish.loop.build import Trainer
        from burnish.loop.prepare import Prepared
        from burnish.objectives import find
        from burnish.objectives.mixture import Mixture, WeightedObjective

        rows = [(find(name), params) for name, params in objectives.items()]
        mixture = Mixture(tuple(WeightedObjective(row, row.validate(params)) for row, params in rows))
        none: Any = None  # what `gradients` does not touch
        return Trainer(
            Prepared(self.run, None, groups, [], mixture, frozenset()), self.engine, self.masters, none,
            self.reference, none, none, none, none, none, none, none, 1, running=mixture.start(),
        )  # fmt: skip

    def loss_of(
        self, objectives: Mapping[str, Mapping[str, Any]], groups: Sequence[Any], *, budget: int = 1 << 20
    ) -> Any:
        """Loss of one step over these groups, and its gradient; `budget`: tokens in a microbatch."""
        from trl_losses import Found, gradient_of

        from burnish.loop import train

        self.engine.token_budget = budget
        module = self.engine.policy.module.train()
        module.zero_grad(set_to_none=True)
        loss = train.gradients(self.trainer(objectives, list(groups)), groups, 0).loss
        return Found(loss, gradient_of(module))


def compare(case: Any, ours: Burnish, data: Data, policy: Path, reference: Path) -> list[dict[str, Any]]:
    """A record for each of the case's rows."""
    import trl_losses

    groups = data.singles if case.trainer == "kto" else data.pairs
    theirs = trl_losses.loss_of(case.trainer, case.settings, groups, policy, reference)
    if case.minus:
        theirs = theirs - trl_losses.loss_of(case.trainer, case.minus, groups, policy, reference)
    records = []
    for row in case.rows:
        found = ours.loss_of(row.objectives, groups[::-1] if row.reverse else groups)
        difference, off = abs(found.loss - theirs.loss), theirs.off_by(found)
        equal = difference <= EQUAL * max(1.0, abs(theirs.loss)) and off <= EQUAL
        records.append(
            {
                "trl": case.title,
                "trl_settings": dict(case.settings),
                "burnish": row.label,
                "trl_loss": theirs.loss,
                "burnish_loss": found.loss,
                "difference": difference,
                "gradient_off_by": off,
                "equal": equal,
                "as_expected": equal == row.equal,
                "remark": row.remark,
            }
        )
    return records


def split(case: Any, ours: Burnish, data: Data, policy: Path, reference: Path) -> dict[str, Any]:
    """The same step in micro-batches, two of TRL's and one of burnish's for each group; each against its whole."""
    import trl_losses

    groups = data.singles if case.trainer == "kto" else data.pairs
    whole, halves = (
        trl_losses.loss_of(case.trainer, case.settings, groups, policy, reference, micro_batches=n) for n in (1, 2)
    )
    row = next(row for row in case.rows if row.equal)
    one, many = (ours.loss_of(row.objectives, groups, budget=budget) for budget in (1 << 20, 1))
    return {
        "trl": case.title,
        "burnish": row.label,
        "trl_loss_moves": abs(halves.loss - whole.loss),
        "trl_gradient_off_by": whole.off_by(halves),
        "burnish_loss_moves": abs(many.loss - one.loss),
        "burnish_gradient_off_by": one.off_by(many),
    }


def show(records: Sequence[Mapping[str, Any]], cuts: Sequence[Mapping[str, Any]]) -> None:
    print(f"\n{'TRL':44} {'burnish':62} {'TRL':>10} {'burnish':>10} {'differ':>8} {'gradient':>8}")
    before = ""
    for r in records:
        title, before = ("" if r["trl"] == before else r["trl"]), r["trl"]
        numbers = f"{r['trl_loss']:10.5f} {r['burnish_loss']:10.5f} {r['difference']:8.1e} {r['gradient_off_by']:8.1e}"
        mark = "" if r["as_expected"] else "   UNEXPECTED"
        print(f"{title:44.44} {r['burnish']:62.62} {numbers}{mark}")
        if r["remark"]:
            print(f"{'':44}   {r['remark']}")
    print("\nthe same step cut into micro-batches: how far loss and gradient move (TRL in two, burnish in sixteen)")
    for c in cuts:
        theirs = f"TRL {c['trl_loss_moves']:.1e}, {c['trl_gradient_off_by']:.1e}"
        figures = f"{theirs:24} burnish {c['burnish_loss_moves']:.1e}, {c['burnish_gradient_off_by']:.1e}"
        print(f"  {c['trl']:20} {figures}   {c['reason']}")


def quiet() -> None:
    """TRL and transformers talk about deprecations and about each data set they map."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("trl", "transformers", "datasets", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import datasets

    datasets.disable_progress_bars()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the random pairs")
    parser.add_argument("--out", type=Path, help="write all figures there as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="burnish_bench_") as folder:
        os.environ.update(worker_environment(Path(folder)))  # before any of the libraries is imported
        import torch
        from random_data import make_model
        from trl_cases import CASES, SPLIT

        torch.set_num_threads(1)
        quiet()
        policy, reference = (
            make_model(SHAPE, Path(folder) / name, tied=False, spread=SPREAD, shift=shift)
            for name, shift in (("policy", 0.0), ("reference", SHIFT))
        )
        data = make_data(options.seed, policy)
        ours = Burnish(policy, reference)
        where = data, policy, reference
        records = [record for case in CASES for record in compare(case, ours, *where)]
        cuts = [split(case, ours, *where) | {"reason": SPLIT[case.title]} for case in CASES if case.title in SPLIT]
    show(records, cuts)
    wrong = [r for r in records if not r["as_expected"]]
    wrong += [c for c in cuts if c["burnish_gradient_off_by"] > EQUAL]
    worst = max(r["gradient_off_by"] for r in records if r["equal"])
    print(f"\n{sum(r['equal'] for r in records)} rows equal (gradients to {worst:.1e} of the largest entry or better), "
          f"{sum(not r['equal'] for r in records)} differ, {len(wrong)} not as expected")  # fmt: skip
    if options.out is not None:
        lengths = [[len(g.prompt_ids), *map(len, g.completion_ids)] for g in data.pairs]
        values = {"made": time.strftime("%Y-%m-%d"), "machine": machine(), "versions": versions(),
                  "layout": ours.layout, "prompt_chosen_rejected_tokens": lengths, "equal_within": EQUAL,
                  "rows": records, "micro_batches": cuts}  # fmt: skip
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
