"""Insisting: asks a model until its replies can be read, naming the fault each time, within a bound."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from drp.models import Completion, Message, Model, Request
from drp.replies import Fault

T = TypeVar("T")
Messages = tuple[Message, ...]
Read = Callable[[str], T]
"""Makes a value of a reply, or raises `Fault`."""

CUT = Fault("the reply was cut off at its length limit: keep every reason and text as short as you can", "truncated-reply")


@dataclass(frozen=True)
class Understood(Generic[T]):
    """A reply that could be read: its value, and the key of the completion that it came in."""

    value: T
    completion: str


@dataclass(frozen=True)
class Refused:
    """A reply that could not be read, though asked for again: why, and the last one as the model gave it."""

    reason: str
    detail: str
    reply: str


Heard = Generator[Sequence[Request], Sequence[Completion], list[Understood[T]] | Refused]


def insist(model: Model, questions: Sequence[tuple[Messages, Read[T]]], schema: dict[str, Any], repairs: int) -> Heard[T]:
    """Ask all questions at once; where a reply is at fault, ask that one again, at most `repairs` times.

    Returns the answers in the order of the questions, or the first refusal. A request that failed (rather than was
    answered badly) is not asked again here: the backend has already tried.
    """
    told = [messages for messages, _ in questions]
    answers: list[Understood[T] | None] = [None] * len(questions)
    for round_ in range(repairs + 1):
        waiting = [place for place, answer in enumerate(answers) if answer is None]
        requests = [model.request(told[place], schema=schema) for place in waiting]
        completions = yield requests
        refusals: list[Refused] = []
        for place, request, completion in zip(waiting, requests, completions, strict=True):
            if completion.finish not in ("stop", "length"):
                return Refused("no-reply", completion.error or completion.finish, completion.text)
            try:
                answers[place] = Understood(_value(completion, questions[place][1]), completion.key or request.key())
            except Fault as fault:
                refusals.append(Refused(fault.reason, str(fault), completion.text))
                told[place] = (*told[place], *_again(completion, fault))
        if refusals and round_ == repairs:
            return refusals[0]
        if not refusals:
            break
    return [answer for answer in answers if answer is not None]


def _value(completion: Completion, read: Read[T]) -> T:
    if completion.finish == "length":
        raise CUT
    return read(completion.text)


def _again(completion: Completion, fault: Fault) -> Messages:
    """The turns that tell the model what was wrong with its reply."""
    request = f"Your reply cannot be used: {fault}. Reply to the same request again, in the same JSON form, with that put right."
    return Message("assistant", completion.text or "(nothing)"), Message("user", request)
