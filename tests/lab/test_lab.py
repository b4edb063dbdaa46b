"""The built-in world: its formulas hold, its model is ordinary, its sampler and KL equal the plain computation."""

from __future__ import annotations

import json
import math
import random
import statistics
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from burnish import config
from burnish.data import readers, render
from burnish.errors import StoreError
from burnish.group import Completion, Group, Preferences
from burnish.lab import measure, picture, policy, quickstart, world
from burnish.lab.world import CARDS, Answer, Card, Rater
from burnish.runlog import log

CARD = Card(7, 5)


@pytest.fixture(scope="module")
def models() -> tuple[LlamaForCausalLM, LlamaForCausalLM]:
    """Two policies a short way from random, so that answers end at various lengths and the KL is not 0."""
    return policy.train_sft(0, steps=30), policy.train_sft(1, steps=40)


# -- the world ---------------------------------------------------------------------------------------------------------


def test_prompts_have_a_fixed_width() -> None:
    assert CARD.prompt == "_7+_5=" and CARD.total == 12
    assert len(CARDS) == len({card.prompt for card in CARDS}) == 100
    assert {len(card.prompt) for card in CARDS} == {world.PROMPT_WIDTH}


@pytest.mark.parametrize(
    ("text", "finished", "utility"),
    [
        ("#12", True, 1.0),
        ("~~7+5,:12", True, 1.0),
        ("#11", True, 0.6 * 0.9),
        (":2", True, 0.0),
        ("#99", True, 0.0),
        ("7+4,#12", True, 1.0),  # a restatement is not judged
        ("#12", False, -0.5),
        ("12", True, -0.5),
        ("7+5,~#12", True, -0.5),
        ("#", True, -0.5),
        ("", True, -0.5),
        ("#1␀2", True, -0.5),
    ],
)
def test_gold_utility_is_its_formula(text: str, finished: bool, utility: float) -> None:
    answer = Answer(CARD, text, finished)
    assert answer.utility == pytest.approx(utility, abs=1e-12)
    assert answer.tokens == len(text) + finished
    assert answer.right == (utility == 1.0)


def test_the_demonstrator_is_right_three_times_in_ten_exactly() -> None:
    for card in CARDS:
        odds = world.demonstrated(card)
        assert math.fsum(odds.values()) == pytest.approx(1, abs=1e-12)
        assert odds[card.total] == pytest.approx(0.30, abs=1e-12) and min(odds) >= 0


def test_demonstrations_follow_the_stated_distribution() -> None:
    rng = random.Random(0)
    found = [world.demonstrate(rng.choice(CARDS), rng) for _ in range(20_000)]
    assert all(answer.number is not None and answer.tokens <= world.MAX_NEW_TOKENS for answer in found)
    mean = statistics.fmean(answer.utility for answer in found)
    error = statistics.stdev(answer.utility for answer in found) / math.sqrt(len(found))
    assert abs(mean - world.demonstrator_utility()) < 4 * error
    assert statistics.fmean(answer.right for answer in found) == pytest.approx(0.30, abs=0.015)
    assert statistics.fmean("," in answer.text for answer in found) == pytest.approx(0.5, abs=0.015)


def test_the_raters_log_odds_are_the_formula() -> None:
    first, second = Answer(CARD, "~~#12"), Answer(CARD, ":11")
    assert Rater().logit(first, second) == pytest.approx(6 * 0.46)
    assert Rater(6.0, 0.3, 0.7).logit(first, second) == pytest.approx(6 * 0.46 + 0.3 * 2 + 0.7)
    assert Rater(6.0, 0.3, 0.7).logit(second, first) == pytest.approx(-Rater(6.0, 0.3, 0.7).logit(first, second))
    rng = random.Random(1)
    share = statistics.fmean(Rater().prefers_first(first, second, rng) for _ in range(20_000))
    assert share == pytest.approx(1 / (1 + math.exp(-2.76)), abs=0.01)


def test_judging_leaves_out_ties_and_unfinished_answers() -> None:
    def answers(*texts: str) -> list[Answer]:
        return [Answer(CARD, text) for text in texts]

    ties = answers("#12", "#12", "~#12", ":12")  # the same text; then the same utility for a fair rater
    unusable = [Answer(CARD, "#12"), Answer(CARD, "~" * 16, False), *answers("#12", "#1␀", "", "#12")]
    pairs = world.judge([*ties, *unusable, *answers("#12", "#2")], Rater(gain=1e3), random.Random(0))
    assert (pairs.ties, pairs.unfinished) == (2, 3)
    expected = Preferences(((0, 1, 1.0),))
    assert pairs.groups == (
        Group("_7+_5=", (Completion("#12"), Completion("#2")), expected, id="card-5", source="flash cards"),
    )
    biased = world.judge(answers("~#12", ":12"), Rater(gain=6.0, per_token=50.0), random.Random(0))
    assert biased.ties == 0 and biased.groups[0].feedback == expected


def test_label_noise_counts_preferences_against_the_gold_utility() -> None:
    completions = (Completion("#12"), Completion("#2"))
    right, wrong = (Group(CARD.prompt, completions, Preferences((triple,))) for triple in ((0, 1, 1.0), (1, 0, 1.0)))
    assert world.label_noise([right, right, right, wrong]) == 0.25


# -- tokenizer and model -----------------------------------------------------------------------------------------------


def test_tokenizer_and_model_are_what_the_auto_classes_load(tmp_path: Path) -> None:
    model = policy.make_model(3)
    policy.save(model, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == 20 and tokenizer.chat_template is None and tokenizer.bos_token is None
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (policy.PAD, policy.EOS)
    text = "_7+_5=~~7+5,#12"
    ids = tokenizer(text).input_ids
    assert ids == policy.encode(text) and len(ids) == len(text) and tokenizer.decode(ids) == text
    assert tokenizer("x").input_ids == [policy.UNKNOWN] and len(tokenizer("0123456789_+=~,#:").input_ids) == 17
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.eos_token_id == policy.EOS and loaded.config.vocab_size == 20
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    for mine, theirs in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_training_is_a_function_of_the_seed_and_learns_the_form() -> None:
    seen: list[tuple[int, float]] = []
    first = policy.train_sft(5, steps=50, tick=lambda done, loss: seen.append((done, loss)))
    second = policy.train_sft(5, steps=50)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [done for done, _ in seen] == [25, 50] and seen[1][1] < 1.5 < math.log(20)


# -- sampler and KL ----------------------------------------------------------------------------------------------------


def _sample_plainly(model: LlamaForCausalLM, card: Card, count: int, generator: torch.Generator) -> list[list[int]]:
    """Recompute the whole row for every token, no cache: the sampler by its definition."""
    rows = policy.prompt_ids([card] * count)
    for _ in range(world.MAX_NEW_TOKENS):
        with torch.no_grad():
            odds = model(rows, use_cache=False).logits[:, -1].softmax(-1)
        rows = torch.cat([rows, torch.multinomial(odds, 1, generator=generator)], dim=1)
    return rows[:, world.PROMPT_WIDTH :].tolist()


def test_the_cached_sampler_equals_plain_recomputation(models: tuple[LlamaForCausalLM, LlamaForCausalLM]) -> None:
    plain = _sample_plainly(models[0], CARD, 64, torch.Generator().manual_seed(4))
    assert policy.sample(models[0], [CARD] * 64, torch.Generator().manual_seed(4)) == [
        policy.decode(CARD, row) for row in plain
    ]


def test_sampled_text_gives_back_the_sampled_ids(models: tuple[LlamaForCausalLM, LlamaForCausalLM]) -> None:
    tokenizer = policy.make_tokenizer()
    for row in _sample_plainly(models[0], CARD, 64, torch.Generator().manual_seed(4)):
        answer = policy.decode(CARD, row)
        assert policy.answer_ids([answer])[0].tolist() == row[: answer.tokens]
        assert answer.finished == (policy.EOS in row)
        if set(answer.text) <= set(world.CHARACTERS) and answer.finished:
            assert [*tokenizer(answer.text).input_ids, tokenizer.eos_token_id] == row[: answer.tokens]


def test_exact_kl_is_its_definition(models: tuple[LlamaForCausalLM, LlamaForCausalLM]) -> None:
    answers = [Answer(CARD, "~#12"), Answer(Card(0, 9), "0+9,:9"), Answer(CARD, "~" * 16, False)]
    found = measure.exact_kl(*models, answers, batch=2)
    assert torch.equal(measure.exact_kl(models[0], models[0], answers), torch.zeros(3, dtype=torch.float64))
    for answer, value in zip(answers, found.tolist(), strict=True):
        ids = policy.encode(answer.card.prompt + answer.text)
        assert world.PROMPT_WIDTH + answer.tokens == len(ids) + answer.finished
        total = 0.0
        for t in range(answer.tokens):
            row = torch.tensor([ids[: world.PROMPT_WIDTH + t]])
            with torch.no_grad():
                p, q = (model(row).logits[0, -1].double().log_softmax(-1) for model in models)
            total += float((p.exp() * (p - q)).sum())
        assert value == pytest.approx(total, rel=1e-5)


def test_exact_kl_agrees_with_the_log_ratio_of_samples(models: tuple[LlamaForCausalLM, LlamaForCausalLM]) -> None:
    """Chain rule: over the policy's own answers both have the mean KL(policy || reference) of whole answers."""
    answers = policy.sample(models[0], list(CARDS) * 20, torch.Generator().manual_seed(0))
    targets = policy.answer_ids(answers)
    rows = torch.cat([policy.prompt_ids([answer.card for answer in answers]), targets[:, :-1]], dim=1)
    inside = torch.arange(targets.shape[1]) < torch.tensor([answer.tokens for answer in answers])[:, None]
    with torch.no_grad():
        p, q = (m(rows, logits_to_keep=targets.shape[1]).logits.double().log_softmax(-1) for m in models)
    k1 = ((p - q).gather(-1, targets[..., None])[..., 0] * inside).sum(-1)
    gap = k1 - measure.exact_kl(*models, answers)
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(len(answers))


def test_an_evaluation_is_means_over_cards(models: tuple[LlamaForCausalLM, LlamaForCausalLM]) -> None:
    found = measure.evaluate(*models, seed=9, answers_per_card=3)
    again = measure.evaluate(*models, seed=9, answers_per_card=3)
    assert found == again and len(found.answers) == 300
    assert found.utility_by_card[1] == pytest.approx(statistics.fmean(a.utility for a in found.answers[3:6]))
    assert found.utility.mean == pytest.approx(statistics.fmean(a.utility for a in found.answers))
    half = 1.984 * statistics.stdev(found.utility_by_card) / 10
    assert found.utility.half == pytest.approx(half) and found.kl.mean > 0
    figures = found.figures()
    assert figures["accuracy"] == found.accuracy.mean and figures["answers"] == 300
    assert json.loads(json.dumps(figures)) == figures


# -- picture and the whole ---------------------------------------------------------------------------------------------


def test_a_curve_is_means_over_windows() -> None:
    curve = picture.LogRatioCurve.of([(1, 1.0), (2, 3.0), (3, 5.0), (4, 5.0), (5, 9.0)], window=2)
    assert curve.steps == (1.5, 3.5)  # the last window has one value, so no interval, so no point
    assert curve.mean == (2.0, 5.0)
    assert curve.half == pytest.approx((1.96 * math.sqrt(2) / math.sqrt(2), 0.0))


def test_the_picture_is_drawn(tmp_path: Path, models: tuple[LlamaForCausalLM, LlamaForCausalLM]) -> None:
    found = measure.evaluate(*models, seed=0, answers_per_card=2)
    curve = picture.LogRatioCurve((1.0, 2.0), (0.0, -1.0), (0.1, 0.1))
    picture.draw(tmp_path / "picture.png", found, found, 0.56, curve, curve)
    assert (tmp_path / "picture.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_dpo_run_is_what_a_user_would_type(tmp_path: Path) -> None:
    run = config.load(None, quickstart.overrides(tmp_path, quickstart.QuickstartSettings(seed=3)))
    assert run.objective == (config.ObjectiveConfig(name="dpo", params={"beta": 0.3}),)
    assert (run.optim.lr, run.optim.steps, run.optim.groups_per_step) == (2e-4, 200, 64)
    assert (run.model.dtype, run.seed, run.run.dir) == ("float32", 3, str(tmp_path / "dpo"))
    assert (run.model.path, run.data.train) == (str(tmp_path / "sft"), str(tmp_path / "pairs.jsonl"))


def test_a_file_in_the_way_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match="cannot be made a folder"):
        quickstart.main(str(tmp_path / "taken"))


def test_the_whole_job_raises_the_gold_utility(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SFT, pairs, DPO through burnish's own training, evaluation: a third of the quickstart, then the folder again."""
    small = quickstart.QuickstartSettings(sft_steps=200, pairs=1200, held_out=100, dpo_steps=60, answers_per_card=10)
    threads = torch.get_num_threads()
    summary = quickstart.run(tmp_path, small)
    assert torch.get_num_threads() == threads
    before, after = summary["before"], summary["after"]
    assert after["utility"] - before["utility"] > before["utility_half"] + after["utility_half"]
    assert before["kl"] == 0.0 and 0.05 < after["kl"] < 5 and after["finished"] > 0.95
    assert 0.05 < summary["label_noise"] < 0.35
    assert summary["logratio"]["rejected"] < summary["logratio"]["chosen"]
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "DPO raised the gold utility" in printed and "SFT: 200/200 steps, loss " in printed

    groups = readers.read(str(tmp_path / "pairs.jsonl")).groups
    assert len(groups) == summary["pairs"]["kept"] and world.label_noise(groups) == summary["label_noise"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "dpo" / "model")
    encoded = render.Renderer(tokenizer).encode(groups[0])
    assert list(encoded.prompt_ids) == policy.encode(str(groups[0].prompt))
    assert list(encoded.completion_ids[0]) == [*policy.encode(str(groups[0].completions[0].messages)), policy.EOS]
    chosen, rejected = quickstart.log_ratios(tmp_path / "dpo", tuple(groups))
    assert len(chosen) == len(rejected) == 60 * 64
    steps = [record for record in log.read_rows(tmp_path / "dpo") if record["record"] == "step"]
    first = [value for step, value in chosen if step == 5]
    assert statistics.fmean(first) == pytest.approx(steps[4]["logratio/chosen"], abs=1e-4)


def test_a_second_run_into_the_same_folder_gives_the_same_numbers(tmp_path: Path) -> None:
    tiny = quickstart.QuickstartSettings(sft_steps=40, pairs=150, held_out=40, dpo_steps=4, answers_per_card=2)
    first, second = (quickstart.run(tmp_path, tiny) for _ in range(2))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


@pytest.mark.slow
def test_the_reward_lab_runs_and_knows_gold(tmp_path: Path) -> None:
    """A smaller job of the same shape: the reward models beat chance on gold preferences, which have no noise."""
    from burnish.lab import reward

    base = quickstart.QuickstartSettings(sft_steps=100, pairs=800, held_out=20, dpo_steps=10)
    figures = reward.run(tmp_path / "rw", reward.RewardSettings(members=2, base=base, epochs=4.0, answers=6))
    by = figures["accuracy"]["all"]["by"]
    assert {"rm/member-0", "rm/member-1", "rm (mean)", "dpo"} <= set(by)
    assert by["rm (mean)"]["low"] > 0.5
    assert figures["best_of_n"] is not None and (tmp_path / "rw" / "report.svg").exists()
