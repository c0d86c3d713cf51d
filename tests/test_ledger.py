"""Money set aside: what is paid, lost and held never exceeds a limit, and the dead hold nothing."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from drp.backends import Answer, Ask
from drp.errors import BudgetReached
from drp.models import Completion, Endpoint, Message, Model, Request, Sampling
from drp.money.ledger import LOST, Lease, Limit, lost, settle, spent
from drp.money.prices import Price
from drp.money.purse import ENOUGH, Bound, Purse
from drp.store.completions import Owner, Store
from drp.store.stored import Stored
from tests.fakes import Answers

OWNER, OTHER = Owner("one", "b"), Owner("one", "c--x")
WHOLE = Limit(10.0, "one", None, "budget in recipes/one/recipe.yaml", "USD")
PART = Limit(4.0, "one", "b", "stages.b.budget in recipes/one/recipe.yaml", "USD")
MODEL = Model("m", "some-model", Sampling(max_tokens=100), Endpoint("openai"))
PRICE = Price(0.0, 10_000.0, "2025-01-31", "a test")
"""A token of a completion is 0.01: a request is 1 at the worst."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "completions.sqlite")
    yield opened
    opened.close()


def ask(text: str) -> Request:
    return MODEL.request((Message("user", text),))


def pay(store: Store, owner: Owner, *costs: float) -> None:
    answered = [(ask(f"{owner.stage}{n}"), Completion("x", "stop", 3, 4)) for n, _ in enumerate(costs)]
    store.keep(answered, owner, costs)


def held(store: Store) -> list[tuple[str, float]]:
    return [(stage, amount) for stage, amount in store.rows("select stage, amount from leases order by id")]


def test_what_was_paid_is_summed_by_recipe_and_by_stage_with_all_its_variants(store: Store) -> None:
    pay(store, OWNER, 1.0, 0.5)
    pay(store, OTHER, 2.0)
    pay(store, Owner("one", "c"), 0.25)
    pay(store, Owner("one", "ca"), 0.0)
    pay(store, Owner("two", "b"), 8.0)
    assert (spent(store, "one"), spent(store, "one", "b"), spent(store, "one", "c"), spent(store, "two")) == (
        3.75,
        1.5,
        2.25,
        8.0,
    )


def test_two_leases_never_hold_more_than_is_left_of_either_limit(store: Store) -> None:
    pay(store, OWNER, 1.0)
    mine, theirs = Lease(store, OWNER, [PART, WHOLE]), Lease(store, OTHER, [WHOLE])
    assert mine.hold(0.0, 2.0, ahead=8.0) is None
    assert 2.0 < mine.amount < 3.0, "some of what is free is left to others"
    assert theirs.hold(0.0, 9.0 - mine.amount) is None
    refusal = theirs.hold(theirs.amount, 0.01)
    assert refusal is not None
    assert (refusal.limit, refusal.spent, refusal.lost) == (WHOLE, 1.0, 0.0)
    refusal = mine.hold(mine.amount, 4.0)
    assert refusal is not None
    assert refusal.limit == PART
    mine.end(0.0)
    theirs.end(0.0)
    assert held(store) == []
    assert lost(store, "one") == 0.0


def test_what_is_in_flight_when_a_run_ends_counts_as_paid_but_for_a_batch_that_is_waited_for(store: Store) -> None:
    lease = Lease(store, OWNER, [PART])
    lease.hold(0.0, 3.0)
    lease.end(2.5)
    assert (lost(store, "one"), lost(store, "one", "b"), lost(store, "one", "c")) == (2.5, 2.5, 0.0)
    assert Lease(store, OWNER, [PART]).hold(0.0, 2.0) is not None
    resumed = Lease(store, OWNER, [PART, WHOLE], resumes=True)
    assert (lost(store, "one"), held(store)) == (0.0, [("b", 2.5)])
    assert Lease(store, OTHER, [WHOLE]).hold(0.0, 8.0) is not None, "it is nobody else's meanwhile"
    assert resumed.hold(0.0, 2.0) is None
    assert held(store) == [("b", 2.5)], "what was in flight covers what is asked anew"
    resumed.landed(1.0)
    resumed.end(0.0)
    assert lost(store, "one") == 1.5, "what has not come yet"
    settle(store, OWNER)
    assert lost(store, "one") == 0.0


def test_a_dead_process_holds_no_lease_even_where_its_pid_is_given_again(store: Store) -> None:
    code = (
        "import sys, os; from pathlib import Path; from drp.money.ledger import Lease, Limit; from drp.store.completions import Owner, Store;"
        "Lease(Store(Path(sys.argv[1])), Owner('one', 'b'), [Limit(4.0, 'one', 'b', '', 'USD')]).hold(0.0, 3.0); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(store.path)], check=False).returncode == 9
    [(process,)] = store.rows("select process from leases")
    lease = Lease(store, OWNER, [PART])
    assert store.rows("select process, amount from leases") == [(LOST, 3.0)]
    lease.hold(0.0, 0.5)
    [(alive,)] = store.rows("select process from leases where process != ?", (LOST,))
    born_then = ":".join([str(os.getpid()), process.split(":")[1], alive.split(":")[2]])
    with store.transaction() as db:
        db.execute("insert into leases (process, recipe, stage, amount) values (?, 'one', 'b', 0.25)", (born_then,))
    Lease(store, OWNER, [PART])
    assert lost(store, "one") == 3.25
    assert store.rows("select amount from leases where process = ?", (alive,)) == [(0.5,)]


def purse(store: Store, backend: object, *limits: Limit) -> Stored:
    made = Purse(backend, PRICE, store, OWNER, limits, done=lambda: 7)  # type: ignore[arg-type]
    return Stored(made, store, OWNER, made.cost)


def test_an_ask_that_cannot_be_afforded_waits_for_those_in_flight_and_the_cure_is_named(store: Store) -> None:
    class Two:
        """Answers two at a time, or what there is; `most` is what could have been paid at any moment."""

        most = 0.0

        def complete(self, asks: Iterator[Ask | None]) -> Iterator[list[Answer]]:
            hand: list[Ask] = []
            for ask in asks:
                if ask is not None:
                    hand.append(ask)
                    self.most = max(self.most, len(hand) + spent(store, "one"))
                if ask is None or len(hand) == 8:
                    burst, hand = hand[:2], hand[2:]
                    yield [Answer(a.ticket, Completion("x", "stop", 0, 25)) for a in burst]

    backend = Two()
    asks = (Ask(n, ask(str(n))) for n in range(100))
    with pytest.raises(BudgetReached) as raised:
        list(purse(store, backend, PART, WHOLE).complete(asks))
    assert backend.most == 4.0
    assert spent(store, "one") == 3.25, "thirteen were paid for: one more could make it 4.25"
    assert held(store) == []
    assert str(raised.value) == (
        "one/b: the budget of stage 'b' is reached: 3.25 of 4 USD is paid, and the next request could cost 1; 7 records are done. "
        "Raise stages.b.budget in recipes/one/recipe.yaml; what is paid is kept, so running it again goes on from here"
    )
    assert raised.value.exit_code == 77


def test_a_purse_waits_for_what_another_process_holds(store: Store) -> None:
    code = (
        "import sys; from pathlib import Path; from drp.money.ledger import Lease, Limit; from drp.store.completions import Owner, Store;"
        "lease = Lease(Store(Path(sys.argv[1])), Owner('one', 'c'), [Limit(10.0, 'one', None, '', 'USD')]);"
        "lease.hold(0.0, 9.5); print('held', flush=True); sys.stdin.readline(); lease.end(0.0)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == "held\n"
        said = threading.Event()
        made = Purse(
            Answers(lambda request: Completion("x", "stop", 0, 25)), PRICE, store, OWNER, [WHOLE], say=lambda text: said.set()
        )
        release = threading.Thread(target=lambda: (said.wait(20), other.stdin.write("\n"), other.stdin.flush()))  # type: ignore[union-attr]
        release.start()
        burst = next(b for b in made.complete(iter([Ask(0, ask("a"))])) if b)
        release.join()
        assert burst[0].completion.text == "x"
        assert said.is_set()


def test_the_bound_of_a_prompt_is_its_bytes_until_enough_answers_are_seen() -> None:
    bound, request = Bound(), ask("e" * 200)
    assert bound.prompt(request) >= 200
    for _ in range(ENOUGH):
        bound.seen(request, Completion("x", "stop", 50, 10))
    assert 50 < bound.prompt(request) < 100
    assert bound.completion(request) == 100
    bound.seen(request, Completion("x", "stop", 5000, 300))
    assert bound.prompt(request) > 5000
    assert bound.completion(request) == 300, "a server that does not keep to max_tokens"


def test_what_english_prompts_teach_is_not_held_of_chinese_ones() -> None:
    bound = Bound()
    for _ in range(2 * ENOUGH):
        bound.seen(ask("word " * 100), Completion("x", "stop", 110, 10))
    assert bound.prompt(ask("word " * 100)) < 250
    assert bound.prompt(ask("龘" * 100)) >= 300
    for _ in range(2 * ENOUGH):
        bound.seen(ask("龘" * 100), Completion("x", "stop", 100, 10))
    assert bound.prompt(ask("word " * 100)) < 250, "nor the other way round"


def test_an_answer_without_usage_costs_what_was_set_aside_for_it_and_that_is_said_once(store: Store) -> None:
    said: list[str] = []
    made = Purse(Answers(lambda request: Completion("x", "stop")), PRICE, store, OWNER, [PART], say=said.append)
    with pytest.raises(BudgetReached):
        list(Stored(made, store, OWNER, made.cost).complete(Ask(n, ask(str(n))) for n in range(100)))
    assert spent(store, "one") == 4.0
    assert len(said) == 1
    assert "reports no usage" in said[0]
    assert made.cost(ask("a"), Completion("", "error", error="400")) == 0.0


def test_a_burst_that_was_kept_is_paid_and_not_lost_where_nobody_comes_back(store: Store) -> None:
    class Three:
        def complete(self, asks: Iterator[Ask | None]) -> Iterator[list[Answer]]:
            hand = [ask for _, ask in zip(range(3), asks, strict=False) if ask]
            yield [Answer(a.ticket, Completion("x", "stop", 0, 25)) for a in hand[:2]]

    stream = purse(store, Three(), PART).complete(Ask(n, ask(str(n))) for n in range(9))
    assert len(next(b for b in stream if b)) == 2
    stream.close()  # type: ignore[attr-defined]
    assert spent(store, "one") == 0.5
    assert lost(store, "one") == 1.0, "the third"
