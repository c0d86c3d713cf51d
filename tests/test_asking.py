"""Asking: dialogues held over records through a backend that answers in whatever order it likes."""

import random
from collections.abc import Iterator

import pytest

from drp.asking import Asking
from drp.backends import Answer, Ask
from drp.models import Completion, Endpoint, Message, Model, Request, Sampling
from drp.op import Talk
from drp.records import Dropped, Kept, Outcome, Record

MODEL = Model("teacher", "fake", Sampling(), Endpoint("rules"))


def ask(text: str) -> Request:
    return MODEL.request((Message("user", text),))


class Shuffled:
    """Holds up to `width` asks and answers one of them at random, in capitals."""

    def __init__(self, width: int, seed: int = 0) -> None:
        self.width, self.random = width, random.Random(seed)
        self.most = 0
        self.seen: list[str] = []

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[list[Answer]]:
        hand: list[Ask] = []
        ended = False
        while hand or not ended:
            while not ended and len(hand) < self.width:
                try:
                    got = next(asks)
                except StopIteration:
                    ended = True
                    break
                if got is None:
                    break
                hand.append(got)
            self.most = max(self.most, len(hand))
            if not hand:
                yield []
                continue
            chosen = hand.pop(self.random.randrange(len(hand)))
            self.seen.append(chosen.request.messages[0].content)
            yield [Answer(chosen.ticket, Completion(self.seen[-1].upper(), "stop"))]


def records(count: int) -> list[Record]:
    return [{"id": f"{n:04}"} for n in range(count)]


def chat(record: Record) -> Talk:
    """As many rounds as the last digit of the id, of as many requests as the round's number."""
    heard: list[str] = []
    for round_ in range(int(record["id"][-1])):
        replies = yield [ask(f"{record['id']} r{round_} q{slot}") for slot in range(round_)]
        heard += [reply.text for reply in replies]
    return Kept({**record, "heard": heard})


def ids(outcomes: list[Outcome]) -> list[str]:
    return [outcome.record["id"] for outcome in outcomes]


@pytest.mark.parametrize(("width", "window"), [(1, 1), (7, 3), (64, 32), (3, 200)])
def test_outcomes_come_in_the_order_of_records_whatever_the_order_of_answers(width: int, window: int) -> None:
    found = list(Asking(Shuffled(width), window).run(records(120), chat))
    assert ids(found) == [r["id"] for r in records(120)]


def test_replies_come_in_the_order_of_their_requests_over_every_round() -> None:
    for outcome in Asking(Shuffled(16), 32).run(records(40), chat):
        here = outcome.record["id"]
        said = [f"{here} R{round_} Q{slot}" for round_ in range(int(here[-1])) for slot in range(round_)]
        assert outcome.record["heard"] == said


def test_no_more_records_are_open_than_the_window_allows() -> None:
    opened = given = most = 0

    def source() -> Iterator[Record]:
        nonlocal opened, most
        for record in records(200):
            opened += 1
            most = max(most, opened - given)
            yield record

    def once(record: Record) -> Talk:
        yield [ask(record["id"])]
        return Kept(record)

    for _ in Asking(Shuffled(50), 10).run(source(), once):
        given += 1
    assert given == 200
    assert 5 < most <= 11  # one may be drawn while the one before it is on its way out


def test_the_window_is_filled_so_that_a_backend_has_much_in_hand() -> None:
    def once(record: Record) -> Talk:
        yield [ask(record["id"])]
        return Kept(record)

    backend = Shuffled(32)
    list(Asking(backend, 32).run(records(200), once))
    assert backend.most == 32


def test_a_dialogue_that_asks_nothing_and_one_that_returns_several_outcomes_are_fine() -> None:
    def several(record: Record) -> Talk:
        if record["id"] == "0001":
            return Dropped(record, "no-thought")
        replies = yield [ask("a"), ask("b")]
        return [Kept({"id": f"{record['id']}/{n}", "text": reply.text}) for n, reply in enumerate(replies)]

    backend = Shuffled(4)
    found = list(Asking(backend, 4).run(records(3), several))
    assert ids(found) == ["0000/0", "0000/1", "0001", "0002/0", "0002/1"]
    assert sorted(backend.seen) == ["a", "a", "b", "b"]


def test_no_records_need_no_answers() -> None:
    backend = Shuffled(4)
    assert list(Asking(backend, 4).run([], chat)) == []
    assert backend.seen == []


def test_an_error_in_a_dialogue_reaches_the_caller() -> None:
    def broken(record: Record) -> Talk:
        yield [ask("a")]
        raise ZeroDivisionError(record["id"])

    with pytest.raises(ZeroDivisionError, match="0000"):
        list(Asking(Shuffled(1), 1).run(records(3), broken))
