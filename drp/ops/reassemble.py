"""Puts the surviving steps together as one thought in the student's voice, and says where each sentence comes from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from drp.answering import in_format, short
from drp.assembly import Sentence, assemble, find, verbatim
from drp.insisting import Refused, insist
from drp.op import Dialogue, Dropped, Kept, Model, Outcome, Prompt, Record, Supplies, Talk, Work
from drp.pieces import Piece, pieces
from drp.records import TrailRow, trail_row
from drp.style import Style, measure
from drp.teaching import REASSEMBLE, Draft, Passage, invented_numbers, known_numbers, read_draft

VERSION = 1
NEEDS = ("question", "thought", "steps", "actions")


class Adds(TypedDict):
    """Columns that reassemble adds; `sentences` are spans of `pruned`; `invented`: numbers of it that nothing before held."""

    pruned: str
    sentences: list[Sentence]
    target_reply: str
    target: str
    style: Style
    invented: list[str]


def check(options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The rules between the keys."""
    if (options.get("model") is None) != (options.get("prompt") is None):
        yield "prompt", "model and prompt belong together: give both, or neither to join the steps as they stand"


def reassemble(
    records: Iterable[Record],
    work: Work,
    *,
    model: Model | None = None,
    prompt: Annotated[Prompt, Supplies("question", "reply", "pieces")] | None = None,
    reply: Literal["whole", "short"] = "whole",
    strict_numbers: bool = False,
    repairs: int = 2,
) -> Iterator[Outcome]:
    """Join what edit left: word for word without a model, by the draft of `one_call` where there is one, else by `model`.

    `reply: short` keeps of the student's reply only the part that gives the answer; `strict_numbers` drops a thought with
    numbers that are in neither the thought nor the question; `repairs` is how often a malformed reply is asked for again.
    Dropped: malformed-reply, truncated-reply, no-reply, no-answer, nothing-left, invented-number.
    """
    finish = _Finish(short_reply=reply == "short", strict_numbers=strict_numbers)
    if model is not None and prompt is not None:
        yield from work.ask(model, records, _dialogue(model, prompt, finish, repairs))
        return
    for record in records:
        survivors = _survivors(record)
        yield finish(record, survivors, *(_drafted(record) or (Draft(tuple(verbatim(survivors)), ""), None)))


def _survivors(record: Record) -> list[Piece]:
    return pieces(record["thought"], record["steps"], record["actions"])


def _drafted(record: Record) -> tuple[Draft, str] | None:
    """The draft that edit brought along, and its completion."""
    column = record.get("draft")
    if column is None:
        return None
    passages = tuple(Passage(tuple(p["steps"]), p["text"]) for p in column["passages"])
    return Draft(passages, column["answer"]), column["completion"]


def _dialogue(model: Model, prompt: Prompt, finish: "_Finish", repairs: int) -> Dialogue:
    def talk(record: Record) -> Talk:
        survivors = _survivors(record)
        if drafted := _drafted(record):
            return finish(record, survivors, *drafted)
        shown = [_shown(piece) for piece in survivors]
        messages = prompt.render(question=record["question"], reply=record["reply"] or "", pieces=shown)
        read = lambda text: read_draft(text, survivors, record["thought"])
        heard = yield from insist(model, [(messages, read)], REASSEMBLE, repairs)
        if isinstance(heard, Refused):
            return Dropped(record, heard.reason, heard.detail, heard.reply)
        return finish(record, survivors, heard[0].value, heard[0].completion)

    return talk


def _shown(piece: Piece) -> dict[str, Any]:
    return {"steps": [step + 1 for step in piece.steps], "action": piece.action, "text": piece.text}


class _Finish:
    """Makes the outcome of a record and a draft."""

    def __init__(self, *, short_reply: bool, strict_numbers: bool) -> None:
        self.short_reply, self.strict_numbers = short_reply, strict_numbers

    def __call__(self, record: Record, survivors: Sequence[Piece], draft: Draft, completion: str | None) -> Outcome:
        thought: str = record["thought"]
        pruned, found = assemble(draft.passages, survivors, thought, record["steps"])
        if not pruned:
            return Dropped(record, "nothing-left", "no step survives")
        invented = invented_numbers(pruned, known_numbers([thought, record["question"]]))
        if invented and self.strict_numbers:
            return Dropped(record, "invented-number", ", ".join(invented), pruned)
        reply = in_format(draft.answer, record["reply"] or "")
        if not reply:
            return Dropped(record, "no-answer", "the student gave no reply, and the teacher no answer")
        reply = short(reply) if self.short_reply else reply
        added = Adds(
            pruned=pruned, sentences=found, target_reply=reply, target=f"<think>\n{pruned}\n</think>\n\n{reply}",
            style=measure(thought, pruned, found), invented=invented,
        )  # fmt: skip
        return Kept({**record, **added}, tuple(_trail(record, pruned, found, completion)))


def _trail(record: Record, pruned: str, found: Iterable[Sentence], completion: str | None) -> Iterator[TrailRow]:
    """A row for each sentence and each step that it comes from; a connective has one row, of step -1."""
    for sentence in found:
        output = (sentence["start"], sentence["end"])
        for number in sentence["steps"] or [-1]:
            step = record["steps"][number] if number >= 0 else None
            here = find(pruned[slice(*output)], record["thought"], step) if step else None
            yield trail_row(
                record["id"], number, skill=step and step["skill"], action=sentence["kind"], output=output,
                source=here or (step and (step["start"], step["end"])), completion=completion,
            )  # fmt: skip
