"""Pace: when the next request to a server may start, learned from what it answered and refused before."""

import math
import random
from collections.abc import Callable
from typing import NamedTuple

HALF = 0.5
"""What a refusal leaves of the requests in flight (as in TCP, RFC 5681)."""
KEPT, REGROWN = 0.7, (1.0, 10.0)
"""What a refusal leaves of the rate that was let through, and the least and the most seconds in which it grows back: a cubic,
flat near the rate that was refused and steep beyond it (RFC 9438, and the adaptive mode of the AWS SDKs), in proportion."""
CHARACTERS, LATELY = 4, 0.05
"""Characters of a token, roughly; and what one more answer weighs in the mean, at the least."""
LONGEST = 60.0
"""Seconds: the longest pause where the server names no time."""


def doubling(time: int, first: float, chance: float) -> float:
    """Seconds before another try, the `time`-th (from 1): doubling from `first`, less up to a half by `chance` (0 to 1)."""
    return min(first * 2.0 ** min(time - 1, 30), LONGEST) * (1 - chance / 2)


class Guess:
    """The tokens that a request will need: a quarter of its characters, and as many as answers had of late (first, the most)."""

    def __init__(self, most: int) -> None:
        self._answer = float(most)
        self._weight = 1.0

    def of(self, characters: int) -> float:
        """The tokens of a prompt of so many characters with its answer."""
        return characters / CHARACTERS + self._answer

    def learn(self, tokens: int) -> None:
        """An answer had so many tokens."""
        self._answer += (tokens - self._answer) * self._weight
        self._weight = max(LATELY, self._weight / (1 + self._weight))


class Start(NamedTuple):
    """A request that began: when (seconds), and the tokens that it was taken to need."""

    at: float
    tokens: float


class Bucket:
    """An allowance that fills at `rate` a second and saves up `span` seconds of it, one whole at the least."""

    def __init__(self, rate: float, span: float = 1.0) -> None:
        self.rate, self.span = rate, span
        self._level, self._filled = math.inf, 0.0

    def earliest(self, now: float, amount: float = 1.0) -> float:
        """When `amount` may be taken; more than can be saved may be taken from a full bucket, which then is in debt."""
        most = self._fill(now)
        lack = min(amount, most) - self._level
        return now + lack / self.rate if lack > 1e-9 else now

    def take(self, now: float, amount: float = 1.0) -> None:
        """Take `amount`, or put it back where it is negative."""
        self._fill(now)
        self._level -= amount

    def _fill(self, now: float) -> float:
        """Add what has come in since the last look; how much the bucket holds when full."""
        most = max(1.0, self.rate * self.span)
        self._level = min(most, self._level + max(0.0, now - self._filled) * self.rate)
        self._filled = max(now, self._filled)
        return most


class Pace:
    """How fast one server may be asked. Pure: it is told the time (seconds of any one clock), and never waits itself.

    Four things bound it: requests in flight, between 1 and `most`, halved by a refusal and grown by one a round trip; the
    rate of requests, learned from what was let through between two refusals; `rpm` and `tpm`, requests and tokens a minute;
    and a pause of all requests after a refusal: as long as the server asks, or doubling from `first` seconds for as long as
    nothing is answered. Refusals of requests that were in flight together count as one.
    """

    def __init__(
        self,
        most: int,
        rpm: float | None = None,
        tpm: float | None = None,
        first: float = 0.5,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.most, self.first, self.jitter = most, first, jitter
        self.limit, self.in_flight = float(most), 0
        self._requests = Bucket(rpm / 60) if rpm else None
        self._tokens = Bucket(tpm / 60) if tpm else None
        self._learned = Bucket(1.0, span=0.1)
        self._paused_until = self._full_at = -math.inf
        self._refusals = _Refusals()
        self._row = 0  # refusals in a row, with nothing answered that began after the first of them

    def earliest(self, now: float, tokens: float = 0.0) -> float:
        """When one more request may start: now, later, or inf where one in flight must end before."""
        if self.in_flight >= int(self.limit):
            return math.inf
        when = max(now, self._paused_until)
        if self._refusals.peak:
            self._learned.rate = self._refusals.rate(now)
            when = max(when, self._learned.earliest(now))
        if self._requests:
            when = max(when, self._requests.earliest(now))
        if self._tokens:
            when = max(when, self._tokens.earliest(now, tokens))
        return when

    def start(self, now: float, tokens: float = 0.0) -> Start:
        """A request starts that is taken to need so many tokens."""
        self.in_flight += 1
        if self.in_flight >= int(self.limit):
            self._full_at = now
        self._refusals.started += 1
        if self._refusals.peak:
            self._learned.take(now)
        if self._requests:
            self._requests.take(now)
        if self._tokens:
            self._tokens.take(now, tokens)
        return Start(now, tokens)

    def answered(self, now: float, start: Start, tokens: float) -> None:
        """A request was answered, and it took so many tokens."""
        if self._full_at >= start.at:
            self.limit = min(float(self.most), self.limit + 1 / self.limit)
        if start.at >= self._refusals.at:
            self._row = 0
        self._end(now, start.tokens - tokens)

    def failed(self, now: float) -> None:
        """A request failed in a way that says nothing of the pace; the tokens may have been used."""
        self._end(now, 0.0)

    def refused(self, now: float, start: Start, wait: float | None = None) -> None:
        """A request was refused (429, 503, 529), for `wait` seconds where the server says so."""
        if start.at >= self._refusals.at:
            self.limit = max(1.0, min(self.limit, self.in_flight) * HALF)
            self._row += 1
            self._refusals.another(now)
            if not wait:
                self._pause(now + doubling(self._row, self.first, self.jitter()))
        if wait:
            self._pause(now + wait * (1 + self.jitter() / 10))
        self._refusals.count()
        self._end(now, start.tokens)

    def _pause(self, until: float) -> None:
        self._paused_until = max(self._paused_until, until)

    def _end(self, now: float, unused: float) -> None:
        self.in_flight -= 1
        if self._tokens and unused:
            self._tokens.take(now, -unused)


class _Refusals:
    """What was let through between one refusal and the next: the rate that the server bears."""

    def __init__(self) -> None:
        self.at = -math.inf
        """When the last refusal came (the first of those that were in flight together)."""
        self.started = 0
        """Requests that began since then."""
        self.peak = 0.0
        """Requests a second that were let through before it; 0 while that is not known."""
        self._regrown = REGROWN[0]
        self._since = math.inf
        self._through = 0

    def another(self, now: float) -> None:
        """A refusal after a time without; where nothing was let through in that time, the time before belongs to it."""
        if self._through > 0:
            self._since = self.at
        self._through, self.started, self.at = self.started, 0, now

    def count(self) -> None:
        """One of the requests that were in flight together was refused."""
        self._through -= 1
        if self._through > 0 and self.at > self._since:
            span = self.at - self._since
            self.peak, self._regrown = self._through / span, min(max(span, REGROWN[0]), REGROWN[1])

    def rate(self, now: float) -> float:
        """Requests a second that may be asked for now; a rate that was borne for long grows back slowly, a first guess fast."""
        grown = (now - self.at) / self._regrown
        return self.peak * (1 + (1 - KEPT) * (grown - 1) ** 3)
