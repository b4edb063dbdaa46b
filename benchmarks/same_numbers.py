"""The numbers of a set of training runs, to the bit: written before a change, and checked after it.

    python benchmarks/same_numbers.py write FILE.json
    python benchmarks/same_numbers.py check FILE.json [--only NAME,NAME] [--keep FOLDER]

Each run goes through the command line (`burnish train`) on a model of two layers and on data, both made here from fixed
seeds. FILE.json holds the numbers of every run's log and answers (but those of clocks and memory) and a digest of every
tensor of its model. `check` prints a line for each run and exits with 1 where one differs; names that are gone or new
stand apart from numbers that changed. Nothing of burnish is imported, so its modules may move. Compare on one machine
with one set of libraries: other processors and other versions of torch round differently.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import random
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
SOURCE = Path(__file__).resolve().parents[1] / "src"
if (SOURCE / "burnish").is_dir():
    sys.path.insert(0, str(SOURCE))  # the tree that this file belongs to, whatever is installed

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from torch.optim.optimizer import register_optimizer_step_post_hook  # noqa: E402

Table = dict[str, list[Any]]  # field: its values, record by record; None where a record lacks it
Numbers = dict[str, Table]  # kind of record, or file of the model: its table

SHOWN = 5  # differing fields of a run that are spelt out
CLOCKS = re.compile(r"(^|[/_.])(time|seconds|per_second|memory|bytes)([/_.]|$)")
TEXTS = ("group", "alarm", "name", "id")  # fields whose texts say what a record is about
NOT_FINITE = ("nan", "inf", "-inf")  # numbers that the log writes as texts
SPECIAL = ["<pad>", "<eos>", "<unk>", "<|im_start|>", "<|im_end|>"]
LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "numpy")
MADE_WITH = {"python": sys.version.split()[0], "machine": os.uname().machine, **{x: version(x) for x in LIBRARIES}}
JUDGES = """
digits = lambda prompt, answer, meta: sum(map(str.isdigit, answer)) / max(1, len(answer)) + 0.01 * (len(answer) % 7)
vowels = lambda prompt, answer, meta: 0.25 + 0.75 * sum(x in "aeiou" for x in answer) / max(1, len(answer))
"""  # a module of functions that judge an answer

COMMON = "model.path=models/policy model.dtype=float32 optim.lr=1e-3 optim.steps=5 optim.groups_per_step=4 seed=3"
PAIRS, HELD_OUT = "data.train=data/pairs.jsonl", "data.eval=data/held_out.jsonl eval.every=2"
RANKED, LABELS = "data.train=data/ranked.jsonl pairs.rule=all", "data.train=data/labels.jsonl"
FRESH = "source.prompts=data/prompts.jsonl source.refresh_every=1 source.k=4 source.max_new_tokens=10"
JUDGED = f"{FRESH} judge.kind=verifier judge.name=written_judges:digits"
GOLD = "gold.kind=verifier gold.name=written_judges:vowels"
TWO_JUDGES = """
judge = [{kind = "verifier", name = "written_judges:digits", weight = 0.75},
         {kind = "verifier", name = "length", target = 6, unit = "characters", weight = 0.5}]"""


def mixture(names: str) -> str:
    """The TOML text of several objectives, each with a weight of its own."""
    return "".join(f'\n[[objective]]\nname = "{one}"\nweight = {1 / (2 + i)}' for i, one in enumerate(names.split()))


CASES = {  # name: settings (of those given twice the later counts), and on further lines the text of a TOML file
    "dpo": f"{PAIRS} {HELD_OUT} objective.name=dpo",
    "kto": f"{LABELS} data.eval_fraction=0.3 objective.name=kto objective.desirable=1.5",
    "simpo": f"{PAIRS} {HELD_OUT} objective.name=simpo optim.weight_decay=0.1",
    "mixture": f"{PAIRS} {HELD_OUT}" + mixture("dpo sft bco_pair"),
    "pairwise": f"{PAIRS} engine.token_budget=150" + mixture(
        "dpo_norm robust_dpo hinge r_dpo ld_dpo dpop exo_pair discopop chi_po f_dpo nca_pair apo_zero apo_down "
        "sampo wpo aot_paired bco_pair_batch_shift rpo"),
    "listwise": RANKED + mixture("pl_dpo multi_pair_dpo s_dpo info_nca nca exo"),
    "unpaired": LABELS + mixture("kto bco apo_zero_unpaired"),
    "likelihoods": f"{RANKED} pairs.rule=best_vs_worst" + mixture("orpo cpo slic_hf"),
    "chat": "data.train=data/chats.jsonl data.template=chatml objective.name=dpo",
    "lora": f"{PAIRS} objective.name=dpo adapter.kind=lora adapter.rank=4 adapter.dropout=0.1",
    "padded": f"{PAIRS} objective.name=dpo engine.layout=padded",
    "bfloat16": f"{PAIRS} {HELD_OUT} objective.name=dpo model.dtype=bfloat16",
    "bfloat16_lora": f"{PAIRS} objective.name=dpo model.dtype=bfloat16 adapter.kind=lora adapter.rank=4",
    "microbatches": f"{RANKED} objective.name=dpo engine.token_budget=60 engine.gradient_checkpointing=true",
    "tdpo": f"{PAIRS} objective.name=tdpo2",
    "live": f"{PAIRS} objective.name=dpo reference.scores=live reference.kind=path reference.path=models/other",
    "ema": f"{PAIRS} objective.name=sppo reference.update=ema reference.alpha=0.2",
    "soft": f"{PAIRS} objective.name=ipo reference.update=soft reference.every=2 optim.schedule=cosine",
    "beta_dpo": f"{PAIRS} {HELD_OUT} objective.name=beta_dpo",
    "alpha_dpo": f"{PAIRS} objective.name=alpha_dpo engine.token_budget=60",
    "reward": f"{PAIRS} {HELD_OUT} objective.name=bradley_terry objective.center=0.01",
    "reward_ensemble": f"{RANKED} objective.name=plackett_luce reward.members=2 reward.train=head",
    "rloo": f"{JUDGED} objective.name=rloo source.unfinished_penalty=0.1",
    "ppo": f"{JUDGED} objective.name=ppo objective.kl_in_reward=0.1 source.refresh_every=2 source.epochs=2",
    "grpo": f"{JUDGED} objective.name=grpo source.replay=3 source.replay_share=0.5 optim.steps=6",
    "dapo": f"{JUDGED} objective.name=dapo source.temperature=0.8 engine.token_budget=100",
    "two_judges": f"{FRESH} source.refresh_every=3 source.epochs=3" + TWO_JUDGES + mixture("dr_grpo kl_loss"),
    "gold": f"{JUDGED} objective.name=reinforce {GOLD} stop.when=gold stop.window=1",
    "adaptive": f"{JUDGED} objective.name=gspo source.curriculum=adaptive judge.name=written_judges:vowels",
    "online_dpo": f"{FRESH} objective.name=online_dpo judge.kind=reward_model judge.path=models/judge",
    "mixed": f"{JUDGED} {PAIRS} objective.name=dpo source.fresh=0.5",
    "once": f"{JUDGED} objective.name=dpo source.refresh_every=never",
    "watched": f"{PAIRS} source.prompts=data/prompts.jsonl source.max_new_tokens=8 eval.every=2 eval.prompts=6 {GOLD}",
    "two_processes": f"{PAIRS} {HELD_OUT} objective.name=beta_dpo engine.token_budget=120",
    "resumed": f"{PAIRS} objective.name=beta_dpo reference.update=ema reference.alpha=0.2",
    "resumed_broken": f"{PAIRS} objective.name=dpo save.every=2",
    "resumed_fresh": f"{JUDGED} objective.name=grpo source.replay=3 save.every=2 optim.steps=6",
}  # fmt: skip
PROCESSES = {"two_processes": 2}
STOPS = {"resumed": 1, "resumed_broken": 2, "resumed_fresh": 1}  # SIGTERMs in step 4; a second one breaks it off


def make_data() -> None:
    """Sums with answers of all lengths: pairs, held-out pairs, ranked groups, labelled answers, chats and prompts."""
    draw = random.Random(0)
    sums = [(draw.randrange(10), draw.randrange(10)) for _ in range(18)]
    ask = [f"What is {a}+{b}? " for a, b in sums]
    good = [f"It is {a + b}" + " indeed" * draw.randrange(3) for a, b in sums]
    bad = [f"I say {draw.randrange(20)}" + " or so" * draw.randrange(4) for _ in sums]
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for i in range(len(sums)):
        pair = {"chosen": good[i], "rejected": bad[i]}
        rows["pairs" if i < 12 else "held_out"].append({"prompt": ask[i], **pair})
        rows["prompts"].append({"prompt": ask[i]})
        rows["labels"].append({"prompt": ask[i], "completion": (good if i % 3 else bad)[i], "label": i % 3 > 0})
        answers = [good[i], bad[i], f"{bad[i]} {i}", "no"][: 2 + i % 3]
        scored = [{"text": text, "score": 3.0 - k + 0.25 * draw.random()} for k, text in enumerate(answers)]
        rows["ranked"].append({"prompt": ask[i], "completions": scored})
        turns = [{"role": "system", "content": "Add what is asked. "}, {"role": "user", "content": ask[i]}]
        rows["chats"].append({"prompt": turns, **pair})
    for name, listed in rows.items():
        lines = [json.dumps({"id": f"{name}-{i}", **row}) + "\n" for i, row in enumerate(listed)]
        Path("data", f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def make_inputs() -> Numbers:
    """Write the data, the judges, two policies, a reward model and their tokenizer; returns digests of these."""
    Path("data").mkdir()
    make_data()
    Path("written_judges.py").write_text(JUDGES, encoding="utf-8")
    texts = [file.read_text(encoding="utf-8") for file in sorted(Path("data").iterdir())]
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    raw.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=72, special_tokens=SPECIAL, show_progress=False))
    names: Any = dict(zip(("pad_token", "eos_token", "unk_token"), SPECIAL, strict=False))
    tokenizer: Any = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **names)  # type: ignore[no-untyped-call]
    shape: Any = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2, "num_labels": 1}
    config = transformers.LlamaConfig(**shape, pad_token_id=0, eos_token_id=1, bos_token_id=None)
    kinds = {"policy": "LlamaForCausalLM", "other": "LlamaForCausalLM", "judge": "LlamaForSequenceClassification"}
    for seed, (name, kind) in enumerate(kinds.items()):
        torch.manual_seed(seed)
        getattr(transformers, kind)(config).save_pretrained(f"models/{name}")
        tokenizer.save_pretrained(f"models/{name}")
    files = [*sorted(Path("data").iterdir()), Path("models/policy/tokenizer.json")]
    made = {str(file): {"digest": [hashlib.sha256(file.read_bytes()).hexdigest()]} for file in files}
    return made | {str(file): digests(file) for file in sorted(Path("models").rglob("*.safetensors"))}


def numbers_of(name: str) -> Numbers | str:
    """The numbers of one run, which is made here; or, where it fails, how, with the last line that it printed."""
    Path(name).mkdir()
    said, (settings, _, toml) = Path(name, "said.txt"), CASES[name].partition("\n")
    Path(name, "given.toml").write_text(toml, encoding="utf-8")
    given = {word.partition("=")[0]: word for word in f"{COMMON} {settings} run.dir={name}/run".split()}
    words = ["train", f"{name}/given.toml", *given.values()]
    with said.open("w", encoding="utf-8") as stream, redirect_stdout(stream), redirect_stderr(stream):
        if name in PROCESSES:
            launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES[name]}", "-m", "burnish"]
            env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            command = [sys.executable, "-m", *launch, *words]
            code = subprocess.run(command, env=env, stdout=stream, stderr=stream, timeout=300, check=False).returncode
        else:
            stopped = name in STOPS and in_this_process(words, STOPS[name])
            words += ["run.resume=true"] if name in STOPS else []
            code = in_this_process(words) if stopped >= 0 else -1
    if code != 0:
        lines = [line for line in said.read_text(encoding="utf-8").splitlines() if line.startswith("burnish: ")]
        return f"failed with exit code {code}: {(lines or ['burnish: not a word'])[-1]}"
    return collected(Path(name, "run"))


def in_this_process(words: list[str], signals: int = 0) -> int:
    """Run the command line here, with so many SIGTERMs in step 4; its exit code, -1 for an exception."""
    steps: list[Any] = []

    def after_update(*_: Any) -> None:
        steps.append(None)
        if signals and len(steps) == 4:
            time.sleep(1.5)  # for the last checkpoint, which a thread writes
            for _signal in range(signals):
                os.kill(os.getpid(), signal.SIGTERM)

    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    sys.argv, hook = ["burnish", *words], register_optimizer_step_post_hook(after_update)
    try:
        runpy.run_module("burnish", run_name="__main__")
        return 0
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except (Exception, KeyboardInterrupt) as error:
        print(f"burnish: {type(error).__name__}: {error}")
        return -1
    finally:
        hook.remove()


def collected(folder: Path) -> Numbers:
    """All numbers of a run's folder; of an ensemble's, those of its members' folders inside it."""
    found: Numbers = {}
    for file in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl", ".safetensors")):
        name = str(file.relative_to(folder))
        if file.suffix == ".jsonl":
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            for kind in dict.fromkeys(row.get("record") for row in rows):
                chosen = [row for row in rows if row.get("record") == kind]
                found[name.replace("log.jsonl", kind or "")] = table(chosen, texts=kind is None)
        elif file.parent.name == "model" and file.suffix == ".safetensors":
            found[name] = digests(file)
        elif file.parent.name == "model" and not re.search("config|token", file.name):
            found[name] = table([json.loads(file.read_text(encoding="utf-8"))])
    return {kind: columns for kind, columns in found.items() if columns}


def table(records: list[dict[str, Any]], *, texts: bool = False) -> Table:
    """The records' fields as columns of equal length."""
    rows = [dict(flat(record, texts=texts)) for record in records]
    return {field: [row.get(field) for row in rows] for field in dict.fromkeys(field for row in rows for field in row)}


def flat(value: Any, name: str = "", *, texts: bool = False) -> Iterator[tuple[str, Any]]:
    """(dotted name, number) of everything inside a record but what clocks say; texts too where they are wanted."""
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(inner, f"{name}.{key}" if name else str(key), texts=texts)
    elif isinstance(value, str) and not (texts or name in TEXTS or value in NOT_FINITE):
        return
    elif value is not None and not CLOCKS.search(name):
        yield name, value


def digests(file: Path) -> Table:
    """The digest of each tensor of a file: of its type, its shape and its bytes."""
    found = {}
    for name, tensor in sorted(load_file(file).items()):
        content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        found[name] = [hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)} ".encode() + content).hexdigest()]
    return found


def compared(old: Numbers, new: Numbers) -> str:
    """What differs between two runs, in a line; "same" where nothing does."""
    pairs, changed = paired(old, new), list[str]()
    renamed = [f"{kind} -> {other}" for kind, other in pairs.items() if kind != other]
    gone = [f"{kind} (all of it)" for kind in old if kind not in pairs]
    fresh = [f"{kind} (all of it)" for kind in new if kind not in pairs.values()]
    for kind, other in pairs.items():
        left, right = old[kind], new[other]
        changed += filter(None, (difference(kind, field, left, right) for field in left if field in right))
        found = {field: json.dumps(values) for field, values in right.items() if field not in left}
        for field in (field for field in left if field not in right):
            twin = next((f for f, values in found.items() if values == json.dumps(left[field])), "")
            gone.append(f"{kind} {field}" + f" (the new {twin} has its numbers)" * bool(twin))
        fresh += [f"{other} {field}" for field in found]
    changed.sort(key=lambda told: not told.startswith("step "))  # the rest follows from the steps
    lists = {"records renamed": renamed, "fields gone": gone, "fields new": fresh}
    parts = [f"{title}: {', '.join(names)}" for title, names in lists.items() if names]
    if changed:
        more = [f"and {len(changed) - SHOWN} more"] if len(changed) > SHOWN else []
        return " | ".join([f"{len(changed)} fields differ: {'; '.join(changed[:SHOWN] + more)}", *parts])
    return " | ".join(["same but for names", *parts]) if parts else "same"


def paired(old: Numbers, new: Numbers) -> dict[str, str]:
    """Each old kind of record with the new kind that it is: the one of its name, else one that shares its fields."""
    found = {kind: kind for kind in old if kind in new}
    for kind in (kind for kind in old if kind not in new):
        free = [other for other in new if other not in old and other not in found.values()]
        best = max(free, key=lambda other: len(old[kind].keys() & new[other].keys()), default="")
        if best and 2 * len(old[kind].keys() & new[best].keys()) > len(old[kind]):
            found[kind] = best
    return found


def difference(kind: str, field: str, left: Table, right: Table) -> str:
    """How a field differs: the first record in which it does, and in how many more; empty where no bit does."""
    before, after = [json.dumps(value) for value in left[field]], [json.dumps(value) for value in right[field]]
    if len(before) != len(after):
        return f"{kind} {field}: {len(before)} records -> {len(after)}"
    places = [i for i, value in enumerate(before) if value != after[i]]
    if not places:
        return ""
    step = f"step {left['step'][places[0]]} " if "step" in left else ""
    was, now = (text if len(text) < 30 else f"{text[:12]}..." for text in (before[places[0]], after[places[0]]))
    more = f" (and in {len(places) - 1} more)" if len(places) > 1 else ""
    return f"{f'{kind} ' if kind != 'step' else ''}{step}{field} {was} -> {now}{more}"


def each(file: Path, names: list[str], *, write: bool) -> int:
    """Run everything and record it, or compare it with the file; returns 1 where a run fails, differs, or is new."""
    known: Any = {"made with": MADE_WITH, "runs": {}} if write else json.loads(file.read_text(encoding="utf-8"))
    if known["made with"] != MADE_WITH:
        print(f"note: recorded with {known['made with']}, and this is {MADE_WITH}")
    wrong, runs = 0, known["runs"]
    for name in ["inputs", *names]:
        found = make_inputs() if name == "inputs" else numbers_of(name)
        before = runs.setdefault(name, found) if write else runs.get(name)
        told = found if isinstance(found, str) else compared(before, found) if before else "not in the file"
        wrong += told != "same"
        print(f"{name}: {'recorded' if write and told == 'same' else told}", flush=True)
    if write and not wrong:
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in runs.items())
        file.write_text(f'{{"made with": {json.dumps(MADE_WITH)},\n"runs": {{\n{lines}\n}}}}\n', encoding="utf-8")
    print(f"{wrong} of {len(names) + 1} failed or differ" if wrong else "all recorded" if write else "all the same")
    return int(wrong > 0)


def main() -> int:
    """Read the command line, run everything in a working folder, and return the exit code."""
    parser = argparse.ArgumentParser(description="Record the numbers of training runs, or compare them to the bit.")
    parser.add_argument("verb", choices=("write", "check"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default=",".join(CASES), help="runs, separated by commas; unset: %(default)s")
    parser.add_argument("--keep", type=Path, help="a new folder for the runs, which is left there")
    given = parser.parse_args()
    names = given.only.split(",")
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"there is no run {', '.join(unknown)}")
    print(f"burnish: {getattr(importlib.util.find_spec('burnish'), 'origin', 'not installed')}", file=sys.stderr)
    file, keep = given.file.resolve(), given.keep and given.keep.resolve()
    if keep:
        keep.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as passing, chdir(keep or passing):  # no number can depend on where it lies
        return each(file, names, write=given.verb == "write")


if __name__ == "__main__":
    sys.exit(main())
