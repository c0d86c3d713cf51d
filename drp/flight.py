"""Requests under way: on an event loop that runs only while an answer is awaited, each try begun when the pace allows."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic

from drp.backends import Answer, Ask
from drp.models import Completion, Request
from drp.remote.pacing import Pace, Start


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while it does not run: no time-out passes while the caller is at work."""

    def __init__(self) -> None:
        super().__init__()
        self._away, self._left = 0.0, monotonic()

    def time(self) -> float:
        return monotonic() - self._away

    def run_forever(self) -> None:
        self._away += monotonic() - self._left
        try:
            super().run_forever()
        finally:
            self._left = monotonic()


class Flight:
    """Asks under way, each answered by a coroutine of `answer`; single-threaded, so that callers need no locks."""

    def __init__(self, answer: Callable[[Request], Awaitable[Completion]]) -> None:
        self.loop = _Loop()
        self._answer = answer
        self._open: set[asyncio.Task[Answer]] = set()
        self._landed: list[asyncio.Task[Answer]] = []
        self._awaited = False

    @property
    def under_way(self) -> int:
        """How many asks are not yet landed."""
        return len(self._open) + len(self._landed)

    def launch(self, ask: Ask) -> None:
        """Begin an ask; it moves whenever `land` runs."""
        task = self.loop.create_task(self._fly(ask))
        self._open.add(task)
        task.add_done_callback(self._down)

    async def _fly(self, ask: Ask) -> Answer:
        return Answer(ask.ticket, await self._answer(ask.request))

    def _down(self, task: "asyncio.Task[Answer]") -> None:
        self._open.discard(task)
        self._landed.append(task)
        if self._awaited:
            self.loop.stop()

    def land(self) -> Iterator[list[Answer]]:
        """Wait until something lands, and give all that has; an error is raised after the answers that came with it."""
        if not self._landed:
            self._awaited = True
            try:
                self.loop.run_forever()
            finally:
                self._awaited = False
        landed, self._landed = self._landed, []
        failed = [error for task in landed if (error := task.exception()) is not None]
        yield [task.result() for task in landed if task.exception() is None]
        if failed:
            raise failed[0]

    def close(self, last: Callable[[], Awaitable[None]]) -> None:
        """Cancel what is under way, run `last`, and close the loop."""
        landed = [*self._landed, *self._open]
        for task in landed:
            task.cancel()

        async def end() -> None:
            await asyncio.gather(*landed, return_exceptions=True)
            await last()

        try:
            self.loop.run_until_complete(end())
        finally:
            self.loop.close()


class Gate:
    """Lets tries start as the pace allows, in the order in which they came; one that was refused lines up behind the others."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._queue: deque[tuple[float, asyncio.Future[Start]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, tokens: float = 0.0) -> Start:
        """Wait until a try may start that is taken to need so many tokens; whoever enters must leave."""
        now = monotonic()
        if not self._queue and self.pace.earliest(now, tokens) <= now:
            return self.pace.start(now, tokens)
        turn: asyncio.Future[Start] = asyncio.get_running_loop().create_future()
        self._queue.append((tokens, turn))
        self.open()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.pace.failed(monotonic())
            raise

    def answered(self, start: Start, tokens: float) -> None:
        """A try was answered, with so many tokens used in all."""
        self.pace.answered(monotonic(), start, tokens)
        self.open()

    def refused(self, start: Start, wait: float | None) -> None:
        """A try was refused for now, for `wait` seconds where the server says so."""
        self.pace.refused(monotonic(), start, wait)
        self.open()

    def failed(self) -> None:
        """A try failed in another way."""
        self.pace.failed(monotonic())
        self.open()

    def open(self) -> None:
        """Let in whoever may start now, and come back when the next may."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        now = monotonic()
        while self._queue:
            tokens, turn = self._queue[0]
            if not turn.done():
                when = self.pace.earliest(now, tokens)
                if when > now:
                    if when < math.inf:
                        self._timer = turn.get_loop().call_later(when - now, self.open)
                    return
                turn.set_result(self.pace.start(now, tokens))
            self._queue.popleft()
