"""Decides for every step whether it is kept, deleted, rewritten or merged, as one checked record of actions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypedDict

from drp.insisting import Refused, Understood, insist
from drp.op import Dialogue, Dropped, Kept, Model, Outcome, Prompt, Record, Supplies, Talk, Work
from drp.pieces import Action, Step, pieces
from drp.records import trail_row
from drp.teaching import ACTIONS, EDIT, EDIT_REASSEMBLE, Draft, Material, read_actions, read_draft
from drp.text import final_answer

VERSION = 1
NEEDS = ("question", "thought", "steps")


class DraftPassage(TypedDict):
    """A passage of a draft; see `drp.teaching.Passage`."""

    steps: list[int]
    text: str | None


class DraftColumn(TypedDict):
    """The teacher's pruned thought, for reassemble, where edit asked for both in one call."""

    passages: list[DraftPassage]
    answer: str
    completion: str


class Adds(TypedDict):
    """Columns that edit adds: one action a step, in order; a draft only with `one_call`."""

    actions: list[Action]
    draft: DraftColumn | None


def check(options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The rules between the keys."""
    allowed = options.get("actions")
    if isinstance(allowed, list):
        if strange := [name for name in allowed if name not in ACTIONS]:
            yield "actions", f"{strange[0]!r} is not an action ({', '.join(ACTIONS)})"
        if "keep" not in allowed:
            yield "actions", "keep must be among the actions: without it no step could survive as it is"


def edit(
    records: Iterable[Record],
    work: Work,
    *,
    model: Model,
    prompt: Annotated[Prompt, Supplies("question", "reply", "answer", "steps", "actions")],
    actions: list[str] | None = None,
    one_call: bool = False,
    strict_numbers: bool = False,
    repairs: int = 2,
) -> Iterator[Outcome]:
    """Ask `model` for one action per step and hold its reply against the steps.

    `actions` is the list of allowed ones (all four); `one_call` asks for the pruned thought in the same reply (with the
    prompt edit-reassemble); `strict_numbers` refuses numbers that are in neither the steps nor the question instead of only
    flagging them; `repairs` is how often a malformed reply is asked for again.
    Dropped: malformed-reply, truncated-reply, no-reply, invented-number.
    """
    yield from work.ask(model, records, _dialogue(model, prompt, actions or list(ACTIONS), one_call, strict_numbers, repairs))


def _dialogue(
    model: Model, prompt: Prompt, allowed: Sequence[str], one_call: bool, strict_numbers: bool, repairs: int
) -> Dialogue:
    def talk(record: Record) -> Talk:
        material = _material(record)

        def read(reply: str) -> tuple[list[Action], Draft | None]:
            found = read_actions(reply, material, allowed, strict_numbers)
            survivors = pieces(record["thought"], record["steps"], found)
            return found, read_draft(reply, survivors, record["thought"]) if one_call else None

        messages = prompt.render(
            question=record["question"], reply=record["reply"] or "", answer=material.answer or "",
            steps=_shown(record["steps"], material.texts), actions=list(allowed),
        )  # fmt: skip
        heard = yield from insist(model, [(messages, read)], EDIT_REASSEMBLE if one_call else EDIT, repairs)
        if isinstance(heard, Refused):
            return Dropped(record, heard.reason, heard.detail, heard.reply)
        return _kept(record, heard[0])

    return talk


def _material(record: Record) -> Material:
    """What the teacher sees; the answer is what the student gave, right or wrong: its reply where that has no short one."""
    thought: str = record["thought"]
    texts = tuple(thought[step["start"] : step["end"]].strip() for step in record["steps"])
    reply = record["reply"] or ""
    return Material(texts, record["question"], final_answer(reply) or final_answer(thought) or reply or None)


def _shown(steps: Sequence[Step], texts: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"number": number, "skill": step["skill"], "text": text}
        for number, (step, text) in enumerate(zip(steps, texts, strict=True), start=1)
    ]


def _kept(record: Record, heard: Understood[tuple[list[Action], Draft | None]]) -> Kept:
    actions, draft = heard.value
    trail = [
        trail_row(
            record["id"], action["step"], skill=step["skill"], action=action["action"], reason=action["reason"],
            source=(step["start"], step["end"]), completion=heard.completion,
        )
        for action, step in zip(actions, record["steps"], strict=True)
    ]  # fmt: skip
    return Kept({**record, "actions": actions, "draft": _column(draft, heard.completion)}, tuple(trail))


def _column(draft: Draft | None, completion: str) -> DraftColumn | None:
    if draft is None:
        return None
    passages = [DraftPassage(steps=list(p.steps), text=p.text) for p in draft.passages]
    return DraftColumn(passages=passages, answer=draft.answer, completion=completion)
