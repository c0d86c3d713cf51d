"""Targets: what the student is taught to say, token by token."""

from pathlib import Path

import pytest

from drp.errors import ConfigError
from drp.models import Message
from drp.pretraining import CHAT_TEMPLATE
from drp.targets import IGNORED, as_target, check_template, collate, encode, target_text
from drp.weights import load_tokenizer
from tests.tiny import model_at, tiny_student

BARE_TEMPLATE = CHAT_TEMPLATE.replace("<think>\\n' }}", "' }}")
"""R1's older template: a generation prompt that does not open `<think>`."""

HALF_TEMPLATE = CHAT_TEMPLATE.replace("<think>\\n' }}", "<think>' }}")
"""A fork's: `<think>` without its line break."""

QUESTION = (Message("user", "12 + 7 ="),)
TARGET = target_text("12 + 7 = 19.", "The answer is \\boxed{19}.")


@pytest.fixture(params=[CHAT_TEMPLATE, BARE_TEMPLATE, HALF_TEMPLATE], ids=["prefill", "bare", "half"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path):
    return load_tokenizer(model_at(tiny_student(tmp_path / "student", chat_template=request.param)))


def test_prompt_and_response_together_are_the_question_and_the_whole_target_with_one_think(tokenizer) -> None:
    example = encode(tokenizer, QUESTION, TARGET)
    text = tokenizer.decode(example.prompt + example.response)
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    assert text == f"{bos}<｜User｜>12 + 7 =<｜Assistant｜>{TARGET}{eos}"
    assert TARGET == "<think>\n12 + 7 = 19.\n</think>\n\nThe answer is \\boxed{19}."
    assert text.count("<think>") == 1


def test_the_prompt_is_what_generation_starts_from(tokenizer) -> None:
    turns = [{"role": "user", "content": "12 + 7 ="}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert encode(tokenizer, QUESTION, TARGET).prompt == tokenizer.encode(text, add_special_tokens=False)


def test_the_template_would_have_deleted_the_thought(tokenizer) -> None:
    turns = [{"role": "user", "content": "12 + 7 ="}, {"role": "assistant", "content": TARGET}]
    assert "12 + 7 = 19." not in tokenizer.apply_chat_template(turns, tokenize=False)


def test_labels_begin_right_after_the_prompt_end_with_eos_and_skip_padding(tokenizer) -> None:
    short, long = encode(tokenizer, QUESTION, target_text("", "19")), encode(tokenizer, QUESTION, TARGET)
    batch = collate([short, long], pad=tokenizer.pad_token_id)
    for row, example in enumerate((short, long)):
        labels = batch["labels"][row].tolist()
        padding = len(long) - len(example)
        assert labels == [IGNORED] * len(example.prompt) + example.response + [IGNORED] * padding
        assert example.response[-1] == tokenizer.eos_token_id
        assert batch["attention_mask"][row].tolist() == [1] * len(example) + [0] * padding
        assert batch["input_ids"][row].tolist()[: len(example)] == example.prompt + example.response


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("<think>\nI add.\n</think>\n\n19", "<think>\nI add.\n</think>\n\n19"),
        ("I add.\n</think>\n\n19", "<think>\nI add.\n</think>\n\n19"),
        ("I add.</think>19\n", "<think>\nI add.\n</think>\n\n19"),
        ("<think>\n\n</think>\n\n19", "<think>\n\n</think>\n\n19"),
        ("<think>\nI add and add", None),
        ("I add.\n</think>\n\n", None),
        ("", None),
    ],
)
def test_a_target_has_one_shape_or_is_none(text: str, target: str | None) -> None:
    assert as_target(text) == target


def test_a_template_that_ends_turns_otherwise_than_the_tokenizer_is_refused(tmp_path: Path) -> None:
    template = CHAT_TEMPLATE.replace("content + eos_token", "content + '<|im_end|>'")
    tokenizer = load_tokenizer(model_at(tiny_student(tmp_path / "student", chat_template=template)))
    with pytest.raises(ConfigError, match=r"mine: its chat template ends a turn with '<\|im_end\|>', but its tokenizer's EOS is"):
        check_template(tokenizer, "mine")


def test_a_template_that_agrees_with_its_tokenizer_is_accepted(tokenizer) -> None:
    check_template(tokenizer, "mine")
