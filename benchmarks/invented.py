"""Invented records: what each says and what becomes of it is a function of a seed and its number, for many at once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from drp.records import DroppedRow, TrailRow, arrow, as_json, schema_of

Ints = np.ndarray[Any, np.dtype[Any]]

STAGES = ("questions", "traces", "correct", "steps", "edits", "pruned", "targets", "adapter")
"""The stages that a record goes through, until one drops it."""
FATES = (
    (10, "traces", "no-completion"), (60, "correct", "truncated"), (90, "correct", "no-answer"), (310, "correct", "wrong-answer"),
    (330, "steps", "malformed-reply"), (350, "edits", "malformed-reply"), (360, "pruned", "no-reply"),
    (390, "targets", "wrong-answer"), (400, "adapter", "too-long"),
)  # fmt: skip
"""Of ten thousand records, those up to the number that no line above has taken are dropped there, for that reason."""

LEAST, MOST = 6, 18
"""Steps of a trace."""
SKILLS = (
    ("reading", "The problem speaks of ", " of the one and ", " of the other, which I write as "),
    ("planning", "First I will take ", ", then look at ", ", and last of all come to "),
    ("recall", "I remember that ", " goes with ", ", as in the case of "),
    ("equation", "So the equation is ", " + ", " = "),
    ("arithmetic", "Adding them, ", " plus ", " gives "),
    ("comparison", "Of the two, ", " is to be held against ", ", apart by "),
    ("inference", "Therefore with ", " and ", " there must be "),
    ("verification", "Let me check that again: ", " × 1 + ", " is still "),
    ("hedging", "Hmm, is it really ", " and not ", ", or perhaps even "),
    ("answer", "That makes, with ", " and ", ", a total of "),
)
"""A skill, and the sentence that uses it, around three numbers."""
AGAIN = ("Yes, it is ", "Wait, I find once more ", "So it must be ", "In other words, we have ")
LINKS = ("Now on to the next part.", "With that settled, let me go on.", "This brings me to what follows.", "So far, so good.")
ACTIONS = ("keep", "delete", "rewrite", "merge")
KEEP, DELETE, REWRITE, MERGE = range(4)
REASONS = (
    ("carries the derivation", "gives the answer"),
    ("says a result again", "hesitates or talks to itself", "announces what the next one does"),
    ("without a part that says again what was said",),
    ("two halves of one thought",),
)
"""The reasons that an action can have."""
KINDS = ("verbatim", "rewritten", "merged", "connective")
GAP = "\n\n"
EPOCHS, BATCH = 3, 8
STRIDE = 1_000_003
"""A prime: it scatters numbers over places."""


@dataclass(frozen=True)
class Corpus:
    """How many records, from which seed; `out_of`: of how many the shares of FATES are (fewer: more is dropped)."""

    records: int
    seed: int = 0
    out_of: int = 10_000

    def draw(self, what: str, number: Ints, step: Ints | int = 0) -> Ints:
        """Random 64 bits for each record (and step): a hash of seed, purpose and place."""
        salt = np.uint64((self.seed * 1_000_003 + int.from_bytes(what.encode()[:7], "big")) % 2**64)
        x = number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.asarray(step, np.uint64) * np.uint64(0xD1B54A32D192ED03)
        x ^= np.full_like(x, salt) * np.uint64(0x94D049BB133111EB)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        found: Ints = x ^ (x >> np.uint64(31))
        return found

    def below(self, limit: int, what: str, number: Ints, step: Ints | int = 0) -> Ints:
        """Random integers from 0 to less than `limit`."""
        return (self.draw(what, number, step) % np.uint64(limit)).astype(np.int64)

    def ids(self, number: Ints) -> pa.Array:
        """The ids of questions, rising with their numbers."""
        width = np.uint64(2**64 // self.records)
        return _hex(number.astype(np.uint64) * width + self.draw("id", number) % width)

    def number(self, record: str) -> int:
        """The number of the record (or question) of an id."""
        return int(record[:16], 16) // (2**64 // self.records)

    def completions(self, stage: str, number: Ints) -> pa.Array:
        """The keys of the completions that a stage took: 64 hex digits."""
        parts = [_hex(self.draw(f"{stage[:5]}{part}", number)) for part in range(4)]
        return pc.binary_join_element_wise(*parts, "")

    def end(self, number: Ints) -> Ints:
        """The place in FATES of what ends each record's way; len(FATES) where nothing does."""
        found: Ints = np.searchsorted([share for share, _, _ in FATES], self.below(self.out_of, "fate", number), side="right")
        return found

    def last(self, number: Ints) -> Ints:
        """The place in STAGES of the stage that drops each record; len(STAGES) where it goes all the way."""
        places = [STAGES.index(stage) for _, stage, _ in FATES]
        found: Ints = np.array([*places, len(STAGES)])[self.end(number)]
        return found

    @cached_property
    def trained(self) -> Ints:
        """The numbers of the records that are trained on, rising."""
        everyone = np.arange(self.records)
        found: Ints = everyone[self.last(everyone) == len(STAGES)]
        return found

    def seen(self, number: Ints) -> Ints:
        """The optimiser steps (from 1) that saw each trained record, one row a record, one column an epoch."""
        size = len(self.trained)
        place = np.searchsorted(self.trained, number)
        steps = -(-size // BATCH)
        scattered = [(place * STRIDE + epoch * 17) % size // BATCH for epoch in range(EPOCHS)]
        return np.stack([epoch * steps + 1 + s for epoch, s in enumerate(scattered)], axis=1)


def _hex(values: Ints) -> pa.Array:
    """Sixteen hex digits for each number."""
    digits = pa.py_buffer(values.astype(">u8").tobytes().hex().encode())
    offsets = pa.py_buffer(np.arange(0, 16 * len(values) + 1, 16, dtype=np.int32).tobytes())
    return pa.StringArray.from_buffers(len(values), offsets, digits)


def _text(values: Ints) -> pa.Array:
    return pc.cast(arrow().array(values), pa.string())


def _pick(texts: Any, places: Ints) -> pa.Array:
    return pa.array(list(texts), pa.string()).take(pa.array(places))


def _joined(*parts: Any) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _lengths(texts: pa.Array) -> Ints:
    found: Ints = pc.utf8_length(texts).to_numpy().astype(np.int64)
    return found


def _offsets(counts: Ints) -> Ints:
    return np.concatenate(([0], np.cumsum(counts)))


def _starts(lengths: Ints, offsets: Ints) -> Ints:
    """Where each part begins in its record, of parts that follow on one another."""
    whole = _offsets(lengths)
    starts: Ints = whole[:-1] - np.repeat(whole[offsets[:-1]], np.diff(offsets))
    return starts


def _list(offsets: Ints, values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _struct(**columns: Any) -> pa.Array:
    arrays = [pa.array(c) if isinstance(c, np.ndarray) else c for c in columns.values()]
    return pa.StructArray.from_arrays(arrays, list(columns))


def _maybe(values: Ints, known: Ints) -> pa.Array:
    return pa.array(values, pa.int64(), mask=~known)


def _nulls(size: int, kind: Any = None) -> pa.Array:
    return pa.nulls(size, kind or pa.string())


class Chunk:
    """Some records (by their numbers, rising), as columns; what is not asked for is not made."""

    def __init__(self, corpus: Corpus, number: Ints) -> None:
        self.corpus, self.number, self.size = corpus, number, len(number)
        arrow()

    # -- questions and traces ----------------------------------------------------------------------------------------------

    @cached_property
    def questions(self) -> dict[str, Any]:
        """The columns of `load`."""
        corpus, number, size = self.corpus, self.number, self.size
        first, second = (_text(corpus.below(90_000, what, number) + 12) for what in ("first", "second"))
        who = _pick(("Ada", "Ben", "Chloé", "Dmitri", "Esi", "Fatima"), corpus.below(6, "who", number))
        question = _joined(
            "Problem ", _text(number), ": ", who, " counts ", first, " shells on the first day and ", second,
            " on the second, and gives some of them away to friends in the evening. How many are there in the end?",
        )  # fmt: skip
        return {
            "id": corpus.ids(number), "question": question, "answer": _text(self.answer), "solution": _nulls(size),
            "source": _pick(("sources/questions.jsonl",), np.zeros(size, np.int64)), "revision": _nulls(size),
            "split": _nulls(size), "row": _text(self.row), "family": _nulls(size),
        }  # fmt: skip

    @property
    def answer(self) -> Ints:
        """The gold answers."""
        return self.corpus.below(180_000, "gold", self.number) + 24

    @property
    def row(self) -> Ints:
        """Where each question stands in the source."""
        return (self.number * STRIDE + 7) % self.corpus.records

    @cached_property
    def count(self) -> Ints:
        """Steps of each record."""
        return LEAST + self.corpus.below(MOST - LEAST + 1, "count", self.number)

    @cached_property
    def reason(self) -> pa.Array:
        """Why each record ends; null where it does not."""
        return pa.array([*(reason for _, _, reason in FATES), None]).take(pa.array(self.corpus.end(self.number)))

    @cached_property
    def reply(self) -> pa.Array:
        """What the student answers."""
        wrong = pc.fill_null(pc.equal(self.reason, "wrong-answer"), False).to_numpy(zero_copy_only=False)
        early = wrong & (self.corpus.last(self.number) == STAGES.index("correct"))
        said = _joined("The answer is \\boxed{", _text(self.answer + early), "}.")
        said = pc.if_else(pc.fill_null(pc.equal(self.reason, "no-answer"), False), "I am not sure about that at all.", said)
        return pc.if_else(self.cut, pa.scalar(None, pa.string()), said)

    @cached_property
    def cut(self) -> pa.Array:
        """Whether a trace was cut off before its thought closed."""
        return pc.fill_null(pc.equal(self.reason, "truncated"), False)

    @cached_property
    def traces(self) -> dict[str, Any]:
        """The columns that `generate` adds."""
        whole = _joined(self.thought, "\n</think>\n\n", pc.fill_null(self.reply, ""))
        return {
            "id": _joined(self.questions["id"], "/000"), "sample": pa.array(np.zeros(self.size, np.int64)),
            "seed": pa.array((self.corpus.draw("seed", self.number) >> np.uint64(1)).astype(np.int64)),
            "response": pc.if_else(self.cut, self.thought, whole),
            "thought": pc.if_else(self.cut, pa.scalar(None, pa.string()), self.thought), "reply": self.reply,
            "finish": pc.if_else(self.cut, "length", "stop"), "tokens": pa.array(self.count * 14 + 12),
            "completion": self.corpus.completions("traces", self.number),
        }  # fmt: skip

    @cached_property
    def verdicts(self) -> dict[str, Any]:
        """The columns of the first `verify`."""
        right = pa.array(self.corpus.last(self.number) != STAGES.index("correct"))
        verdict = pc.if_else(right, "right", pc.if_else(pc.equal(self.reason, "wrong-answer"), "wrong", self.reason))
        known = pc.is_in(verdict, pa.array(["right", "wrong"]))
        said = _text(self.answer + ~right.to_numpy(zero_copy_only=False))
        return {"prediction": pc.if_else(known, said, pa.scalar(None, pa.string())), "correct": right, "verdict": verdict}

    # -- steps -------------------------------------------------------------------------------------------------------------

    @cached_property
    def offsets(self) -> Ints:
        """Where each record's steps begin among all steps."""
        return _offsets(self.count)

    @cached_property
    def owner(self) -> Ints:
        """The place of each step's record in this chunk."""
        return np.repeat(np.arange(self.size), self.count)

    @cached_property
    def step(self) -> Ints:
        """Each step's number in its record."""
        found: Ints = np.arange(self.offsets[-1]) - np.repeat(self.offsets[:-1], self.count)
        return found

    def below(self, limit: int, what: str) -> Ints:
        """Random integers, one a step."""
        return self.corpus.below(limit, what, self.number[self.owner], self.step)

    @cached_property
    def final(self) -> Ints:
        """Whether a step is its record's last."""
        found: Ints = self.step == self.count[self.owner] - 1
        return found

    @cached_property
    def skill(self) -> Ints:
        """Each step's skill; the last one answers."""
        return np.where(self.final, len(SKILLS) - 1, self.below(len(SKILLS) - 1, "skill"))

    @cached_property
    def skills(self) -> pa.Array:
        """The same as text."""
        return _pick((skill for skill, *_ in SKILLS), self.skill)

    @cached_property
    def said(self) -> tuple[pa.Array, pa.Array, pa.Array, pa.Array]:
        """Of each step: its first sentence, its second (if it has one: `double`), how it is rewritten, how it is merged."""
        a, b = self.below(97_000, "a") + 3, self.below(97_000, "b") + 3
        one, two, three = _text(a), _text(b), _text(a + b)
        lead, join, then = (_pick((words[part] for words in SKILLS), self.skill) for part in (1, 2, 3))
        first = _joined(lead, one, join, two, then, three, ".")
        second = _joined(_pick(AGAIN, self.below(len(AGAIN), "again")), three, ".")
        return first, second, _joined(one, " and ", two, " make ", three, "."), _joined("Taken together, that is ", three, ".")

    @cached_property
    def double(self) -> Ints:
        """Whether a step has two sentences."""
        found: Ints = self.below(4, "double") == 0
        return found

    @cached_property
    def source(self) -> pa.Array:
        """Each step's text, with the blank space behind it."""
        first, second, _, _ = self.said
        more = pc.if_else(pa.array(self.double), _joined(" ", second), "")
        return _joined(first, more, _pick((GAP, ""), self.final.astype(np.int64)))

    @cached_property
    def spans(self) -> tuple[Ints, Ints]:
        """Each step's [start, end) in the thought."""
        lengths = _lengths(self.source)
        starts = _starts(lengths, self.offsets)
        return starts, starts + lengths

    @cached_property
    def thought(self) -> pa.Array:
        """The thoughts."""
        return pc.binary_join(_list(self.offsets, self.source), "")

    @property
    def steps(self) -> dict[str, Any]:
        """The column of `segment`."""
        start, end = self.spans
        return {"steps": _list(self.offsets, _struct(start=start, end=end, skill=self.skills))}

    # -- actions -----------------------------------------------------------------------------------------------------------

    @cached_property
    def merged(self) -> Ints:
        """Steps of the merge that begins at a step: 0, 2 or 3. Its first is 1, 4, 7, …; a record's first and last are kept."""
        drawn = self.below(10, "merge")
        fits = (self.step % 3 == 1) & (self.step + 3 < self.count[self.owner])
        return np.where(fits & (drawn < 3), 2 + (drawn == 0), 0)

    @cached_property
    def into(self) -> Ints:
        """The first step of the merge that a step belongs to; -1 where it belongs to none."""
        found = np.full(len(self.step), -1)
        for behind in range(3):
            heads = np.flatnonzero(self.merged > behind)
            found[heads + behind] = self.step[heads]
        return found

    @cached_property
    def action(self) -> Ints:
        """What is done to each step."""
        drawn = self.below(100, "act")
        alone = np.select([drawn < 58, drawn < 88], [KEEP, DELETE], REWRITE)
        alone = np.where((self.step == 0) | self.final, KEEP, alone)
        return np.where(self.into >= 0, MERGE, alone)

    @cached_property
    def why(self) -> pa.Array:
        """The reason of each action."""
        table = [reasons[place % len(reasons)] for reasons in REASONS for place in range(6)]
        return _pick(table, self.action * 6 + self.below(6, "why"))

    @property
    def edits(self) -> dict[str, Any]:
        """The columns of `edit`."""
        _, _, rewritten, merged = self.said
        nothing = pa.scalar(None, pa.string())
        text = pc.if_else(pa.array(self.merged > 0), merged, nothing)
        text = pc.if_else(pa.array(self.action == REWRITE), rewritten, text)
        flags = _list(np.zeros(len(self.step) + 1, np.int64), pa.array([], pa.string()))
        actions = _struct(step=self.step, action=_pick(ACTIONS, self.action), text=text, reason=self.why,
                          into=_maybe(self.into, self.into >= 0), flags=flags)  # fmt: skip
        return {"actions": _list(self.offsets, actions)}

    # -- sentences ---------------------------------------------------------------------------------------------------------

    @cached_property
    def sentences(self) -> "Sentences":
        """The pruned thoughts' sentences."""
        return Sentences(self)

    @property
    def pruned(self) -> dict[str, Any]:
        """The columns of `reassemble`."""
        found = self.sentences
        pruned = pc.binary_join(_list(found.offsets, found.text), "")
        steps = _list(found.step_offsets, pa.array(found.step[found.has_step]))
        kept = np.bincount(found.owner, weights=np.where(found.kind == 0, found.end - found.start, 0), minlength=self.size)
        words = [pc.add(pc.add(pc.count_substring(t, " "), pc.count_substring(t, GAP)), 1) for t in (pruned, self.thought)]
        style = _struct(
            verbatim=np.round(kept / _lengths(pruned), 4), markers=np.full(self.size, 4.5),
            markers_before=np.full(self.size, 6.25), words=words[0].cast(pa.int64()), words_before=words[1].cast(pa.int64()),
        )  # fmt: skip
        spans = _struct(start=found.start, end=found.end, kind=_pick(KINDS, found.kind), steps=steps)
        return {
            "pruned": pruned, "sentences": _list(found.offsets, spans), "target_reply": self.reply,
            "target": _joined("<think>\n", pruned, "\n</think>\n\n", self.reply), "style": style,
            "invented": _list(np.zeros(self.size + 1, np.int64), pa.array([], pa.string())),
        }  # fmt: skip

    @property
    def adapter(self) -> dict[str, Any]:
        """The ledger of `sft`."""
        steps = self.corpus.seen(self.number)
        return {
            "id": self.traces["id"], "n_tokens": pa.array(self.count * 9 + 60), "n_trained_tokens": pa.array(self.count * 9 + 12),
            "steps_seen": _list(np.arange(self.size + 1) * EPOCHS, pa.array(steps.ravel())),
            "nll_target_before": _nulls(self.size, pa.float64()), "nll_raw_before": _nulls(self.size, pa.float64()),
        }  # fmt: skip

    # -- tables ------------------------------------------------------------------------------------------------------------

    def columns(self, stage: str) -> dict[str, Any]:
        """All columns of a stage's records."""
        if stage == "adapter":
            return self.adapter
        parts = {"questions": "questions", "traces": "traces", "correct": "verdicts", "steps": "steps", "edits": "edits",
                 "pruned": "pruned", "targets": ""}  # fmt: skip
        found: dict[str, Any] = {}
        for name in STAGES[: STAGES.index(stage) + 1]:
            found |= getattr(self, parts[name]) if parts[name] else {}
        return found

    def table(self, stage: str, schema: pa.Schema) -> pa.Table:
        """The records of a stage."""
        found = self.columns(stage)
        arrays = [found[f.name] if f.name in found else _nulls(self.size, f.type) for f in schema]
        return pa.Table.from_arrays([_cast(a, f.type) for a, f in zip(arrays, schema, strict=True)], schema=schema)

    def dropped(self, stage: str) -> pa.Table:
        """The records of this chunk as the stage refused them."""
        before = {"traces": "questions", "correct": "correct"}.get(stage, STAGES[STAGES.index(stage) - 1])
        columns = self.columns(before) | ({"id": self.traces["id"]} if stage == "traces" else {})
        records = pa.table(columns).to_pylist() if self.size else []
        rows = [
            DroppedRow(id=record["id"], stage=stage, reason=reason, detail=f"{reason}: record {number}", reply="",
                       record=as_json(record))
            for record, reason, number in zip(records, self.reason.to_pylist(), self.number, strict=True)
        ]  # fmt: skip
        return pa.Table.from_pylist(rows, schema=schema_of(DroppedRow))

    def trail(self, stage: str) -> pa.Table | None:
        """The stage's trail; None where its op writes none."""
        if stage == "pruned":
            return self.sentences.trail()
        if stage not in ("steps", "edits"):
            return None
        size, (start, end) = len(self.step), self.spans
        edited = stage == "edits"
        columns = {
            "action": _pick(ACTIONS, self.action) if edited else _nulls(size), "reason": self.why if edited else _nulls(size),
            "src_start": pa.array(start), "src_end": pa.array(end),
            "out_start": _nulls(size, pa.int64()), "out_end": _nulls(size, pa.int64()),
        }  # fmt: skip
        return self.rows(stage, self.owner, pa.array(self.step), self.skills, columns)

    def rows(self, stage: str, owner: Ints, step: pa.Array, skill: pa.Array, columns: dict[str, Any]) -> pa.Table:
        """Trail rows; `owner` is the place of each row's record."""
        whole = {
            "record": self.traces["id"].take(pa.array(owner)), "step": step, "skill": skill, **columns,
            "parents": _list(np.zeros(len(owner) + 1, np.int64), pa.array([], pa.string())),
            "completion": self.corpus.completions(stage, self.number).take(pa.array(owner)),
        }  # fmt: skip
        schema = schema_of(TrailRow)
        return pa.Table.from_arrays([whole[name] for name in schema.names], schema=schema)


def _cast(values: Any, kind: pa.DataType) -> Any:
    return values if values.type == kind else values.cast(kind)


class Sentences:
    """The sentences of the pruned thoughts of a chunk, flat: of each surviving step a connective before it (one in ten),
    its first sentence (or what it was made), and its second."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk
        size = len(chunk.step)
        survives = (chunk.action == KEEP) | (chunk.action == REWRITE) | (chunk.merged > 0)
        linked = survives & (chunk.step > 0) & (chunk.below(10, "link") == 0)
        doubled = (chunk.action == KEEP) & chunk.double
        flat = np.flatnonzero(np.stack([linked, survives, doubled], axis=1).ravel())
        at, part = flat // 3, flat % 3  # which step, which of its three
        self.at, self.owner = at, chunk.owner[at]
        first, second, rewritten, merged = chunk.said
        main = pc.if_else(pa.array(chunk.action == REWRITE), rewritten, pc.if_else(pa.array(chunk.merged > 0), merged, first))
        links = _pick(LINKS, chunk.below(len(LINKS), "which"))
        bare = pa.chunked_array([links, main, second]).combine_chunks().take(pa.array(part * size + at))
        tight = (part == 0) | ((part == 1) & doubled[at])
        gap = np.where(tight, 0, np.where(chunk.final[at], 1, 2))
        self.text = _joined(bare, _pick((" ", "", GAP), gap))
        self.counts = np.bincount(self.owner, minlength=chunk.size)
        self.offsets = _offsets(self.counts)
        lengths = _lengths(self.text)
        self.start = _starts(lengths, self.offsets)
        self.end = self.start + lengths
        kind = np.where(chunk.action == REWRITE, 1, np.where(chunk.merged > 0, 2, 0))[at]
        self.kind = np.where(part == 0, 3, kind)
        # one row for each sentence and each of its steps
        rows = np.where(self.kind == 2, chunk.merged[at], 1)
        self.row = np.repeat(np.arange(len(at)), rows)
        behind = np.arange(len(self.row)) - np.repeat(_offsets(rows)[:-1], rows)
        self.has_step = (self.kind != 3)[self.row]
        self.place = at[self.row] + behind  # among all steps
        self.step = chunk.step[self.place]
        self.step_offsets = _offsets(np.where(self.kind == 3, 0, rows))
        inner = _lengths(first)[at]
        start, end = chunk.spans
        copied = (self.kind == 0)[self.row]
        later = (part == 2)[self.row]
        here = start[self.place] + np.where(later, inner[self.row] + 1, 0)
        self.source = (
            np.where(copied, here, start[self.place]),
            np.where(copied, here + _lengths(bare)[self.row], end[self.place]),
        )

    def trail(self) -> pa.Table:
        """Its rows of the trail."""
        chunk, known = self.chunk, self.has_step
        skill = pc.if_else(pa.array(known), chunk.skills.take(pa.array(self.place)), pa.scalar(None, pa.string()))
        columns = {
            "action": _pick(KINDS, self.kind[self.row]), "reason": _nulls(len(self.row)),
            "src_start": _maybe(self.source[0], known), "src_end": _maybe(self.source[1], known),
            "out_start": pa.array(self.start[self.row]), "out_end": pa.array(self.end[self.row]),
        }  # fmt: skip
        step = pa.array(np.where(known, self.step, -1))
        return chunk.rows("pruned", self.owner[self.row], step, skill, columns)
