"""Training targets: what a student should generate after a prompt, as token ids, and which of them count towards the loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drp.chat import prompt_ids
from drp.errors import ConfigError
from drp.models import Message
from drp.text import split_thought

if TYPE_CHECKING:
    import torch

OPENING = "<think>\n"
CLOSING = "\n</think>\n\n"

LAST = 8
"""Tokens at the end of a prompt that are looked at for an open `<think>`."""

IGNORED = -100
"""The label of a token that does not count towards the loss."""

_PROBE = "an answer that only checks the template"


@dataclass(frozen=True, slots=True)
class Example:
    """One target behind its prompt, as token ids; `response` ends in EOS and is all that the loss sees."""

    prompt: list[int]
    response: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


def target_text(thought: str, answer: str) -> str:
    """The one shape of a target: `<think>`, the thought and `</think>` on lines of their own, a blank line, the answer."""
    return f"{OPENING}{thought}{CLOSING}{answer}"


def as_target(text: str) -> str | None:
    """`text` (a target, or a response whose `<think>` stood in its prompt) in the shape of a target.

    None where its thought is never closed or no answer follows: nothing that a student should learn to say.
    """
    parts = split_thought(text)
    return target_text(parts.thought, parts.reply) if parts.thought is not None and parts.reply else None


def encode(tokenizer: Any, messages: Sequence[Message], target: str) -> Example:
    """The example that teaches to answer `messages` by `target` (in the shape of `target_text`).

    Built by hand: R1's template deletes the thought from an assistant's turn. What the prompt already ends with
    (`<think>` and its line break) is not said again.
    """
    prompt = prompt_ids(tokenizer, messages)
    ending = str(tokenizer.decode(prompt[-LAST:]))
    said = next((part for part in (OPENING, OPENING.strip()) if ending.endswith(part)), "")
    response = tokenizer.encode(target.removeprefix(said), add_special_tokens=False)
    return Example(prompt, [*response, tokenizer.eos_token_id])


def check_template(tokenizer: Any, name: str) -> None:
    """ConfigError where the tokenizer of model `name` has no chat template, no EOS, or a template that ends a turn otherwise.

    A student that is trained on one ending and stopped at another never stops.
    """
    if tokenizer.chat_template is None or tokenizer.eos_token is None:
        lacks = "chat template" if tokenizer.chat_template is None else "EOS token"
        raise ConfigError(f"{name}: its tokenizer has no {lacks}, so there is nothing that a target could be built with")
    turns = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": _PROBE}]
    ending = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition(_PROBE)[2].strip()
    if ending and not ending.startswith(tokenizer.eos_token):
        raise ConfigError(
            f"{name}: its chat template ends a turn with {ending!r}, but its tokenizer's EOS is {tokenizer.eos_token!r}; "
            "a student trained on one and stopped at the other never stops: make them agree in tokenizer_config.json"
        )


def collate(examples: Sequence[Example], pad: int) -> dict[str, "torch.Tensor"]:
    """`input_ids`, `attention_mask` and `labels`, each (examples, longest), padded on the right; prompts have no labels."""
    import torch

    longest = max(len(e) for e in examples)
    room = [longest - len(e) for e in examples]
    ids = [e.prompt + e.response + [pad] * r for e, r in zip(examples, room, strict=True)]
    mask = [[1] * len(e) + [0] * r for e, r in zip(examples, room, strict=True)]
    labels = [[IGNORED] * len(e.prompt) + e.response + [IGNORED] * r for e, r in zip(examples, room, strict=True)]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}
