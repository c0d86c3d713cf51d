"""What the columns of drp's ops hold, told as formats ask for it: in words, and by the columns that each was made from."""

from collections.abc import Iterable
from typing import get_type_hints

from drp.errors import ConfigError
from drp.lineage.graph import Node
from drp.ops import get
from drp.project import Project

HOLDS = {
    "id": "The record's id: a path, `<question>` or `<question>/<sample>`.",
    "question": "The question, as the source has it.",
    "answer": "The gold answer.",
    "solution": "The worked solution of the source, where it has one.",
    "source": "The source that the question came from.",
    "revision": "What pins the source: a commit of the hub, or the version of a generator.",
    "split": "The split of the source.",
    "row": "The row's own key in the source.",
    "family": "The kind of question: the generator that made it.",
    "sample": "The number of the sample among those of its question.",
    "seed": "The seed of the sample's random stream.",
    "response": "All that the student generated.",
    "thought": "The student's chain of thought, before the last `</think>`; null where it never closed.",
    "reply": "What the student said after its thought.",
    "finish": "Why generation ended: stop or length.",
    "tokens": "How many tokens were generated (in an exam: up to the cutoff).",
    "completion": "The key of the completion (prompt, settings and reply in the completion store).",
    "prediction": "The answer that the verifier found.",
    "correct": "Whether it is the gold answer.",
    "verdict": "right, wrong, no-answer, truncated or timeout.",
    "steps": "The steps of `thought` as spans [start, end) in characters, each with its skill; they cover it exactly.",
    "actions": "What the teacher did to each step: keep, delete, rewrite or merge, and why.",
    "draft": "The teacher's own draft, where edit and reassembly were one call.",
    "pruned": "The pruned thought.",
    "sentences": "The sentences of `pruned` as spans [start, end) in characters: their kind, and the steps that each came from.",
    "target_reply": "The reply that is trained on.",
    "target": "The whole text that is trained on: the pruned thought in its tags, and the reply.",
    "style": "How near the pruned thought is to the student's own words.",
    "invented": "Numbers of the pruned thought that nothing before it held.",
    "n_tokens": "Tokens of prompt and response.",
    "n_trained_tokens": "Tokens that one pass adds to the loss.",
    "steps_seen": "The optimiser steps that saw the record, from 1.",
    "finished": "Whether the trace came to an end.",
    "nll_target_before": "The untrained student's mean loss per token of the target (nats).",
    "nll_raw_before": "The untrained student's mean loss per token of its own response (nats).",
    "suite": "The exam.",
    "model": "The model that answered, by its label.",
    "item": "The question's id in the exam.",
    "run": "The number of the run.",
    "generated": "How many tokens were generated, also behind the cutoff.",
    "thought_tokens": "Tokens of the thought.",
    "truncated": "Whether the answer was not over by the cutoff.",
    "looped": "Whether the answer repeats itself to its end.",
    "counted": "Whether the row enters the scores.",
    "cutoff": "The most tokens that an answer may have.",
    "cutoff_mode": "What becomes of an answer that is cut off.",
}
"""What the columns of drp's own ops hold."""

_REPLY = ("target_reply", "reply")
"""What verify judges: the first of them that a record has."""
_EDITED = ("question", "answer", "reply", "thought", "steps")
_LEFT = ("thought", "steps", "actions", "draft")
_ASKED = ("question", "family")
MADE: dict[str, dict[str, tuple[str, ...]]] = {
    "generate": {"response": ("question",), "thought": ("question",), "reply": ("question",), "finish": ("question",),
                 "tokens": ("question",), "completion": ("question",), "seed": ("id",), "sample": ()},
    "verify": {"prediction": _REPLY, "correct": ("answer", *_REPLY), "verdict": ("answer", *_REPLY, "finish")},
    "segment": {"steps": ("question", "thought")},
    "edit": {"actions": _EDITED, "draft": _EDITED},
    "reassemble": {"pruned": ("question", *_LEFT), "sentences": _LEFT, "target_reply": ("reply", "draft"),
                   "target": ("question", *_LEFT, "reply"), "style": _LEFT, "invented": ("question", *_LEFT)},
    "narrate": {"sample": (), "thought": _ASKED, "reply": _ASKED, "target": _ASKED, "finished": _ASKED},
    "sft": {"id": ("id",), "n_tokens": ("question", "target"), "n_trained_tokens": ("target",), "steps_seen": ("id",),
            "nll_target_before": ("question", "target"), "nll_raw_before": ("question", "response")},
    "pretrain": {"id": ("id",), "n_tokens": ("question", "thought", "reply"), "n_trained_tokens": ("thought", "reply")},
    "evaluate": {"id": ("id",), "item": ("id",), "question": ("question",), "answer": ("answer",), "response": ("question",),
                 "reply": ("question",), "finish": ("question",), "prediction": ("question",), "correct": ("question", "answer"),
                 "verdict": ("question", "answer"), "tokens": ("question",), "completion": ("question",)},
}  # fmt: skip
"""By op, each column that it adds: the columns of its input that can have shaped it."""
CHOSEN = {"verify": ("answer", *_REPLY), "mix": ("id", "question")}
"""By op, the columns that decide which records go on."""


def made_from(node: Node, project: Project, columns: Iterable[str], known: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """For each column of a stage's records: the columns of its input that it came from; nothing of those that nobody can tell.

    `known` are the columns of the input. A column that the op does not add is the input's own.
    """
    there = frozenset(known)
    adds = added(node, project)
    told: dict[str, tuple[str, ...]] = MADE.get(node.op, {})
    found = {}
    for column in columns:
        if column in told:
            found[column] = tuple(name for name in told[column] if name in there)
        elif column in there and column not in (adds or ()):
            found[column] = (column,)
        elif adds is not None and column in adds:
            found[column] = tuple(name for name in _needs(node, project) if name in there)
    return {column: names for column, names in found.items() if names}


def added(node: Node, project: Project) -> frozenset[str] | None:
    """The columns that a stage's op adds; None where there is no such op any more."""
    try:
        op = get(node.op, project.ops_root)
    except ConfigError:
        return None
    return frozenset(get_type_hints(op.adds)) if op.adds else frozenset()


def _needs(node: Node, project: Project) -> tuple[str, ...]:
    try:
        return get(node.op, project.ops_root).needs
    except ConfigError:
        return ()
