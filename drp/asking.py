"""Asking: holds one dialogue per record, many at once, and gives their outcomes back in the order of the records."""

from collections import deque
from collections.abc import Iterable, Iterator

from drp.backends import Ask, Backend
from drp.models import Completion
from drp.op import Dialogue, Talk
from drp.records import Outcome, Record


class _Open:
    """A dialogue under way: which requests of the present round are still out."""

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
        source = iter(records)
        ready: deque[Ask] = deque()
        tickets: dict[int, tuple[_Open, int]] = {}
        done: dict[int, list[Outcome]] = {}
        state = {"next": 0, "given": 0, "ticket": 0, "ended": 0}

        def advance(talk: _Open, replies: list[Completion] | None) -> None:
            try:
                requests = next(talk.talk) if replies is None else talk.talk.send(replies)
                while not requests:
                    requests = talk.talk.send([])
            except StopIteration as stop:
                done[talk.place] = stop.value if isinstance(stop.value, list) else [stop.value]
                return
            talk.replies = [None] * len(requests)
            talk.waiting = len(requests)
            for slot, request in enumerate(requests):
                state["ticket"] += 1
                tickets[state["ticket"]] = (talk, slot)
                ready.append(Ask(state["ticket"], request))

        def asks() -> Iterator[Ask | None]:
            while True:
                if ready:
                    yield ready.popleft()
                elif not state["ended"] and state["next"] - state["given"] < self.window:
                    record = next(source, None)
                    if record is None:
                        state["ended"] = 1
                        continue
                    place = state["next"]
                    state["next"] += 1
                    advance(_Open(dialogue(record), place), None)
                elif state["ended"] and not tickets:
                    return
                else:
                    yield None

        for answer in self.backend.complete(asks()):
            if answer is not None:
                talk, slot = tickets.pop(answer.ticket)
                talk.replies[slot] = answer.completion
                talk.waiting -= 1
                if not talk.waiting:
                    advance(talk, [r for r in talk.replies if r is not None])
            while state["given"] in done:
                outcomes = done.pop(state["given"])
                state["given"] += 1
                yield from outcomes
        while state["given"] in done:
            yield from done.pop(state["given"])
            state["given"] += 1
