"""A teacher made of a function, and the work of a stage that asks it: a real backend behind the real asking."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from drp.asking import Asking
from drp.backends import Backend
from drp.models import Completion, Endpoint, Model, Request, Sampling
from drp.op import Dialogue, Dropped, Kept, Outcome, Record
from drp.prompts import Prompt
from tests.fakes import Answers

ROOT = Path(__file__).parent.parent
TEACHER = Model("teacher", "scripted", Sampling(0.0), Endpoint("rules"))


class Scripted(Answers):
    """Answers each request with what `say` makes of it: a text, or a whole completion."""

    def __init__(self, say: Callable[[Request], str | Completion]) -> None:
        super().__init__(self._completion)
        self.say = say

    def _completion(self, request: Request) -> Completion:
        said = self.say(request)
        return Completion(said, "stop", key=f"key{len(self.requests)}") if isinstance(said, str) else said


class ScriptedWork:
    """The work of a stage, with one backend for every model."""

    def __init__(self, backend: Backend, folder: Path = Path("unused")) -> None:
        self.backend = backend
        self.out = self.resume = folder

    def ask(self, model: Model, records: Iterable[Record], dialogue: Dialogue) -> Iterator[Outcome]:
        return Asking(self.backend, window=8).run(records, dialogue)

    def say(self, text: str) -> None:
        """Nobody watches."""


def replies(*texts: str | Completion) -> Scripted:
    """A teacher that gives these replies one after the other."""
    waiting = iter(texts)
    return Scripted(lambda request: next(waiting))


def prompt(name: str) -> Prompt:
    """A prompt of this project."""
    return Prompt(ROOT / "prompts", name)


def record(thought: str | None, **more: Any) -> Record:
    """A record as `generate` and `verify` leave it, as far as the teacher's ops read it."""
    return {"id": "q/000", "question": "What is 12 + 7 - 5?", "thought": thought, "reply": "The answer is \\boxed{14}.", **more}


def kept(outcome: Outcome) -> Record:
    """The record of a kept outcome."""
    assert isinstance(outcome, Kept), outcome
    return outcome.record


def dropped(outcome: Outcome) -> Dropped:
    """A dropped outcome."""
    assert isinstance(outcome, Dropped), outcome
    return outcome
