"""Teaching: what a teacher's replies must look like, as JSON Schemas and as checks against the material."""

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from drp.pieces import Action, Piece
from drp.replies import Fault, entries, integer, read_json, words
from drp.text import final_answer, numbers

ACTIONS = ("keep", "delete", "rewrite", "merge")


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_INTEGER, _TEXT = {"type": "integer"}, {"type": "string"}
_MAYBE_INTEGER, _MAYBE_TEXT = {"type": ["integer", "null"]}, {"type": ["string", "null"]}
_ACTION = _object(
    step=_INTEGER, action={"type": "string", "enum": list(ACTIONS)}, text=_MAYBE_TEXT, into=_MAYBE_INTEGER, reason=_TEXT
)
_PASSAGE = _object(steps=_list(_INTEGER), text=_MAYBE_TEXT)

SEGMENT = {"title": "segment", **_object(steps=_list(_object(last=_INTEGER, skill=_TEXT)))}
EDIT = {"title": "edit", **_object(actions=_list(_ACTION))}
REASSEMBLE = {"title": "reassemble", **_object(passages=_list(_PASSAGE), answer=_TEXT)}
EDIT_REASSEMBLE = {"title": "edit-reassemble", **_object(actions=_list(_ACTION), passages=_list(_PASSAGE), answer=_TEXT)}


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of the pruned thought: the steps (0-based) that it comes from, none for a connective; None: word for word."""

    steps: tuple[int, ...]
    text: str | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A teacher's pruned thought, and the final answer that it gives."""

    passages: tuple[Passage, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Material:
    """What the teacher was shown: the texts of the steps, the question, and the student's final answer where known."""

    texts: tuple[str, ...]
    question: str
    answer: str | None


# Segmenting.


def read_boundaries(reply: str, first: int, last: int) -> list[tuple[int, str]]:
    """(number of a step's last sentence, skill), rising; together they cover the sentences `first` to `last`."""
    found = [(integer(entry, "last"), words(entry, "skill")) for entry in entries(read_json(reply), "steps")]
    boundaries = []
    before = first - 1
    for number, skill in found:
        if not before < number <= last:
            raise Fault(f'"last" {number}: it must rise from step to step and lie between {first} and {last}')
        if skill is None:
            raise Fault(f'the step that ends at sentence {number} has no "skill"')
        boundaries.append((number, skill.strip()))
        before = number
    if before != last:
        raise Fault(f"the steps end at sentence {before}, but the last sentence is {last}")
    return boundaries


# Editing.


def read_actions(reply: str, material: Material, allowed: Sequence[str], strict_numbers: bool) -> list[Action]:
    """One action for every step, in order. The reply counts steps from 1, the actions from 0."""
    actions = [_action(entry) for entry in entries(read_json(reply), "actions")]
    actions.sort(key=lambda action: action["step"])
    _every_step_once([a["step"] for a in actions], len(material.texts))
    for action in actions:
        _allowed(action, allowed)
    _merges([a for a in actions if a["action"] == "merge"])
    _answer_survives(actions, material)
    known = known_numbers([*material.texts, material.question])
    for action in actions:
        action["flags"] = [f"number:{n}" for n in invented_numbers(action["text"] or "", known)]
        if strict_numbers and action["flags"]:
            raise Fault(f"step {action['step'] + 1}: new numbers ({', '.join(action['flags'])})", "invented-number")
    return actions


def _action(entry: dict[str, Any]) -> Action:
    """An entry as an action: text and target only where its kind has them."""
    step, name, text = integer(entry, "step"), words(entry, "action") or "", words(entry, "text")
    if name == "rewrite" and text is None:
        raise Fault(f'step {step} is rewritten, but has no "text"')
    into = integer(entry, "into") if name == "merge" else None
    first = name == "rewrite" or into == step
    return Action(
        step=step - 1, action=name, text=text.strip() if text and first else None,
        reason=(words(entry, "reason") or "").strip(), into=None if into is None else into - 1, flags=[],
    )  # fmt: skip


def _every_step_once(steps: Sequence[int], count: int) -> None:
    if strange := [s + 1 for s in steps if not 0 <= s < count]:
        raise Fault(f"there is no step {strange[0]} (the steps are 1 to {count})")
    if twice := [s + 1 for s in sorted(set(steps)) if steps.count(s) > 1]:
        raise Fault(f"step {twice[0]} has more than one action")
    if missing := sorted(set(range(1, count + 1)) - {s + 1 for s in steps}):
        raise Fault(f"no action for step{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}")


def _allowed(action: Action, allowed: Sequence[str]) -> None:
    if action["action"] not in allowed:
        raise Fault(f"step {action['step'] + 1}: {json.dumps(action['action'])} is not one of the actions {', '.join(allowed)}")


def _merges(merged: Sequence[Action]) -> None:
    """A group is two or more neighbours, named by its first, which holds the text of all."""
    groups: dict[int, list[Action]] = {}
    for action in merged:
        groups.setdefault(-1 if action["into"] is None else action["into"], []).append(action)
    for into, group in groups.items():
        steps = [action["step"] for action in group]
        if len(steps) < 2 or steps != list(range(into, into + len(steps))):
            raise Fault(f'the steps merged "into" {into + 1} ({_numbers(steps)}) are not two or more neighbours that start there')
        if group[0]["text"] is None:
            raise Fault(f'step {into + 1} starts a merge, but has no "text"')


def _numbers(steps: Iterable[int]) -> str:
    return ", ".join(str(step + 1) for step in steps)


def _answer_survives(actions: Sequence[Action], material: Material) -> None:
    """Of the steps that give the answer one at least survives; the last step, where none can be seen to give it."""
    gives = [states_answer(text, material.answer) for text in material.texts] if material.answer else []
    needed = [step for step, given in enumerate(gives) if given] or [len(material.texts) - 1]
    if all(actions[step]["action"] == "delete" for step in needed):
        raise Fault(f"the answer is lost: keep one of the steps that give it ({_numbers(needed)})")


_CONCLUDES = r"answer|therefore|thus|hence|total|result|final|conclu|sum\b|probability|equals"


def states_answer(text: str, answer: str | None) -> bool:
    """Whether a text says the answer as a result (boxed, after `=` or a word like "answer"), not merely mentions it."""
    boxed = final_answer(text) if "\\boxed" in text else None
    if answer is None or (boxed and same_answer(boxed, answer)):
        return answer is not None
    wanted = {n.removeprefix("-") for n in numbers(answer)}
    if len(wanted) != 1 or len(answer) > 40:
        return len(compact(answer)) > 2 and re.search(rf"(?<![\d.]){re.escape(compact(answer))}(?!\d)", compact(text)) is not None
    (number,) = wanted
    return any(
        number in {n.removeprefix("-") for n in numbers(part)}
        for part in re.split(r"(?<=[.!?])\s", text)
        if "=" in part or re.search(_CONCLUDES, part, re.IGNORECASE)
    )


def same_answer(one: str, other: str) -> bool:
    """Whether two answers are written the same but for blank space, marks-up and the way of writing one number."""
    first, second = numbers(one), numbers(other)
    if len(first) == 1 and first == second:
        return re.sub(r"[\d.,\s$%\\!{}-]", "", one) == re.sub(r"[\d.,\s$%\\!{}-]", "", other)
    return compact(one) == compact(other)


def compact(text: str) -> str:
    """A text in lower case without blank space, mark-up and final dots, to compare answers."""
    text = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"\1/\2", text.strip())
    return re.sub(r"\\(?:text|mathrm|mathbf|left|right)|[\s$*{}\\]|\.$", "", text).lower()


_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_MORE = {"half": "2", "twice": "2", "double": "2", "pair": "2", "dozen": "12", "triple": "3", "quarter": "4", "hundred": "100"}
NUMBER_WORDS = {**{word: str(value) for value, word in enumerate(_WORDS)}, **_MORE}
"""Words that say a number, and the number."""


def known_numbers(texts: Iterable[str]) -> frozenset[str]:
    """The numbers of some texts, without their signs; those said in words too."""
    said = itertools.chain.from_iterable((numbers(text), re.findall(r"[a-z]+", text.lower())) for text in texts)
    return frozenset(NUMBER_WORDS.get(n, n.removeprefix("-")) for group in said for n in group)


def invented_numbers(text: str, known: frozenset[str]) -> list[str]:
    """The numbers of `text`, without their signs, that are not known; in order, each once."""
    return [n for n in dict.fromkeys(n.removeprefix("-") for n in numbers(text)) if n not in known]


# Reassembling.

LONGEST, SHORTEST = 1.3, 0.3
"""A pruned thought is at most and at least that many times as long as the edited steps (and 200 characters more or less)."""


def read_draft(reply: str, survivors: Sequence[Piece], thought: str) -> Draft:
    """The passages of the pruned thought and its final answer. The reply counts steps from 1, the draft from 0."""
    value = read_json(reply)
    passages = tuple(_passage(entry) for entry in entries(value, "passages"))
    answer = words(value, "answer")
    if answer is None:
        raise Fault('"answer" must be the final answer', "no-answer")
    draft = Draft(passages, answer.strip())
    check_draft(draft, survivors, thought)
    return draft


def _passage(entry: dict[str, Any]) -> Passage:
    steps = entry.get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, int) for step in steps):
        raise Fault('"steps" of a passage must be a list of step numbers')
    text = words(entry, "text")
    if not steps and text is None:
        raise Fault("a passage has neither steps nor text")
    return Passage(tuple(sorted({step - 1 for step in steps})), text.strip() if text else None)


def check_draft(draft: Draft, survivors: Sequence[Piece], thought: str) -> None:
    """Fault unless every surviving step is used, no other is, and the text is a thought of a sensible length."""
    alive = {step for piece in survivors for step in piece.steps}
    used = [step for passage in draft.passages for step in passage.steps]
    if strange := sorted(set(used) - alive):
        raise Fault(f"step {strange[0] + 1} is deleted or does not exist; the steps that remain are {_numbers(sorted(alive))}")
    if unused := [piece for piece in survivors if not set(piece.steps) & set(used)]:
        raise Fault(f"step {unused[0].steps[0] + 1} remains, but no passage comes from it")
    for passage in draft.passages:
        _is_thought(passage.text or "", thought)
    _sane_length(draft, survivors)


_LOG = re.compile(r"^[ \t]*#{1,6}\s|</?think>|\b(?:KEEP|DELETE|REWRITE|MERGE|COMPRESS)\b|^[ \t]*\[?step \d+\]? ?\(", re.MULTILINE)


def _is_thought(text: str, thought: str) -> None:
    if (found := _LOG.search(text)) and found[0].strip() not in thought:
        raise Fault(f"a passage holds {json.dumps(found[0].strip())}, which the thought never says: write the thought alone")


def _sane_length(draft: Draft, survivors: Sequence[Piece]) -> None:
    texts = {step: piece.text for piece in survivors for step in piece.steps[:1]}
    copied = (step for passage in draft.passages if passage.text is None for step in passage.steps)
    length = sum(len(passage.text or "") for passage in draft.passages) + sum(len(texts.get(step, "")) for step in copied)
    edited = sum(len(piece.text) for piece in survivors)
    if not SHORTEST * edited - 200 < length < LONGEST * edited + 200:
        raise Fault(f"the thought has {length} characters, the edited steps {edited}: neither solve anew nor cut further")
