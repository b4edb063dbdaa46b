"""The in-process sampler: recomputed log-probs are the sampled ones, and nothing in the batch changes what is drawn."""

from __future__ import annotations

import pytest
import torch

from burnish.answers.sampler import Decoding
from burnish.answers.sampler.draw import Uniforms, draw, drawn_logps, truncated
from burnish.answers.sampler.process import ProcessSampler
from burnish.data.prompts import Prompt
from tests import zoo
from tests.answers.sampler.world import engine_of, largest_difference

ENDS = frozenset({1, 5, 6, 7})
HYBRID = {"qwen3_next"}  # its recurrent layers add up in another order a token at a time: 1e-4


def prompts(count: int = 11, seed: int = 1) -> list[Prompt]:
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 20, (count,), generator=draw).tolist()
    return [Prompt(f"p{i}", tuple(torch.randint(3, 120, (n,), generator=draw).tolist())) for i, n in enumerate(sizes)]


@pytest.mark.parametrize("family", zoo.FAMILIES)
def test_recomputed_log_probs_are_the_sampled_ones(family: str) -> None:
    engine = engine_of(family)
    answers = ProcessSampler(engine, ENDS, rows=12)(prompts(), 3, Decoding(14), 0, 1)
    assert largest_difference(engine, prompts(), answers) < (3e-4 if family in HYBRID else 1e-5)
    for own in answers:
        for answer in own:
            assert len(answer.ids) == len(answer.logps) <= 14
            assert (answer.ids[-1] in ENDS) == (answer.finish == "stop")
            assert not ENDS & set(answer.ids[:-1])


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral", "gpt_oss", "mamba", "falcon"])
def test_nothing_else_in_the_batch_changes_what_is_drawn(family: str) -> None:
    engine = engine_of(family, torch.float64)
    asked = prompts()
    together = ProcessSampler(engine, ENDS)(asked, 3, Decoding(14), 7, 2)
    few = ProcessSampler(engine, ENDS, rows=3)(asked, 3, Decoding(14), 7, 2)
    backwards = ProcessSampler(engine, ENDS, rows=12)(asked[::-1], 3, Decoding(14), 7, 2)[::-1]
    alone = [ProcessSampler(engine, ENDS)([one], 3, Decoding(14), 7, 2)[0] for one in asked]
    wider = [own[:3] for own in ProcessSampler(engine, ENDS)(asked, 5, Decoding(14), 7, 2)]
    for other in (few, backwards, alone, wider):
        assert [[a.ids for a in own] for own in other] == [[a.ids for a in own] for own in together]


def test_other_steps_seeds_prompts_and_answers_draw_otherwise() -> None:
    engine = engine_of("llama")
    sampler, asked = ProcessSampler(engine, ENDS), prompts(4)
    first = sampler(asked, 2, Decoding(14), 0, 1)
    assert first != sampler(asked, 2, Decoding(14), 0, 2)
    assert first != sampler(asked, 2, Decoding(14), 1, 1)
    assert any(own[0].ids != own[1].ids for own in first)
    same_text = [Prompt("a", asked[0].ids), Prompt("b", asked[0].ids)]
    one, other = sampler(same_text, 2, Decoding(14), 0, 1)
    assert [a.ids for a in one] != [a.ids for a in other]


def test_temperature_and_truncation_are_in_the_log_probs() -> None:
    engine = engine_of("llama", torch.float64)
    decoding = Decoding(10, temperature=0.7, top_p=0.8, top_k=30)
    asked = prompts(5)
    answers = ProcessSampler(engine, ENDS)(asked, 2, decoding, 0, 0)
    for prompt, own in zip(asked, answers, strict=True):
        for answer in own:
            ids = torch.tensor([[*prompt.ids, *answer.ids]])
            with torch.no_grad(), engine.policy.stock():
                logits = engine.policy.base(input_ids=ids, use_cache=False).logits[0, len(prompt.ids) - 1 : -1]
            expected = truncated(logits, decoding).log_softmax(-1).gather(1, torch.tensor(answer.ids)[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(answer.logps, dtype=torch.float64), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", ["llama", "falcon"])  # with keys kept in place, and through `generate`
def test_at_temperature_0_log_probs_are_the_models_own(family: str) -> None:
    engine = engine_of(family)
    answers = ProcessSampler(engine, ENDS)(prompts(5), 1, Decoding(10, temperature=0.0), 0, 0)
    assert largest_difference(engine, prompts(5), answers) < 1e-5


def test_a_drawn_token_at_the_edge_of_the_truncation_has_its_mass() -> None:
    """Logits that put token 2 just beyond top_k = 2: log-softmax over the two that are kept and the drawn one."""
    logits = torch.tensor([[3.0, 2.0, 1.999, -1.0]], dtype=torch.float64)
    expected = 1.999 - logits[0, :3].logsumexp(-1)
    drawn = drawn_logps(logits, torch.tensor([2]), Decoding(top_k=2))
    assert float(drawn) == pytest.approx(float(expected), abs=1e-12)


def test_top_k_and_top_p_keep_what_they_say() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0, -1.0]], dtype=torch.float64)
    p = logits.softmax(-1)[0]
    assert (truncated(logits, Decoding(top_k=2)) > -torch.inf).tolist() == [[True, True, False, False, False]]
    share = float(p[0] + p[1]) - 1e-6  # held by two tokens
    assert (truncated(logits, Decoding(top_p=share)) > -torch.inf).sum() == 2
    assert (truncated(logits, Decoding(top_p=share + 2e-6)) > -torch.inf).sum() == 3
    assert (truncated(logits, Decoding(top_p=1e-9)) > -torch.inf).sum() == 1


@pytest.mark.parametrize("vocabulary", [5, 64, 1000])
def test_tokens_are_drawn_with_their_probabilities(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(vocabulary, generator=generator)).masked_fill(
        torch.arange(vocabulary) % 3 == 1, -torch.inf
    )
    count = 20_000
    uniforms = (torch.arange(count, dtype=torch.float64) + 0.5) / count  # every quantile once: no noise in this test
    tokens, logps = draw(logits.expand(count, -1), uniforms, Decoding())
    found = torch.bincount(tokens, minlength=vocabulary) / count
    torch.testing.assert_close(found, logits.softmax(-1), rtol=0, atol=1.5 / count + 1e-6)
    assert bool((found[logits == -torch.inf] == 0).all())
    torch.testing.assert_close(logps, logits.log_softmax(-1)[tokens])


def test_the_edges_of_the_uniform_numbers_draw_tokens_that_have_mass() -> None:
    logits = torch.full((2, 130), -torch.inf)
    logits[:, 3] = 0.0
    tokens, _ = draw(logits, torch.tensor([0.0, 1 - 2**-53]), Decoding())
    assert tokens.tolist() == [3, 3]
    assert draw(torch.tensor([[1.0, 4.0, 2.0]]), torch.tensor([0.9]), Decoding(temperature=0.0))[0].tolist() == [1]


def test_uniform_numbers_are_a_function_of_their_place() -> None:
    one, other = Uniforms(0, 1, "p", 0), Uniforms(0, 1, "p", 0)
    assert [one[t] for t in (0, 200, 3)] == [other[t] for t in (0, 200, 3)]
    assert len({Uniforms(*m, p, a)[0] for m in ((0, 1), (1, 0), (0, 2)) for p in "pq" for a in (0, 1)}) == 12


def test_a_policy_in_training_is_left_in_training() -> None:
    engine = engine_of("llama")
    engine.policy.module.train()
    ProcessSampler(engine, ENDS)(prompts(2), 1, Decoding(3), 0, 0)
    assert engine.policy.module.training
    assert ProcessSampler(engine, ENDS)([], 2, Decoding(3), 0, 0) == []


@pytest.mark.parametrize("family", ["llama", "falcon"])
def test_a_models_own_generation_settings_change_nothing(family: str) -> None:
    engine = engine_of(family)
    plain = ProcessSampler(engine, ENDS)(prompts(4), 2, Decoding(9), 0, 0)
    engine.policy.base.generation_config.repetition_penalty = 5.0
    engine.policy.base.generation_config.suppress_tokens = list(range(3, 60))
    assert ProcessSampler(engine, ENDS)(prompts(4), 2, Decoding(9), 0, 0) == plain
    assert engine.policy.base.generation_config.repetition_penalty == 5.0
