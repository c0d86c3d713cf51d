"""Asking: holds one dialogue per record, many at once, and gives their outcomes back in the order of the records."""

from collections import deque
from collections.abc import Iterable, Iterator

from drp.backends import Answer, Ask, Backend
from drp.models import Completion
from drp.op import Dialogue, Talk
from drp.records import Outcome, Record


class _Open:
    """A dialogue under way: which requests of the present round are still out."""

    __slots__ = ("place", "replies", "talk", "waiting")

    def __init__(self, talk: Talk, place: int) -> None:
        self.talk, self.place = talk, place
        self.replies: list[Completion | None] = []
        self.waiting = 0


class Asking:
    """Drives dialogues through a backend. `window` bounds how many records are open or finished but not yet given back."""

    def __init__(self, backend: Backend, window: int) -> None:
        self.backend, self.window = backend, max(1, window)

    def run(self, records: Iterable[Record], dialogue: Dialogue) -> Iterator[Outcome]:
        """The outcomes of `dialogue` over `records`, in their order."""
        return _Round(iter(records), dialogue, self.window).through(self.backend)


class _Round:
    """One run of a dialogue over records."""

    def __init__(self, records: Iterator[Record], dialogue: Dialogue, window: int) -> None:
        self.records, self.dialogue, self.window = records, dialogue, window
        self.ready: deque[Ask] = deque()
        self.tickets: dict[int, tuple[_Open, int]] = {}
        self.done: dict[int, list[Outcome]] = {}
        self.begun = self.given = self.ticket = 0
        self.ended = False

    def through(self, backend: Backend) -> Iterator[Outcome]:
        """Ask the backend until every dialogue has its outcome."""
        for burst in backend.complete(self._asks()):
            for answer in burst:
                self._answered(answer)
            yield from self._in_order()
        yield from self._in_order()

    def _in_order(self) -> Iterator[Outcome]:
        while self.given in self.done:
            outcomes = self.done.pop(self.given)
            self.given += 1
            yield from outcomes

    def _asks(self) -> Iterator[Ask | None]:
        while True:
            if self.ready:
                yield self.ready.popleft()
            elif not self.ended and self.begun - self.given < self.window:
                record = next(self.records, None)
                if record is None:
                    self.ended = True
                    continue
                talk = _Open(self.dialogue(record), self.begun)
                self.begun += 1
                self._advance(talk, None)
            elif self.ended and not self.tickets:
                return
            else:
                yield None

    def _answered(self, answer: Answer) -> None:
        talk, slot = self.tickets.pop(answer.ticket)
        talk.replies[slot] = answer.completion
        talk.waiting -= 1
        if not talk.waiting:
            self._advance(talk, [reply for reply in talk.replies if reply is not None])

    def _advance(self, talk: _Open, replies: list[Completion] | None) -> None:
        """Send a dialogue its replies; what it asks next is ready, or its outcome is done."""
        try:
            requests = next(talk.talk) if replies is None else talk.talk.send(replies)
            while not requests:
                requests = talk.talk.send([])
        except StopIteration as stop:
            self.done[talk.place] = stop.value if isinstance(stop.value, list) else [stop.value]
            return
        talk.replies = [None] * len(requests)
        talk.waiting = len(requests)
        for slot, request in enumerate(requests):
            self.ticket += 1
            self.tickets[self.ticket] = (talk, slot)
            self.ready.append(Ask(self.ticket, request))
