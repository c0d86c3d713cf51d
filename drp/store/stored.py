"""The store around a backend: what was answered once is not asked again, and what is answered is kept before it is used."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from drp.backends import Answer, Ask, Backend
from drp.models import Completion, Request
from drp.store.completions import NOBODY, Owner, Store

BURST = 512
"""Stored answers handed out in one go, before the backend gets its turn."""
AT_ONCE = 1000
"""Answers kept in one transaction: a batch job's 50 000 would make SQLite's log as large as they are."""


def free(request: Request, completion: Completion) -> float:
    """What an answer costs where no price is known."""
    return 0.0


class Stored:
    """A backend that answers from the store where it can, and keeps what the backend below it answers.

    `owner` is the stage that asks, `cost` what it pays for an answer. Equal requests in flight are asked once.
    """

    def __init__(
        self, inner: Backend, store: Store, owner: Owner = NOBODY, cost: Callable[[Request, Completion], float] = free
    ) -> None:
        self.inner, self.store, self.owner, self.cost = inner, store, owner, cost
        self._used: list[str] = []

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """As the backend below, minus what is stored."""
        ready: deque[Answer] = deque()
        open_: dict[int, Request] = {}
        alike: dict[str, list[int]] = {}  # tickets by key: equal requests in flight are asked once

        def missing() -> Iterator[Ask | None]:
            for ask in asks:
                if ask is None:
                    yield None
                    continue
                known = self.store.get(ask.request)
                if known is None:
                    open_[ask.ticket] = ask.request
                    waiting = alike.setdefault(ask.request.key(), [])
                    waiting.append(ask.ticket)
                    if len(waiting) == 1:
                        yield ask
                    continue
                self._used.append(known.key)
                ready.append(Answer(ask.ticket, known))
                if len(ready) >= BURST:
                    yield None

        def landed(burst: Sequence[Answer]) -> Iterator[Answer]:
            for first in range(0, len(burst), AT_ONCE):
                answered = [(open_[answer.ticket], answer.completion) for answer in burst[first : first + AT_ONCE]]
                kept = self.store.keep(answered, self.owner, [self.cost(*both) for both in answered])
                for (request, _), completion in zip(answered, kept, strict=True):
                    for ticket in alike.pop(request.key()):
                        del open_[ticket]
                        yield Answer(ticket, completion)

        try:
            for burst in self.inner.complete(missing()):
                answers = list(landed(burst)) if burst else []
                answers += ready
                ready.clear()
                if len(self._used) >= 8 * BURST:
                    self._note()
                yield answers
            if ready:
                yield list(ready)
        finally:
            self._note()

    def _note(self) -> None:
        """Write down which stored completions the stage was answered with: many at a time, for this is no answer's price."""
        if self._used:
            self.store.used(self.owner, self._used)
            self._used = []
