"""The completion store: what was answered once is never asked again, whoever asks and however the asker died."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drp.backends import Ask
from drp.errors import DataError
from drp.models import Completion, Endpoint, Finish, Message, Model, Request, Sampling
from drp.store import Store
from drp.stored import Stored
from tests.fakes import Answers, silent

MODEL = Model("teacher", "fake", Sampling(0.5), Endpoint("rules"))


def ask(text: str, model: Model = MODEL, **options: Any) -> Request:
    return model.request((Message("user", text),), **options)


def upper(request: Request) -> Completion:
    return Completion(request.messages[0].content.upper(), "stop", 3, 4, "fake-1")


def run(store: Store, backend: Answers, *requests: Request) -> list[Completion]:
    asks = (Ask(ticket, request) for ticket, request in enumerate(requests))
    found = {a.ticket: a.completion for burst in Stored(backend, store).complete(asks) for a in burst}
    return [found[ticket] for ticket in range(len(requests))]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "drp" / "completions.sqlite")
    yield opened
    opened.close()


def test_what_is_stored_is_not_asked_again_and_is_the_same_completion(store: Store) -> None:
    backend = Answers(upper)
    first = run(store, backend, ask("a"), ask("b"))
    again = run(store, backend, ask("b"), ask("c"), ask("a"))
    assert [r.messages[0].content for r in backend.requests] == ["a", "b", "c"]
    assert [again[2], again[0]] == first
    assert first[0] == Completion("A", "stop", 3, 4, "fake-1", "", ask("a").key())


def test_identity_index_and_seed_tell_requests_apart_and_the_endpoint_does_not(store: Store) -> None:
    backend = Answers(upper)
    hotter = replace(MODEL, sampling=Sampling(0.9))
    elsewhere = replace(MODEL, role="other", endpoint=Endpoint("openai", base_url="http://127.0.0.1:1/v1", concurrency=2))
    run(store, backend, ask("a"))
    run(store, backend, ask("a", elsewhere))
    assert len(backend.requests) == 1
    run(store, backend, ask("a", hotter), ask("a", index=1), ask("a", seed=1))
    assert len(backend.requests) == 4


@pytest.mark.parametrize(("finish", "error"), [("length", ""), ("error", "400: no"), ("content_filter", "")])
def test_an_answer_that_is_not_whole_is_kept_but_not_reused(store: Store, finish: Finish, error: str) -> None:
    backend = Answers(lambda request: Completion("half", finish, error=error))
    assert run(store, backend, ask("a"))[0].finish == finish
    with sqlite3.connect(store.path) as other:
        assert [json.loads(row[0])["finish"] for row in other.execute("select completion from completions")] == [finish]
    assert run(store, Answers(upper), ask("a"))[0].text == "A"
    assert run(store, Answers(silent), ask("a"))[0].text == "A"


def test_an_answer_that_was_cut_off_is_reused_where_it_need_not_be_whole(store: Store) -> None:
    run(store, Answers(lambda request: Completion("half", "length")), ask("a", whole=False))
    assert run(store, Answers(silent), ask("a", whole=False))[0].text == "half"
    assert run(store, Answers(upper), ask("a"))[0].text == "A"


def test_hundreds_of_stored_answers_come_without_asking_the_backend_anything(store: Store) -> None:
    requests = [ask(str(n)) for n in range(700)]
    for request in requests[:600]:
        store.keep([(request, upper(request))])
    backend = Answers(upper)
    found = run(store, backend, *requests)
    assert [c.text for c in found] == [str(n) for n in range(700)]
    assert len(backend.requests) == 100


def test_an_answer_is_durable_before_it_is_used(store: Store) -> None:
    asks = (Ask(n, ask(str(n))) for n in range(5))
    for burst in Stored(Answers(upper), store).complete(asks):
        for answer in burst:
            other = Store(store.path)
            assert other.get(ask(str(answer.ticket))) == answer.completion
            other.close()


def test_a_dialogue_goes_on_over_stored_and_new_answers_alike(store: Store) -> None:
    run(store, Answers(upper), ask("r0"), ask("r2"))
    given: list[str] = []

    def asks() -> Iterator[Ask | None]:
        for n in range(4):
            yield Ask(n, ask(f"r{n}"))
            while len(given) <= n:
                yield None

    backend = Answers(upper)
    for burst in Stored(backend, store).complete(asks()):
        given.extend(answer.completion.text for answer in burst)
    assert given == ["R0", "R1", "R2", "R3"]
    assert [r.messages[0].content for r in backend.requests] == ["r1", "r3"]


@pytest.mark.parametrize("content", [b"this is not a database, and never was one" * 200, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_a_store_that_is_corrupt_is_refused_with_a_cure_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "completions.sqlite"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"completions\.sqlite: the completion store (cannot be used|is torn)"):
        Store(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("harm", ["torn", "overwritten"])
def test_a_store_that_was_harmed_inside_is_refused_with_a_cure_not_emptied(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "completions.sqlite"
    store = Store(path)
    for n in range(300):
        store.keep([(ask(str(n)), upper(ask(str(n))))])
    store.close()
    whole = path.read_bytes()
    page = 4096
    harmed = whole[: len(whole) // 2] if harm == "torn" else whole[: 2 * page] + b"\xa5" * (len(whole) - 2 * page)
    path.write_bytes(harmed)
    with pytest.raises(DataError, match=r"completions\.sqlite: .*malformed"):
        run(Store(path), Answers(upper), *(ask(str(n)) for n in range(300)))
    assert path.read_bytes() == harmed


WORKER = """
    import sys, time
    from pathlib import Path
    from drp.backends import Ask
    from drp.models import Completion
    from drp.store import Store
    from drp.stored import Stored
    from tests.fakes import Answers
    from tests.test_store import ask

    store, log, start, end, pause = Path(sys.argv[1]), open(sys.argv[2], "a"), *map(float, sys.argv[3:])

    def answer(request):
        print(request.messages[0].content, file=log, flush=True)
        time.sleep(pause)
        return Completion(request.messages[0].content.upper(), "stop")

    requests = [ask(str(n)) for n in range(int(start), int(end))]
    for _ in Stored(Answers(answer), Store(store)).complete(Ask(n, r) for n, r in enumerate(requests)):
        pass
"""


def worker(store: Path, log: Path, start: int, end: int, pause: float) -> "subprocess.Popen[bytes]":
    """Another process that asks for the numbers from `start` to `end`, and logs each one that it has to pay for."""
    root = Path(__file__).parent.parent
    arguments = [str(store), str(log), str(start), str(end), str(pause)]
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(WORKER), *arguments], cwd=root)


def paid(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def test_a_process_that_is_killed_loses_at_most_what_was_in_flight(tmp_path: Path) -> None:
    store, log = tmp_path / "completions.sqlite", tmp_path / "log"
    for goal in (40, 120):
        process = worker(store, log, 0, 300, 0.005)
        deadline = time.monotonic() + 30
        while len(paid(log)) < goal and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert 120 <= len(paid(log)) < 300
    assert worker(store, log, 0, 300, 0.0).wait(30) == 0
    assert sorted(set(map(int, paid(log)))) == list(range(300))
    assert len(paid(log)) <= 302


def test_two_processes_share_a_store_at_the_same_time(tmp_path: Path) -> None:
    store, logs = tmp_path / "completions.sqlite", [tmp_path / "a", tmp_path / "b"]
    processes = [worker(store, logs[0], 0, 200, 0.002), worker(store, logs[1], 100, 300, 0.002)]
    assert [p.wait(60) for p in processes] == [0, 0]
    assert worker(store, tmp_path / "c", 0, 300, 0).wait(30) == 0
    assert paid(tmp_path / "c") == []
