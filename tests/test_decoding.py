"""Sampling in batches that finished rows leave."""

from pathlib import Path
from typing import Any

import pytest

from drp.decoding import sample

torch = pytest.importorskip("torch")

VOCABULARY = 97
EOS = 2
PAD = 0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real Llama with random weights, saved and loaded as any other: two layers, grouped keys, flat enough to wander."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(5)
    folder: Path = tmp_path_factory.mktemp("models") / "tiny"
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.3,
            pad_token_id=PAD,
            bos_token_id=1,
            eos_token_id=EOS,
        )
    ).save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder)


def prompts(count: int) -> list[list[int]]:
    """Prompts of 1 to 12 tokens, no two alike."""
    return [[1, *(3 + (7 * index + 5 * place) % 90 for place in range(index % 12)), 3 + index] for index in range(count)]


def run(model: Any, asked: list[list[int]], **changes: Any) -> dict[int, tuple[list[int], str]]:
    settings: dict[str, Any] = {
        "max_new_tokens": 40,
        "temperature": 1.0,
        "top_p": 0.95,
        "seeds": list(range(100, 100 + len(asked))),
        "eos_ids": {EOS, 10, 11, 12},
        "pad_id": PAD,
        "batch_size": 8,
    }
    return {index: (ids, finish) for index, ids, finish in sample(model, asked, **{**settings, **changes})}


def test_every_prompt_is_continued_once_and_says_why_it_stopped(model: Any) -> None:
    asked = prompts(30)
    endings = {EOS, 10, 11, 12}
    seeds = list(range(30))
    yielded = list(
        sample(model, asked, max_new_tokens=40, temperature=1.0, seeds=seeds, eos_ids=endings, pad_id=PAD, batch_size=7)
    )
    assert sorted(index for index, _, _ in yielded) == list(range(30))
    assert {finish for _, _, finish in yielded} == {"stop", "length"}
    for _, ids, finish in yielded:
        assert len(ids) == 40 if finish == "length" else len(ids) < 40
        assert not endings & set(ids)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_row_does_not_depend_on_who_shares_its_batch(model: Any, batch_size: int) -> None:
    asked = prompts(30)
    assert run(model, asked, batch_size=batch_size) == run(model, asked)


def test_a_row_asked_alone_says_the_same(model: Any) -> None:
    asked = prompts(12)
    together = run(model, asked)
    for index in (0, 5, 11):
        assert run(model, [asked[index]], seeds=[100 + index])[0] == together[index]


def test_another_seed_draws_other_tokens(model: Any) -> None:
    asked = prompts(12)
    assert run(model, asked) != run(model, asked, seeds=list(range(12)))


def test_greedy_says_what_generate_says(model: Any) -> None:
    asked = prompts(10)
    greedy = run(model, asked, temperature=0, eos_ids={EOS}, max_new_tokens=200)
    for index, prompt in enumerate(asked):
        ids = torch.tensor([prompt])
        said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=200, do_sample=False)
        expected = [token for token in said[0, len(prompt) :].tolist() if token != EOS]
        assert greedy[index][0] == expected


def test_finished_rows_leave_and_waiting_rows_take_their_place(model: Any) -> None:
    widths: list[int] = []
    watch = model.register_forward_pre_hook(
        lambda _module, _args, kwargs: widths.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    try:
        said = run(model, prompts(40), batch_size=16)
    finally:
        watch.remove()
    assert max(widths) == 16
    assert widths[-1] < 16
    assert sum(widths) < 1.5 * sum(len(ids) + 1 for ids, _ in said.values())


def test_samples_follow_the_nucleus_of_the_softmax(model: Any) -> None:
    prompt, count = [1, 20, 30], 4000
    once: dict[str, Any] = {"max_new_tokens": 1, "eos_ids": set(), "batch_size": count, "seeds": list(range(count))}
    said = run(model, [prompt] * count, top_p=0.8, temperature=0.7, **once)
    with torch.inference_mode():
        chances, order = torch.softmax(model(torch.tensor([prompt])).logits[0, -1] / 0.7, -1).sort(descending=True)
    kept = int((chances.cumsum(0) - chances < 0.8).sum())
    expected = dict(zip(order[:kept].tolist(), (chances[:kept] / chances[:kept].sum()).tolist(), strict=True))
    seen = [ids[0] for ids, _ in said.values()]
    assert set(seen) <= set(expected)
    for token, chance in expected.items():
        assert seen.count(token) / count == pytest.approx(chance, abs=4 * (chance * (1 - chance) / count) ** 0.5)


def test_top_k_keeps_only_the_likeliest(model: Any) -> None:
    prompt = [1, 20, 30]
    once: dict[str, Any] = {"max_new_tokens": 1, "eos_ids": set(), "batch_size": 300, "seeds": list(range(300))}
    said = run(model, [prompt] * 300, top_k=3, top_p=1.0, **once)
    with torch.inference_mode():
        likeliest = model(torch.tensor([prompt])).logits[0, -1].topk(3).indices.tolist()
    assert {ids[0] for ids, _ in said.values()} == set(likeliest)


def test_a_peft_model_is_sampled_as_well(model: Any) -> None:
    import copy

    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(r=4, target_modules="all-linear"))  # starts as no change
    asked = prompts(6)
    assert run(adapted, asked) == run(model, asked)


def test_as_many_seeds_as_prompts_are_asked_for(model: Any) -> None:
    with pytest.raises(ValueError, match="seeds: 2 of them for 3 prompts"):
        run(model, prompts(3), seeds=[1, 2])
