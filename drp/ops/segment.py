"""Cuts each thought into steps that use one skill each, as spans that cover it exactly."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

from drp.insisting import Messages, Read, Refused, insist
from drp.op import Dialogue, Dropped, Kept, Model, Outcome, Prompt, Record, Supplies, Talk, Work
from drp.pieces import Step
from drp.records import trail_row
from drp.teaching import SEGMENT, read_boundaries
from drp.text import Span, paragraphs, sentences

VERSION = 1
NEEDS = ("question", "thought")


class Adds(TypedDict):
    """Columns that segment adds; `steps` cover `thought` exactly."""

    steps: list[Step]


@dataclass(frozen=True)
class _Window:
    """Sentences `first` to `last` (1-based, both included) that are shown together; its word counts from `own` on."""

    first: int
    last: int
    own: int


def check(options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The rules between the keys."""
    if options.get("by", "skill") == "skill":
        for key in ("model", "prompt"):
            if options.get(key) is None:
                yield key, f"by: skill needs a {key} (by: sentence, paragraph or none needs neither)"
    window, overlap = options.get("window", 60), options.get("overlap", 12)
    if isinstance(window, int) and isinstance(overlap, int) and not 0 <= overlap < window:
        yield "overlap", f"{overlap} must be at least 0 and less than the window ({window})"


def segment(
    records: Iterable[Record],
    work: Work,
    *,
    by: Literal["skill", "sentence", "paragraph", "none"] = "skill",
    model: Model | None = None,
    prompt: Annotated[Prompt, Supplies("question", "sentences", "skills")] | None = None,
    window: int = 60,
    overlap: int = 12,
    repairs: int = 2,
    skills: list[str] | None = None,
) -> Iterator[Outcome]:
    """Cut by skill (asking `model`, `window` sentences at a time), by sentence or paragraph, or not at all.

    `skills` replaces the prompt's own list; `repairs` is how often a malformed reply is asked for again.
    Dropped: no-thought, malformed-reply, truncated-reply, no-reply.
    """
    if by == "skill" and model is not None and prompt is not None:
        yield from work.ask(model, records, _dialogue(model, prompt, skills or [], (window, overlap), repairs))
        return
    for record in records:
        yield _cut(record, by) if record["thought"] else _thoughtless(record)


def _thoughtless(record: Record) -> Dropped:
    return Dropped(record, "no-thought", "the response has no closed thought, or an empty one")


def _cut(record: Record, by: str) -> Kept:
    """Steps that need no teacher; their skill is the way they were cut."""
    thought: str = record["thought"]
    spans = {"sentence": sentences, "paragraph": paragraphs}[by](thought) if by != "none" else [(0, len(thought))]
    return _kept(record, [Step(start=a, end=b, skill=by) for a, b in spans], [None] * len(spans))


def _kept(record: Record, steps: list[Step], completions: Sequence[str | None]) -> Kept:
    trail = [
        trail_row(record["id"], number, skill=step["skill"], source=(step["start"], step["end"]), completion=completion)
        for number, (step, completion) in enumerate(zip(steps, completions, strict=True))
    ]
    return Kept({**record, "steps": steps}, tuple(trail))


def _dialogue(model: Model, prompt: Prompt, skills: list[str], shape: tuple[int, int], repairs: int) -> Dialogue:
    def talk(record: Record) -> Talk:
        if not record["thought"]:
            return _thoughtless(record)
        spans = sentences(record["thought"])
        windows = _windows(len(spans), *shape)
        questions = [(_messages(record, prompt, skills, spans, window), _reader(window)) for window in windows]
        heard = yield from insist(model, questions, SEGMENT, repairs)
        if isinstance(heard, Refused):
            return Dropped(record, heard.reason, heard.detail, heard.reply)
        ends = _merged(windows, [(h.value, h.completion) for h in heard])
        starts = [0, *(spans[number - 1][1] for number, _, _ in ends[:-1])]
        steps = [Step(start=a, end=spans[n - 1][1], skill=skill) for a, (n, skill, _) in zip(starts, ends, strict=True)]
        return _kept(record, steps, [completion for _, _, completion in ends])

    return talk


def _reader(window: _Window) -> Read[list[tuple[int, str]]]:
    return lambda reply: read_boundaries(reply, window.first, window.last)


def _messages(record: Record, prompt: Prompt, skills: list[str], spans: Sequence[Span], window: _Window) -> Messages:
    shown = [_shown(record["thought"], number, spans[number - 1]) for number in range(window.first, window.last + 1)]
    return prompt.render(question=record["question"], sentences=shown, skills=skills)


def _shown(thought: str, number: int, span: Span) -> dict[str, Any]:
    """A sentence as the prompt shows it; the end of a paragraph leaves an empty line."""
    text = thought[slice(*span)]
    return {"number": number, "text": text.strip() + ("\n" if text.count("\n", len(text.rstrip())) > 1 else "")}


def _windows(count: int, size: int, overlap: int) -> list[_Window]:
    """Windows over sentences 1 to `count`. Of two that overlap, each decides the half of the overlap that is further inside."""
    found = [_Window(1, min(size, count), 1)]
    while found[-1].last < count:
        first = found[-1].last - overlap + 1
        found.append(_Window(first, min(first + size - 1, count), first + overlap // 2))
    return found


def _merged(windows: Sequence[_Window], replies: Sequence[tuple[list[tuple[int, str]], str]]) -> list[tuple[int, str, str]]:
    """(last sentence, skill, completion) of every step of the whole thought."""
    ends: list[tuple[int, str, str]] = []
    for place, (window, (boundaries, completion)) in enumerate(zip(windows, replies, strict=True)):
        until = windows[place + 1].own if place + 1 < len(windows) else window.last + 1
        ends += [(number, skill, completion) for number, skill in boundaries if window.own <= number < until]
    return ends
