"""The chat template: messages to the token ids that a model continues, and its ids back to text."""

from collections.abc import Sequence
from typing import Any

from drp.errors import BackendError
from drp.models import Message


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The token ids of `messages` under the tokenizer's chat template, up to where the assistant's turn begins.

    BackendError where the tokenizer has no template (a base model, or a GGUF file without one).
    """
    if not tokenizer.chat_template:
        raise BackendError(
            f"{tokenizer.name_or_path}: its tokenizer has no chat template, so messages cannot be put to it; "
            "use an instruction-tuned model, or a folder whose tokenizer has one (chat_template.jinja)"
        )
    turns = [{"role": m.role, "content": m.content} for m in messages]
    return list(tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False))


def reply_text(tokenizer: Any, ids: Sequence[int], ends: set[int]) -> str:
    """The text of generated `ids` without end and padding tokens; other special tokens stay (`</think>` is often one)."""
    unsaid = ends | {tokenizer.pad_token_id}
    said = [i for i in ids if i not in unsaid]
    return str(tokenizer.decode(said, skip_special_tokens=False, clean_up_tokenization_spaces=False))
