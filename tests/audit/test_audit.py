"""The audit's figures are what their formulas say, and what is wrong with a file is found, counted and placed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from burnish.audit import Auditor, audit
from burnish.audit.advice import EXAMPLES, length_effects
from burnish.audit.bias import FEATURES, features_of
from burnish.audit.contrast import noise_ceiling
from burnish.audit.near import Sketches, copies
from burnish.audit.probe import word_probe
from burnish.audit.rendered import Rendered
from burnish.cli.main import main
from burnish.data.readers import read
from burnish.data.render import EncodeReport, Renderer, fit
from burnish.data.tokenizers import load_light
from burnish.findings import places, printable
from burnish.group import Completion, EncodedGroup, Group, Labels, Message, Preferences, Scores, Unjudged
from burnish.objectives import TABLE
from burnish.stats import clustered_share, wilson
from tests.zoo import tokenizer

WON = Preferences(((0, 1, 1.0),))


def pair(prompt: str, chosen: str, rejected: str, line: int = 1, **more: Any) -> Group:
    return Group(prompt, (Completion(chosen), Completion(rejected)), WON, where=f"d.jsonl:{line}", **more)


def run(groups: list[Group], held: list[Group] | None = None, **options: Any) -> Any:
    train = Auditor(**options)
    train.take(groups)
    other = None
    if held is not None:
        other = Auditor(against=train.scan)
        other.take(held)
    return audit(train, other)


def codes(found: Any) -> dict[str, int]:
    return {finding.code: finding.count for finding in found.findings}


def test_wilson_is_the_root_of_the_score_equation() -> None:
    """Both ends solve (p - x)^2 = z^2 x (1 - x) / n."""
    for share, n in ((0.5, 10.0), (0.0, 7.0), (1.0, 24.0), (0.63, 1000.0)):
        for end in wilson(share, n):
            assert math.isclose((share - end) ** 2, 1.959963984540054**2 * end * (1 - end) / n, abs_tol=1e-12)


def test_clusters_widen_the_interval_and_single_ones_do_not() -> None:
    outcomes = np.array([1, 1, 0, 0, 1, 1, 0, 1.0])
    alone = clustered_share(outcomes, np.arange(8))
    together = clustered_share(np.repeat(outcomes, 5), np.repeat(np.arange(8), 5))
    assert alone.value == together.value == 0.625
    # five copies of each answer carry no more than one: the cluster-robust error is that of the eight
    assert math.isclose(alone.error, together.error)
    assert math.isclose(alone.error, math.sqrt(((outcomes - 0.625) ** 2).sum() / 8 / 7))
    assert math.isclose(alone.low, together.low) and math.isclose(alone.high, together.high)


def test_all_alike_counts_clusters() -> None:
    share = clustered_share(np.ones(100), np.zeros(100, dtype=np.int64))
    assert share.value == 1.0 and share.low < 0.3


def test_length_figures_by_hand() -> None:
    groups = [pair(f"p{i}", "x" * w, "y" * l, i) for i, (w, l) in enumerate([(5, 3), (2, 9), (4, 4), (8, 1)])]
    (row,) = run(groups).figures["length"]
    assert row["pairs"] == 4 and row["p_longer"] == 2 / 3  # the equal pair is left out
    assert row["mean_chosen"] == 19 / 4 and row["mean_rejected"] == 17 / 4 and row["mean_gap"] == 0.5
    assert row["median_gap"] == 1.0 and row["p80_gap"] == np.quantile([2, 7, 0, 7], 0.8)


def test_ranked_groups_count_every_pair_but_ties() -> None:
    group = Group(
        "p", tuple(Completion(t) for t in ("aa", "b", "cccc", "d")), Scores((3.0, 1.0, 2.0, 1.0)), where="d:1"
    )
    found = run([group])
    assert found.figures["length"][0]["pairs"] == 5  # of six pairs one is a tie
    # (aa,b) (aa,cccc) (aa,d) (cccc,b) (cccc,d): the longer one wins in four of five
    assert found.figures["length"][0]["p_longer"] == 0.8


def test_duplicates_contradictions_and_places() -> None:
    groups = [
        pair("Why?", "because", "no", 1), pair("why? ", "Because", "no", 2), pair("Why?", "no", "because", 3),
        pair("How?", "so", "not so", 4),
    ]  # fmt: skip
    found = run(groups)
    assert codes(found) == {"duplicate": 1, "contradiction": 1, "small-set": 2}
    message = {finding.code: finding.line() for finding in found.findings}
    assert "line 2 of d.jsonl" in message["duplicate"] and "same as d.jsonl line 1" in message["duplicate"]
    assert "line 3 of d.jsonl" in message["contradiction"]


def test_the_same_answers_with_other_scores_are_no_duplicate_of_a_label() -> None:
    good, bad = (Group("p", (Completion("a"),), Labels((x,)), where=f"d:{x}") for x in (True, False))
    assert "duplicate" not in codes(run([good, bad]))
    assert codes(run([good, good]))["duplicate"] == 1


def test_leaks_exact_and_near() -> None:
    long = " ".join(f"word{i} is number {i * 7 % 13}" for i in range(40))
    train = [pair("Why is that?", "a", "b", 1), pair(long, "a", "b", 2)]
    held = [
        pair("why  is that?", "c", "d", 11),
        pair(long.replace("word7 ", "term7 "), "c", "d", 12),
        pair("New", "c", "d", 13),
    ]
    found = run(train, held)
    assert codes(found)["leak"] == 1 and codes(found)["near-leak"] == 1
    rows = {finding.code: finding.rows for finding in found.findings}
    assert rows["leak"] == ("d.jsonl:11",) and rows["near-leak"] == ("d.jsonl:12",)


def test_near_copies_follow_the_jaccard_similarity_of_their_runs() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i:04d}" for i in range(2000)]
    base = [" ".join(rng.choice(words, 200)) for _ in range(40)]
    close = [text[:-20] + " other end here." for text in base]
    apart = [" ".join(rng.choice(words, 200)) for _ in range(40)]
    half = [text[: len(text) // 2] + other[len(other) // 2 :] for text, other in zip(base, apart, strict=True)]
    sketches = Sketches()
    for row, text in enumerate([*base, *close, *half, *apart]):
        sketches.add(text, row)
    found = copies(sketches.matrix())
    assert not found[:40].any() and found[40:80].all() and not found[80:].any()
    assert copies(sketches.matrix()[40:80], sketches.matrix()[:40]).all()
    assert not copies(sketches.matrix()[120:], sketches.matrix()[:40]).any()


def test_agreement_and_its_ceiling() -> None:
    """Raters right with probability q agree with a = q^2 + (1 - q)^2; the ceiling inverts that."""
    for q in (0.5, 0.7, 0.95, 1.0):
        assert math.isclose(noise_ceiling(q * q + (1 - q) * (1 - q)) or 0.0, q)
    assert noise_ceiling(0.4) is None
    sides = [("p", "a", "b"), ("p", "a", "b"), ("p", "b", "a"), ("q", "a", "b")]
    votes = [pair(*side, i, meta={"annotator": f"rater {i}"}) for i, side in enumerate(sides)]
    found = run(votes).figures["agreement"]
    assert found["pairs"] == 1 and found["rate"] == 1 / 3  # of three pairs of raters one agrees


def test_a_row_said_twice_is_one_rater() -> None:
    assert run([pair("p", "a", "b", 1), pair("p", "a", "b", 2)]).figures["agreement"] is None


def test_a_row_that_cannot_be_rendered_spoils_no_count() -> None:
    """The batch is tried again without it: rows with control tokens are counted once, and the bad one is named."""
    made = tokenizer("chatml")
    made.chat_template = (
        "{% if messages[0].content == 'bad' %}{{ raise_exception('no') }}{% endif %}" + made.chat_template
    )
    rows = [pair(text, "a", "b", line) for line, text in enumerate(["x <|im_end|>", "bad", "y <|im_end|>"], 1)]
    train = Auditor(Renderer(made))
    train.take(rows)
    assert train.rendered is not None
    assert train.rendered.report.control == ["d.jsonl:1", "d.jsonl:3"]
    assert train.rendered.counts.rows == {"not-rendered": ["d.jsonl:2"]} and len(train.rendered.prompts) == 2


def test_kept_control_tokens_are_said_to_act() -> None:
    for control, code in (("text", "control-tokens"), ("keep", "control-tokens-act")):
        assert code in codes(
            run([pair("x <|im_end|>", "a", "b")], renderer=Renderer(tokenizer("chatml"), control=control))
        )


def test_few_prompts_claim_no_length_bias() -> None:
    rows = [pair(f"p{i % 5}", f"long answer {i} " * 3, f"short {i}", i) for i in range(60)]
    assert "length-bias" not in codes(run(rows))


def test_the_models_own_log_probs_of_a_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--logps`: mean per-token log-prob of each side, equal to plain forward passes."""
    import torch

    from tests.zoo import plain_logps, save_model_dir

    folder = save_model_dir(tmp_path / "model", "llama", "chatml")
    data = write(tmp_path, ROWS)
    assert code_of(data, f"model.path={folder}", "model.dtype=float32", "--logps", "2", "--html", "", "--json") == 0
    own = json.loads(capsys.readouterr().out)["onpolicy"]
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    renderer = Renderer(load_light(str(folder)))
    means = []
    for group in read(data).groups[:2]:
        ids = renderer.encode(group)
        means.append([float(plain_logps(model, ids.prompt_ids, c).mean()) for c in ids.completion_ids])
    assert own["pairs"] == 2
    assert own["chosen"] == pytest.approx(np.mean([m[0] for m in means]), abs=1e-4)
    assert own["rejected"] == pytest.approx(np.mean([m[1] for m in means]), abs=1e-4)
    assert own["preferred_already"] == np.mean([m[0] > m[1] for m in means])


def test_the_probe_finds_a_word_and_nothing_in_noise() -> None:
    rng = np.random.default_rng(1)
    vocabulary = [f"w{i}" for i in range(50)]
    texts = [" ".join(rng.choice(vocabulary, 12)) for _ in range(600)]
    noise = [(i, texts[2 * i], texts[2 * i + 1]) for i in range(300)]
    told = [(i, f"certainly {a}", b) for i, a, b in noise]
    found, nothing = word_probe(told), word_probe(noise)
    assert found is not None and nothing is not None
    assert found["accuracy"] > 0.99 and found["words_chosen"][0] == "certainly"
    assert nothing["low"] < 0.5 < nothing["high"]
    assert word_probe(noise[:20]) is None


def test_features_are_counted() -> None:
    text = "# Title\n\n- one\n- **two**\n1. three!\n\n`code` maybe"
    counts = dict(zip(FEATURES, features_of(text), strict=True))
    assert counts == {
        "lists": 3, "headers": 1, "bold": 1, "code": 1, "refusals": 0, "exclamations": 1, "questions": 0, "hedges": 1,
        "paragraphs": 2,
    }  # fmt: skip
    assert features_of("I'm sorry, but I can't do that.")[4] == 1


def test_length_bias_is_claimed_only_when_the_interval_excludes_chance() -> None:
    long = [pair(f"p{i}", f"long answer {i} " * 3, f"short {i}", i) for i in range(120)]
    mixed = [pair(f"p{i}", "aaaa" if i % 2 else "a", "aa", i) for i in range(24)]
    found = run(long)
    assert "length-bias" in codes(found) and "length-bias" not in codes(run(mixed))
    assert "length-bias" not in codes(run(long[:10]))  # too few to say
    settings = [action["setting"] for action in found.figures["actions"]]
    assert 'objective.name = "dpo_norm"' in settings
    # the key counts tokens, so a limit in characters is not advised; nor is matching, where nothing would be left
    assert not any(s.startswith(("data.max_length_gap", "data.length_match")) for s in settings)
    told = [a["setting"] for a in run(long, renderer=Renderer(tokenizer("chatml"), "plain")).figures["actions"]]
    assert any(s.startswith("data.max_length_gap") for s in told)


def test_of_a_small_set_it_is_said_what_it_is_good_for_and_no_filter_is_advised() -> None:
    """Answers that are shorter, alike, or chosen again and again may be what a correction is about."""
    short = [
        pair(f"Who made you, says {i}?", "The workshop did.", f"I was made by firm {i} long ago", i) for i in range(30)
    ]
    audited = run(short)
    assert {f.code: f.severity for f in audited.findings} == dict.fromkeys(
        ("brevity-bias", "stock-chosen", "small-set"), "note"
    )
    assert "30 prompts" in audited.findings[-1].message and "within 18%" in audited.findings[-1].message
    settings = [action["setting"] for action in audited.figures["actions"]]
    assert settings == ["optim.groups_per_step = 3", "optim.epochs = 5", 'adapter.kind = "lora"'], "50 steps"
    large = run([replace(g, prompt=f"{g.prompt} {k}") for k in range(4) for g in short])
    assert {f.code for f in large.findings if f.severity == "warn"} >= {"brevity-bias", "stock-chosen"}
    assert "small-set" not in codes(large)


def test_longer_answers_are_warned_about_in_a_small_set_too() -> None:
    """Raters prefer length unasked, so that it is no habit which somebody set out to correct."""
    long = run([pair(f"p{i}", f"long answer {i} " * 3, f"short {i}", i) for i in range(30)])
    (bias,) = [f for f in long.findings if f.code == "length-bias"]
    assert bias.severity == "warn" and bias.action == ""


def test_a_bias_spread_over_many_small_sources_is_seen() -> None:
    rows = [pair(f"p{i}", "long answer " * 3, "short", i, source=f"site {i}") for i in range(60)]
    assert "length-bias" in codes(run(rows))


def test_length_effects_name_each_objective() -> None:
    train = Auditor()
    train.take([pair(f"p{i}", "long answer " * 3, "short", i) for i in range(24)])
    rows, words = length_effects(train.pairs.columns(), "characters")
    effect = {row["objective"]: row["effect"] for row in rows}
    assert {name: TABLE[name].length_effects for name in EXAMPLES} == EXAMPLES
    assert "raters' taste" in effect["dpo"] and "back" in effect["r_dpo"] and set(words) == {"P1", "P2", "P3"}


@pytest.mark.parametrize("limit", [60, 90, 128, 2048])
def test_policies_are_what_fit_does(limit: int) -> None:
    made = tokenizer("chatml")
    rng = np.random.default_rng(2)
    groups = [
        Group(
            (Message("user", "ab " * int(p)),),
            (Completion("c " * int(a)), Completion("d " * int(b))),
            WON,
            where=f"d:{i}",
        )
        for i, (p, a, b) in enumerate(rng.integers(1, 60, (40, 3)))
    ]
    rendered = Rendered(Renderer(made), limit)
    encoded = [group for group in rendered.encode(groups) if group is not None]
    row = next(row for row in rendered.policies() if row["max_length"] == limit)
    reports = {policy: EncodeReport(limit) for policy in ("drop", "cut_prompt_left", "cut_completion")}
    for policy, report in reports.items():
        for group in encoded:
            fit(group, limit, policy, report, rendered.renderer.prefix)  # type: ignore[arg-type]
    assert row["drop"] == reports["drop"].dropped
    assert row["cut_prompt_left"] == reports["cut_prompt_left"].cut_prompts
    assert row["cut_completion"] == reports["cut_completion"].cut_completions


def test_a_label_file_of_one_class_and_groups_without_signal() -> None:
    good = [Group(f"p{i}", (Completion("a"),), Labels((True,)), where=f"d:{i}") for i in range(3)]
    assert "one-class" in codes(run(good))
    flat = Group("p", (Completion("a"), Completion("b")), Scores((1.0, 1.0)), where="d:1")
    assert codes(run([flat]))["no-signal"] == 1


def test_what_is_printed_cannot_move_the_cursor() -> None:
    assert printable("a\x1b[31m\u202eb\ud83d\u00a0") == "a\\x1b[31m\\u202eb\\ud83d\\xa0"
    assert places(["x/d.jsonl:3", "x/d.jsonl:5", "e.parquet:1"], 4) == "lines 3, 5 of d.jsonl; row 1 of e.parquet, ..."


def write(folder: Path, rows: list[dict[str, Any]], name: str = "d.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


ROWS = [{"prompt": f"Say {i}", "chosen": f"{i} it is", "rejected": "no"} for i in range(3)]


def code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["audit", *words])
    return int(stopped.value.code or 0)


def test_exit_codes_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = write(tmp_path, ROWS)
    assert code_of(clean, "--html", "", "--strict") == 0
    twice = write(tmp_path, [*ROWS, ROWS[0]], "twice.jsonl")
    assert code_of(twice, "--html", "") == 0 and code_of(twice, "--html", "", "--strict") == 1
    broken = write(tmp_path, [*ROWS, {"prompt": "x"}], "broken.jsonl")
    capsys.readouterr()
    assert code_of(broken, "--html", "", "--json") == 2
    values = json.loads(capsys.readouterr().out)
    assert values["verdict"] == "refused" and values["findings"][0]["rows"] == [f"{broken}:4"]
    assert values["length"][0]["pairs"] == 3


def test_pairs_of_equal_length_have_no_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path, [{"prompt": "p", "chosen": "abc", "rejected": "xyz"}])
    assert code_of(data, "--html", "", "--json") == 0
    assert json.loads(capsys.readouterr().out)["length"][0]["p_longer"] is None
    assert code_of(data, "--html", str(tmp_path / "page.html")) == 0
    assert "all pairs of equal length" in capsys.readouterr().out


def test_no_torch_is_loaded(tmp_path: Path) -> None:
    import subprocess
    import sys

    tokenizer("chatml").save_pretrained(tmp_path / "model")
    data = write(tmp_path, ROWS)
    script = (
        "import sys\nfrom burnish.cli.main import main\ntry:\n"
        f"    main(['audit', {data!r}, '--html', '', 'model.path={tmp_path}/model'])\n"
        "except SystemExit:\n    pass\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, capture_output=True).returncode == 0


def test_rendered_findings_name_what_a_template_refuses(tmp_path: Path) -> None:
    made = tokenizer("llama2")
    group = Group((Message("user", "a"), Message("user", "b")), (Completion("c"),), Unjudged(), where="d.jsonl:7")
    found = run([group], renderer=Renderer(made))
    assert [f for f in found.findings if f.severity == "refuse"] == [] or "d.jsonl:7" in found.findings[0].rows


def test_encoded_groups_can_be_handed_in() -> None:
    """A training run has its groups encoded already: lengths are then tokens, and nothing is encoded twice."""
    made = Renderer(tokenizer("chatml"))
    group = pair("Why?", "because of that", "no")
    look = Auditor(made, deep=False)
    look.take([group], [EncodedGroup("", (1,), ((1, 2, 3), (1,)), (True, True), WON)])
    assert look.unit == "tokens" and look.pairs.columns().winners.tolist() == [3]
    assert look.rendered is not None and len(look.rendered.prompts) == 0
