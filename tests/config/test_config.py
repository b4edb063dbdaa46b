"""The configuration: values as TOML or bare words, closed keys, defaults that depend on others, advice on the rate."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from burnish import config
from burnish.config.keys import RENAMED
from burnish.errors import ConfigError

KNOWN = ["model.path=m", "data.train=d"]
SPELLINGS = """model.path data.train data.eval objective.name reference.kind adapter.kind optim.lr optim.steps
optim.epochs optim.groups_per_step optim.schedule optim.warmup optim.weight_decay optim.max_grad_norm model.dtype
engine.token_budget save.every run.dir run.resume run.overwrite seed"""


def load(*overrides: str) -> config.Run:
    return config.load(None, [*KNOWN, *overrides])


def test_every_promised_key_is_there_with_its_meaning() -> None:
    rows = {row.name: row for row in config.describe_keys()}
    assert set(SPELLINGS.split()) <= set(rows)
    assert all(row.meaning for row in rows.values())
    assert rows["optim.groups_per_step"].default == "32" and rows["optim.groups_per_step"].unit == "groups"
    assert rows["engine.token_budget"].unit == "tokens | auto" and rows["optim.warmup"].unit == "fraction"


@pytest.mark.parametrize(
    ("text", "read", "value"),
    [
        ("optim.lr=1e-6", lambda r: r.optim.lr, 1e-6),
        ("optim.steps=1_000", lambda r: r.optim.steps, 1000),
        ("optim.schedule=cosine", lambda r: r.optim.schedule, "cosine"),
        ('optim.schedule="cosine"', lambda r: r.optim.schedule, "cosine"),
        ("run.resume=true", lambda r: r.run.resume, True),
        ('data.train=["a", "b"]', lambda r: r.data.train, ["a", "b"]),
        ("data.train=a=b.jsonl", lambda r: r.data.train, "a=b.jsonl"),
        ("run.dir=2026", lambda r: r.run.dir, "2026"),
        ("run.dir=2026-11-23", lambda r: r.run.dir, "2026-11-23"),
        ("run.dir=true", lambda r: r.run.dir, "true"),
        ("run.dir=1\ny = 2", lambda r: r.run.dir, "1\ny = 2"),
        ("objective.beta=0.3", lambda r: r.objective[0].params, {"beta": 0.3}),
        ("objective.normalize=sum", lambda r: r.objective[0].params, {"normalize": "sum"}),
    ],
)  # fmt: skip
def test_values_are_toml_or_bare_words(text: str, read: object, value: object) -> None:
    assert read(load(text)) == value  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.pth=x", "no key 'model.pth'; did you mean 'model.path'"),
        ("modle.path=x", "no key 'modle.path'; did you mean 'model.path'"),
        ("optm.lr=1", "no key 'optm.lr'; did you mean 'optim.lr'"),
        ("lr=1e-6", "no key 'lr'; did you mean 'optim.lr'"),
        ("optim.learning_rate=1e-6", "did you mean 'optim.lr'"),
        ("lora.rank=8", "did you mean 'adapter.rank'"),
        ("sed=1", "did you mean 'seed'"),
        ("beta=0.1", "no key 'beta'.*written like objective.beta"),
        ("dpo.beta=0.1", "no key 'dpo.beta'.*written like objective.beta"),
        ("objective=dpo", "objective is a table.*objective.name="),
        ("optim=3", "optim is a table.*optim.lr="),
        ("seed.x=1", "seed = "),
        ("optim.lr.x=1", "optim.lr = "),
        ("data.train=[a, b]", "quote the words of a list"),
        ("optim.lr=0", "greater than 0"),
        ("optim.lr=3", "less than or equal to 1"),
        ("optim.lr=nan", "finite"),
        ("optim.lr=true", "optim.lr = True: true and false are no values for this key"),
        ("optim.steps=true", "no values for this key"),
        ("optim.steps=1.5", "optim.steps = 1.5"),
        ("optim.epochs=inf", "finite"),
        ("seed=99999999999999999999", "seed = "),
        ("data.overlong=crop", "'drop', 'cut_prompt_left' or 'cut_completion'"),
        ("run.toml", "not key=value.*a TOML file comes first"),
    ],
)  # fmt: skip
def test_refusals_are_sentences(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(text)


ASKED = ["source.refresh_every=1", "judge.kind=llm"]
JUDGED = ["source.refresh_every=1", "judge.kind=verifier", "judge.name=gsm8k"]
SERVER = ["source.sampler=server", "source.url=http://127.0.0.1:1"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["run.resume=true", "run.overwrite=true"], "contradict each other"),
        (["optim.steps=3", "optim.epochs=1"], "keep one"),
        (["reference.kind=path"], "needs reference.path"),
        (["reference.path=m"], "would be ignored"),
        (["reference.alpha=0.5"], "ignores it"),
        (["reference.update=ema", "reference.kind=none"], "none to move"),
        (["reference.update=ema", "reference.store=s"], "one that stands still"),
        (["reference.update=ema", "adapter.kind=lora"], "would move the policy"),
        (["adapter.kind=lora", "adapter.dora=true"], "in bfloat16 that alone moves the policy"),
        (["adapter.kind=lora", "reward.train=head"], "nothing to adapt"),
        (["data.weights=[1.0, 2.0]"], "2 numbers for 1 sources"),
        (['data.train=["d", "d"]', "data.weights=[1.0, 2.0]"], "names a source twice"),
        (["data.eval_fraction=0.5", "data.eval=x"], "both set"),
        (["source.k=2"], "source.k is about fresh answers"),
        (["stop.when=gold"], "offline there is no judge"),
        (["stop.when=kl"], "listens to fresh answers"),
        (["source.refresh_every=1"], "nobody judges them"),
        ([*JUDGED, "reference.scores=stored"], "is of a fixed data set"),
        (["judge.kind=verifier", "judge.name=gsm8k", "source.fresh=0.5"], "must be a number of steps"),
        ([*JUDGED, "source.fresh=0.5", "optim.groups_per_step=1"], "has room for one"),
        (["source.refresh_every=1", "judge.kind=reward_model", "source.curriculum=adaptive"], "only verifiers do that"),
        (["source.refresh_every=1", "judge.kind=llm", "source.k=1"], "use 'pointwise'"),
        ([*ASKED, "judge.max_tokens=9", "judge.max_completion_tokens=9"], "one limit under two names"),
        ([*ASKED, "judge.request={temperature = 1}"], r"judge\.request\.temperature: burnish sets this field itself"),
        ([*ASKED, "judge.request.stream=true"], r"judge\.request\.stream: .*reading whole replies"),
        ([*ASKED, "judge.request={since = 2020-01-01}"], r"judge\.request holds what JSON cannot"),
        ([*ASKED, "judge.request={top_p = nan}"], r"judge\.request holds what JSON cannot"),
        ([*ASKED, "judge.temperature=-1"], r"judge.*temperature.* = -1: input should be greater than or equal to 0"),
        (["gold.kind=llm", "gold.request={n = 2}"], r"gold\.request\.n: "),
        ([*JUDGED, "source.epochs=2"], "leaves fewer until the next refresh"),
        ([*JUDGED, "source.url=http://127.0.0.1:1"], "asks no server"),
        ([*JUDGED, "source.sampler=server"], "needs source.url"),
        ([*JUDGED, *SERVER, "source.update=lora"], "trains none"),
        ([*JUDGED, *SERVER, "adapter.kind=lora"], "use 'lora'"),
        (["gold.kind=verifier", "gold.name=gsm8k", *SERVER, "source.update=lora"], "trains none"),
        (["adapter.kind=qlora"], "bitsandbytes package, which is not installed"),
    ],
)  # fmt: skip
def test_combinations_that_cannot_be_meant(monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=message):
        load(*overrides)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_former_spellings_are_refused_with_the_new_one(old: str, new: str) -> None:
    with pytest.raises(ConfigError, match=f"no key '{old}'; did you mean '{new}'"):
        load(f"{old}=x")
    assert new in {row.name for row in config.describe_keys()}


@pytest.mark.parametrize("missing", ["model.path", "data.train"])
def test_what_must_be_named(missing: str) -> None:
    with pytest.raises(ConfigError, match=f"{missing} is missing"):
        config.load(None, [text for text in KNOWN if not text.startswith(missing)])


def test_what_depends_on_other_keys_is_resolved() -> None:
    assert (load().optim.lr, load("adapter.kind=lora").optim.lr) == (5e-7, 5e-6)
    assert load("adapter.kind=lora", "optim.lr=1e-4").optim.peak_lr == 1e-4
    assert (load().optim.epochs, load("optim.steps=7").optim.epochs) == (1.0, None)
    assert Path(load("run.dir=runs/first").reference.store) == Path("runs/reference-store")
    assert load("run.dir=runs/first").reference.store == load("run.dir=runs/second").reference.store  # a sweep shares


def test_the_tree_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().optim.lr = 1.0  # type: ignore[misc]


def test_words_after_the_file_override_it(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('seed = 3\n[model]\npath = "m"\n[data]\ntrain = "d"\n[objective]\nname = "ipo"\ntau = 0.2\n')
    run = config.load(str(file), ["objective.tau=0.5", "seed=4"])
    assert (run.seed, run.objective[0].name, run.objective[0].params) == (4, "ipo", {"tau": 0.5})
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(str(tmp_path / "none.toml"))
    for wrong in (b"= 3", b"\xff"):
        file.write_bytes(wrong)
        with pytest.raises(ConfigError, match="is not TOML"):
            config.load(str(file))


@given(st.floats(1e-9, 1.0), st.integers(1, 10**6), st.text(min_size=1), st.floats(1e-3, 10.0))
def test_written_and_read_back_it_is_equal(lr: float, steps: int, words: str, beta: float) -> None:
    given_run = load(f"optim.lr={lr!r}", f"optim.steps={steps}", f"objective.beta={beta!r}")
    run = given_run.model_copy(update={"model": given_run.model.model_copy(update={"path": words})})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.toml"
        file.write_text(config.to_toml(run), encoding="utf-8")
        assert config.load(str(file)) == run
