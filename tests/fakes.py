"""The work of a stage without a stage: two folders, the lines that were said, and a backend made of a function."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from drp.asking import Asking
from drp.backends import Answer, Ask
from drp.models import Completion, Model, Request
from drp.op import Dialogue
from drp.records import Outcome, Record


class Answers:
    """A backend that answers every request by a function, one at a time."""

    def __init__(self, answer: Callable[[Request], Completion]) -> None:
        self.answer = answer
        self.requests: list[Request] = []

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[list[Answer]]:
        for ask in asks:
            if ask is None:
                yield []
                continue
            self.requests.append(ask.request)
            yield [Answer(ask.ticket, self.answer(ask.request))]


def silent(request: Request) -> Completion:
    """The answer of nobody."""
    raise AssertionError(f"no model was to be asked: {request.messages}")


class FakeWork:
    """`Work` in a folder of its own; `requests` are those that were sent, `said` what was reported."""

    def __init__(self, folder: Path, answer: Callable[[Request], Completion] = silent) -> None:
        self.out, self.resume = folder / "out", folder / "resume"
        for path in (self.out, self.resume):
            path.mkdir(parents=True, exist_ok=True)
        self.backend = Answers(answer)
        self.said: list[str] = []

    @property
    def requests(self) -> list[Request]:
        return self.backend.requests

    def ask(self, model: Model, records: Iterable[Record], dialogue: Dialogue) -> Iterator[Outcome]:
        yield from Asking(self.backend, window=8).run(records, dialogue)

    def say(self, text: str) -> None:
        self.said.append(text)
