"""rules: the offline teacher; no model, no network, deterministic, and honest about being rules."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from drp.backends import Answer, Ask, Backend, pull
from drp.models import Completion, Message, Model
from drp.rules.editing import edit
from drp.rules.material import Numbered, Remaining, actions_of, block, pieces_of, sentences_of, steps_of
from drp.rules.reassembling import reassemble
from drp.rules.segmenting import segment

VERSION = 1
SERVED = "rules"
BURST = 64


class RulesBackend:
    """Answers each request at once with `reply`."""

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """Answer in the order of the asks, up to BURST of them at a time."""
        while True:
            burst, ended = pull(asks, BURST)
            if burst or not ended:
                yield [Answer(ask.ticket, _completion(ask)) for ask in burst]
            if ended:
                return


def connect(model: Model) -> Backend:
    """The rules teacher; nothing of the model but its identity matters to it."""
    return RulesBackend()


def _completion(ask: Ask) -> Completion:
    """The answer, or a failed one where the prompt holds no material. Tokens are counted as words: rules have none."""
    messages = ask.request.messages
    size = sum(len(m.content.split()) for m in messages)
    try:
        text = reply(messages, ask.request.schema)
    except LookupError as error:
        return Completion("", "error", prompt_tokens=size, served=SERVED, error=str(error))
    return Completion(text, "stop", prompt_tokens=size, completion_tokens=len(text.split()), served=SERVED)


def reply(messages: Sequence[Message], schema: dict[str, Any] | None) -> str:
    """The JSON that a good teacher would reply, by rules alone.

    The task is the schema's title (segment, edit, reassemble, edit-reassemble); without a schema, what the blocks of the
    prompt show. LookupError where the prompt holds no material for it.
    """
    task = (schema or {}).get("title") or _task(messages)
    if task == "segment":
        value: dict[str, Any] = {"steps": segment(sentences_of(_block(messages, "sentences")))}
    elif task == "reassemble":
        value = reassemble(pieces_of(_block(messages, "edited")), block(messages, "reply") or "")
    elif task in ("edit", "edit-reassemble"):
        value = _edited(messages, both=task == "edit-reassemble")
    else:
        raise LookupError(f"the rules teacher has no rules for {task!r} (segment, edit, reassemble, edit-reassemble)")
    return json.dumps(value, ensure_ascii=False)


def _task(messages: Sequence[Message]) -> str | None:
    if block(messages, "sentences") is not None:
        return "segment"
    if block(messages, "edited") is not None:
        return "reassemble"
    if block(messages, "steps") is None:
        return None
    return "edit-reassemble" if any('"passages"' in m.content for m in messages) else "edit"


def _block(messages: Sequence[Message], name: str) -> str:
    found = block(messages, name)
    if not found:
        raise LookupError(f"the prompt holds no <{name}> block with something in it, on lines of its own")
    return found


def _edited(messages: Sequence[Message], *, both: bool) -> dict[str, Any]:
    steps = steps_of(_block(messages, "steps"))
    answer = block(messages, "answer") or None
    actions = edit(steps, block(messages, "question") or "", answer, actions_of(messages))
    if not both:
        return {"actions": actions}
    return {"actions": actions, **reassemble(_remaining(steps, actions), answer or "")}


def _remaining(steps: Sequence[Numbered], actions: Sequence[dict[str, Any]]) -> list[Remaining]:
    """What the actions leave, as the reassemble prompt would show it."""
    groups: dict[int, list[int]] = {}
    for action in actions:
        if action["action"] != "delete":
            groups.setdefault(action["into"] or action["step"], []).append(action["step"])
    texts = {step.number: step.text for step in steps} | {a["step"]: a["text"] for a in actions if a["text"]}
    return [Remaining(tuple(group), texts[first]) for first, group in groups.items()]
