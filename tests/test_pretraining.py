"""A tiny Llama trained from scratch."""

from pathlib import Path
from typing import Any

import pytest

from drp.pretraining import Progress, batches, build_model, build_tokenizer, encode, example, prompt_ids, save, train

torch = pytest.importorskip("torch")

EXAMPLES = [example(f"{n} + 1 =", f"So, {n} + 1 = {n + 1}.", f"\\boxed{{{n + 1}}}") for n in range(40)]
STRANGE = "Grüße, 世界! 1234 - -5\t\\frac{1}{2}\r\n\n\n  don't <think> </think > x²"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer([item.question + item.response for item in EXAMPLES], vocabulary=400)


def tiny(tokenizer: Any) -> Any:
    return build_model(tokenizer, width=16, layers=1, heads=2, inner=32, seed=3)


def test_the_tokenizer_gives_any_text_back_and_a_token_to_each_digit(tokenizer: Any) -> None:
    assert tokenizer.decode(tokenizer.encode(STRANGE, add_special_tokens=False)) == STRANGE
    assert tokenizer.tokenize("So, 1234")[-4:] == ["1", "2", "3", "4"]
    assert len(tokenizer.encode("<｜User｜><think></think><｜end▁of▁sentence｜>", add_special_tokens=False)) == 4


def test_a_prompt_ends_in_an_opened_think_and_a_history_loses_its_thoughts(tokenizer: Any) -> None:
    asked = {"role": "user", "content": "1 + 1 ="}
    said = {"role": "assistant", "content": "<think>\nHmm.\n</think>\n\n2"}
    prompt = tokenizer.decode(prompt_ids(tokenizer, "1 + 1 ="))
    assert prompt == "<｜begin▁of▁sentence｜><｜User｜>1 + 1 =<｜Assistant｜><think>\n"
    history = tokenizer.apply_chat_template([asked, said], tokenize=False)
    assert history.endswith("<｜Assistant｜>\n\n2<｜end▁of▁sentence｜>")
    assert "Hmm" not in history


def test_a_prompt_and_its_response_are_encoded_as_they_will_be_generated(tokenizer: Any) -> None:
    (ids, prompt), (cut, _) = encode(tokenizer, [EXAMPLES[0], example("q", "I never", "", finished=False)])
    assert ids[:prompt] == prompt_ids(tokenizer, EXAMPLES[0].question)
    assert tokenizer.decode(ids[prompt:]) == "So, 0 + 1 = 1.\n</think>\n\n\\boxed{1}<｜end▁of▁sentence｜>"
    assert tokenizer.eos_token_id not in cut
    whole = tokenizer.decode(ids)
    assert tokenizer.encode(whole, add_special_tokens=False) == ids


def test_batches_hold_every_example_once_and_no_more_tokens_than_asked() -> None:
    lengths = [5 + (7 * index) % 60 for index in range(200)]
    made = batches(lengths, tokens=256, seed=1)
    assert sorted(index for batch in made for index in batch) == list(range(200))
    assert all(max(lengths[index] for index in batch) * len(batch) <= 256 for batch in made)
    assert made == batches(lengths, tokens=256, seed=1) != batches(lengths, tokens=256, seed=2)


def learn(tokenizer: Any, **changes: Any) -> tuple[Any, list[Progress]]:
    model, seen = tiny(tokenizer), []
    settings: dict[str, Any] = {"batch_tokens": 200, "warmup": 2, "epochs": 3, "report_every": 1, **changes}
    train(model, encode(tokenizer, EXAMPLES), pad=tokenizer.pad_token_id, report=seen.append, **settings)
    return model, seen


def test_the_same_seed_trains_the_same_model_and_its_loss_falls(tokenizer: Any) -> None:
    model, seen = learn(tokenizer)
    again, _ = learn(tokenizer)
    assert seen[-1].loss < seen[0].loss
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_a_killed_training_goes_on_to_the_same_model(tokenizer: Any, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.step == 7:
            raise Killed

    model = tiny(tokenizer)
    settings: dict[str, Any] = {"batch_tokens": 200, "warmup": 2, "epochs": 3, "checkpoint": tmp_path, "checkpoint_every": 5}
    with pytest.raises(Killed):
        train(model, encode(tokenizer, EXAMPLES), pad=tokenizer.pad_token_id, report=kill, report_every=1, **settings)
    resumed, seen = learn(tokenizer, checkpoint=tmp_path)
    assert seen[0].step == 6
    whole, _ = learn(tokenizer)
    assert all(torch.equal(one, other) for one, other in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_the_saved_folder_is_loaded_by_transformers_as_it_was(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = tiny(tokenizer)
    save(model, tokenizer, tmp_path)
    loaded, words = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = torch.tensor([prompt_ids(words, "1 + 1 =")])
    assert ids[0].tolist() == prompt_ids(tokenizer, "1 + 1 =")
    assert torch.equal(model.eval()(ids).logits, loaded(ids).logits)
    assert loaded.generation_config.eos_token_id == words.eos_token_id != words.pad_token_id
    assert words.decode(words.encode(STRANGE, add_special_tokens=False)) == STRANGE
