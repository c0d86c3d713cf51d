"""The pace against servers of a simulated clock, which refuse what is too much for them."""

import heapq
import math
from dataclasses import dataclass, field
from typing import Protocol

import pytest

from drp.remote.pacing import Bucket, Guess, Pace, Start


class Limit(Protocol):
    """What a simulated server bears. `asked` is None where the request is let in, or the seconds of its Retry-After (0: none)."""

    def asked(self, now: float) -> float | None: ...
    def done(self) -> None: ...


@dataclass
class InFlight:
    """So many requests at once."""

    most: int
    hint: float = 0.0
    now: int = 0

    def asked(self, now: float) -> float | None:
        if self.now >= self.most:
            return self.hint
        self.now += 1
        return None

    def done(self) -> None:
        self.now -= 1


@dataclass
class PerWindow:
    """So many requests in each `span` seconds by the clock; with `hints`, Retry-After names the end of the span."""

    most: int
    span: float = 1.0
    hints: bool = False
    window: float = -1.0
    used: int = 0

    def asked(self, now: float) -> float | None:
        if now // self.span != self.window:
            self.window, self.used = now // self.span, 0
        if self.used >= self.most:
            return (self.window + 1) * self.span - now if self.hints else 0.0
        self.used += 1
        return None

    def done(self) -> None:
        pass


@dataclass
class Run:
    """What became of the requests: when each began that was answered, and when each refusal came."""

    begun: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    most: int = 0
    seconds: float = 0.0

    def late(self, share: float = 0.5) -> tuple[int, int]:
        """Answers and refusals after a share of the time has passed."""
        after = self.seconds * share
        return sum(t > after for t in self.begun), sum(t > after for t in self.refused)


def run(pace: Pace, limit: Limit, requests: int, takes: float = 0.02, refuses: float = 0.001, tokens: float = 0.0) -> Run:
    """Ask for everything through the pace, refused requests again and first."""
    found, now, left = Run(), 0.0, requests
    events: list[tuple[float, int, Start, float | None]] = []
    for number in range(1_000_000):
        while left and (when := pace.earliest(now, tokens)) <= now:
            start, said = pace.start(now, tokens), limit.asked(now)
            left -= 1
            heapq.heappush(events, (now + (takes if said is None else refuses), number * 10_000 + left, start, said))
        found.most = max(found.most, pace.in_flight)
        if not left and not events:
            found.seconds = now
            return found
        if events and (not left or events[0][0] <= when):
            now, _, start, said = heapq.heappop(events)
            if said is None:
                limit.done()
                pace.answered(now, start, tokens)
                found.begun.append(start.at)
            else:
                pace.refused(now, start, said or None)
                found.refused.append(now)
                left += 1
        else:
            assert when > now
            now = when
    raise AssertionError("no end")


def pace(most: int = 64, **options: float) -> Pace:
    return Pace(most, jitter=lambda: 0.5, **options)


def filled(asked: Pace, now: float = 0.0) -> list[Start]:
    """As many requests as may start at once."""
    starts = []
    while asked.earliest(now) <= now:
        starts.append(asked.start(now))
    return starts


def test_a_server_that_refuses_nothing_is_asked_as_wide_as_it_may_be() -> None:
    found = run(pace(), InFlight(1000), 5000)
    assert found.most == 64
    assert found.seconds == pytest.approx(5000 / 64 * 0.02, rel=0.02)


BEARS = {
    "8 at once": (InFlight(8), 5000, 0.02, 12.5),
    "32 at once": (InFlight(32), 20_000, 0.02, 12.5),
    "8 at once, slow": (InFlight(8), 1000, 10.0, 1250.0),
    "8 at once, a second to wait": (InFlight(8, 1.0), 5000, 0.02, 12.5),
    "20 a second": (PerWindow(20), 1500, 0.02, 75.0),
    "20 a second, with a time": (PerWindow(20, hints=True), 1500, 0.02, 75.0),
    "200 a second": (PerWindow(200), 20_000, 0.02, 100.0),
    "5 a second": (PerWindow(5), 600, 0.02, 120.0),
    "60 a minute, with a time": (PerWindow(60, 60.0, hints=True), 1800, 2.0, 1800.0),
    "500 a minute": (PerWindow(500, 60.0), 15_000, 0.02, 1800.0),
}
"""What a server bears, how many requests, seconds for each, and the seconds that they would take at best."""


@pytest.mark.parametrize("bears", BEARS)
def test_what_a_server_bears_is_learned_from_its_refusals(bears: str) -> None:
    limit, requests, takes, best = BEARS[bears]
    found = run(pace(), limit, requests, takes)
    answers, refusals = found.late(0.4)
    assert len(found.begun) == requests
    assert refusals <= 0.04 * answers
    assert found.seconds < 1.5 * best + 30


def test_refusals_that_were_in_flight_together_halve_the_requests_in_flight_once() -> None:
    asked = pace(64)
    for start in filled(asked):
        asked.refused(0.01, start)
    assert (asked.limit, asked.in_flight) == (32.0, 0)
    later = asked.earliest(0.01)
    for start in filled(asked, later):
        asked.refused(later + 0.01, start)
    assert asked.limit == 16.0


def test_an_answer_to_each_request_in_flight_adds_one_to_them_up_to_the_most() -> None:
    asked = pace(8)
    asked.refused(0.0, filled(asked)[0])
    for _ in range(7):
        asked.failed(0.0)
    widths, now = [], 10.0
    for _ in range(6):
        starts = [asked.start(now) for _ in range(int(asked.limit))]
        widths.append(len(starts))
        for start in starts:
            asked.answered(now + 0.1, start, 0.0)
        now += 1.0
    assert widths == sorted(widths)
    assert (widths[0], max(widths)) == (4, 8)


def test_all_requests_wait_for_as_long_as_one_refusal_asks() -> None:
    asked = pace(4)
    first, *_ = filled(asked)
    asked.refused(1.0, first, wait=30.0)
    for _ in range(3):
        asked.failed(2.0)
    assert 31.0 <= asked.earliest(2.0) <= 34.0


def test_the_pause_doubles_for_as_long_as_nothing_is_answered() -> None:
    asked, now, pauses = pace(1, first=1.0), 0.0, []
    for _ in range(9):
        asked.refused(now, asked.start(now))
        pauses.append(asked.earliest(now) - now)
        now = asked.earliest(now)
    assert [round(p / pauses[0]) for p in pauses] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    asked.answered(now, asked.start(now), 0.0)
    asked.refused(now + 1, asked.start(now + 1))
    assert asked.earliest(now + 1) - now - 1 == pytest.approx(pauses[0])


@pytest.mark.parametrize("rpm", [1, 30, 600, 60_000])
def test_no_minute_has_more_requests_than_rpm_and_a_second_s_worth(rpm: int) -> None:
    begun = run(pace(rpm=rpm), InFlight(1000), 3 * rpm if rpm < 60_000 else 20_000, 0.001).begun
    spans = [later - begun[i] for i, later in enumerate(begun[rpm + max(1, rpm // 60) :])]
    assert all(span >= 60.0 - 1e-6 for span in spans)
    assert begun[-1] <= 60.0 * len(begun) / rpm


def test_tokens_are_taken_as_estimated_and_put_right_by_what_was_used() -> None:
    asked = pace(tpm=6000)  # 100 a second
    start = asked.start(0.0, tokens=1000)
    assert asked.earliest(0.0, 100) == pytest.approx(10.0)
    asked.answered(0.0, start, tokens=300)
    assert asked.earliest(0.0, 100) == pytest.approx(3.0)
    asked.refused(0.0, asked.start(0.0, tokens=5000), wait=1e-6)
    assert asked.earliest(0.1, 100) == pytest.approx(3.0)


def test_a_request_larger_than_a_minute_s_tokens_is_still_sent() -> None:
    assert len(run(pace(tpm=600), InFlight(9), 3, tokens=2000).begun) == 3


def test_a_full_bucket_saves_up_no_more_than_its_span() -> None:
    bucket = Bucket(10.0, span=2.0)
    bucket.take(0.0, 20)
    assert bucket.earliest(0.0, 1) == pytest.approx(0.1)
    assert bucket.earliest(1000.0, 20) == 1000.0
    bucket.take(1000.0, 20)
    assert bucket.earliest(1000.0, 20) == pytest.approx(1002.0)


def test_nothing_starts_while_all_that_may_be_are_in_flight() -> None:
    asked = pace(2)
    assert len(filled(asked)) == 2
    assert asked.earliest(5.0) == math.inf


def test_the_tokens_of_an_answer_are_guessed_from_the_ones_before() -> None:
    guess = Guess(most=4000)
    assert guess.of(characters=400) == 4100
    for tokens in (200, 400):
        guess.learn(tokens)
    assert guess.of(characters=400) == pytest.approx(400)
