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

from drp.backends import Answer, Ask
from drp.errors import DataError
from drp.models import Completion, Endpoint, Finish, Message, Model, Request, Sampling
from drp.store import wal
from drp.store.completions import Owner, Store
from drp.store.stored import AT_ONCE, Stored
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


def test_a_burst_is_kept_a_thousand_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class AllAtOnce:
        def complete(self, asks: Iterator[Ask | None]) -> Iterator[list[Answer]]:
            yield [Answer(a.ticket, upper(a.request)) for a in asks if a]

    sizes: list[int] = []
    keep = store.keep

    def counted(answered: Any, *more: Any) -> list[Completion]:
        sizes.append(len(answered))
        return keep(answered, *more)

    monkeypatch.setattr(store, "keep", counted)
    bursts = list(Stored(AllAtOnce(), store).complete(Ask(n, ask(f"r{n}")) for n in range(2 * AT_ONCE + 1)))
    assert sizes == [AT_ONCE, AT_ONCE, 1]
    assert [[(a.ticket, a.completion.text) for a in burst] for burst in bursts] == [
        [(n, f"R{n}") for n in range(2 * AT_ONCE + 1)]
    ]


def test_a_run_that_ends_early_takes_nothing_from_what_its_stage_used_and_one_that_ends_well_replaces_it(store: Store) -> None:
    owner = Owner("one", "b")

    def answered(*texts: str) -> Iterator[Any]:
        store.begin(owner)
        return iter(Stored(Answers(upper), store, owner).complete(Ask(n, ask(text)) for n, text in enumerate(texts)))

    def uses() -> list[str]:
        rows = store.rows("select json_extract(completion, '$.text') from completions where id in (select completion from uses)")
        return sorted(text for (text,) in rows)

    list(answered("a", "b", "c"))
    store.end(owner)
    assert uses() == ["A", "B", "C"]
    run = answered("d", "b", "e")
    assert uses() == ["A", "B", "C"]
    assert next(burst for burst in run if burst)[0].completion.text == "D"
    assert uses() == ["A", "B", "C", "D"], "a new answer is in use as soon as it is kept"
    del run
    list(answered("b", "d", "e"))
    assert uses() == ["A", "B", "C", "D", "E"]
    store.end(owner)
    assert uses() == ["B", "D", "E"]


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


def test_a_completion_that_was_altered_is_refused_by_its_digest(store: Store) -> None:
    run(store, Answers(upper), ask("a"))
    store.db.execute("update completions set completion = replace(completion, '\"A\"', '\"B\"')")
    with pytest.raises(DataError, match=r"completion [0-9a-f]{64} is not what was stored .*check --repair"):
        run(store, Answers(upper), ask("a"))


def test_an_emptied_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "completions.sqlite"
    path.touch()
    with pytest.raises(DataError, match=r"is empty, which it never is: bring it back"):
        Store(path)


@pytest.mark.parametrize("number", [0, 3])
def test_a_store_of_another_format_is_refused_with_a_cure_and_left_as_it_is(tmp_path: Path, number: int) -> None:
    path = tmp_path / "completions.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("create table completions (key text primary key, model text, request text, completion text, finish text)")
        other.execute("insert into completions values ('a', 'b', 'c', 'd', 'stop')")
        other.execute(f"pragma user_version = {number}")
    other.close()
    before = path.read_bytes()
    with pytest.raises(
        DataError, match=rf"has format {number}, not 2: .*: mv completions\.sqlite completions\.sqlite\.format-{number}"
    ):
        Store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("shared", "folder", "file"), [(0o2775, 0o2775, 0o664), (0o755, 0o755, 0o644)])
def test_a_store_is_as_open_to_others_as_the_cache_that_it_is_in(tmp_path: Path, shared: int, folder: int, file: int) -> None:
    tmp_path.chmod(shared)
    path = tmp_path / "drp" / "completions.sqlite"
    Store(path).close()
    assert path.parent.stat().st_mode & 0o7777 == folder
    assert path.stat().st_mode & 0o7777 == file


# -- the log that a killed process leaves ------------------------------------------------------------------------------------

KILLED = """
    import os, signal, sys
    from pathlib import Path
    from drp.store.completions import Store
    from tests.test_store import ask, upper

    store = Store(Path(sys.argv[1]))
    for n in range(int(sys.argv[2])):
        store.keep([(ask(str(n)), upper(ask(str(n))))])
    os.kill(os.getpid(), signal.SIGKILL)
"""
ROOT = Path(__file__).parent.parent


def killed(path: Path, answers: int = 30) -> Path:
    """A store whose writer was killed: its answers are in the log, and nowhere else. Gives the log."""
    subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(path), str(answers)], cwd=ROOT, check=False)
    log = wal.beside(path, "-wal")
    assert log.stat().st_size > 30 * 4096
    return log


def stored(path: Path, answers: int = 30) -> int:
    """How many of the answers a store has."""
    store = Store(path)
    found = sum(store.get(ask(str(n))) is not None for n in range(answers))
    store.close()
    return found


def flip(file: Path, at: int) -> bytes:
    """Change one byte; gives what the file holds now."""
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.write_bytes(data)
    return bytes(data)


FRAME = 24 + 4096


@pytest.mark.parametrize("index", [True, False], ids=["with-index", "without-index"])
@pytest.mark.parametrize("part", ["page", "salt", "checksum"])
def test_a_log_damaged_in_its_middle_is_refused_not_dropped(tmp_path: Path, index: bool, part: str) -> None:
    path = tmp_path / "completions.sqlite"
    log = killed(path)
    frames = (log.stat().st_size - 32) // FRAME
    damaged = flip(log, 32 + frames // 2 * FRAME + {"page": 24 + 99, "salt": 9, "checksum": 17}[part])
    if not index:
        wal.beside(path, "-shm").unlink()
    with pytest.raises(DataError, match=rf"torn .*its log is damaged at page {frames // 2 + 1} of {frames}; .*check --repair"):
        Store(path)
    assert log.read_bytes() == damaged


def test_a_log_whose_head_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "completions.sqlite"
    flip(killed(path), 13)
    with pytest.raises(DataError, match="its log is damaged at its head"):
        Store(path)


def test_a_log_cut_short_is_known_by_its_index_and_without_one_is_a_write_that_a_power_cut_tore(tmp_path: Path) -> None:
    path = tmp_path / "completions.sqlite"
    log = killed(path)
    log.write_bytes(log.read_bytes()[:-5000])
    with pytest.raises(DataError, match="its log is damaged at page"):
        Store(path)
    wal.beside(path, "-shm").unlink()
    assert stored(path) == 29, "only the last answer, which nobody was given"


def test_a_log_that_is_gone_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "completions.sqlite"
    killed(path).unlink()
    with pytest.raises(DataError, match="its log is gone"):
        Store(path)


def test_a_log_without_its_store_is_not_put_under_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "completions.sqlite"
    killed(path)
    path.unlink()
    with pytest.raises(DataError, match=r"is gone, its log completions\.sqlite-wal is not"):
        Store(path)
    assert not path.exists()


def test_a_store_cut_short_is_known_also_where_there_is_a_log(tmp_path: Path) -> None:
    path = tmp_path / "completions.sqlite"
    big = Store(path)
    with big.transaction() as db:
        db.execute("insert into texts values ('a', ?)", ("x" * 200_000,))
    big.close()
    killed(path)
    with path.open("r+b") as file:
        file.truncate(20 * 4096)
    with pytest.raises(DataError, match=r"torn \(malformed\): 81920 of \d+ bytes"):
        Store(path)


def test_a_log_left_by_a_kill_is_taken_whole(tmp_path: Path) -> None:
    path = tmp_path / "completions.sqlite"
    killed(path)
    assert stored(path) == 30


def test_logs_left_by_kills_again_and_again_are_no_alarm(tmp_path: Path) -> None:
    path = tmp_path / "completions.sqlite"
    for round_ in range(1, 6):
        killed(path, 30 * round_)
        if round_ % 2:
            wal.beside(path, "-shm").unlink()
        assert stored(path, 30 * round_) == 30 * round_


def test_the_log_s_checksum_is_sqlite_s(tmp_path: Path) -> None:
    log = wal.Log(killed(tmp_path / "completions.sqlite"))
    assert log.sound == len(log.frames) == log.committed(len(log.frames))
    assert wal.index(tmp_path / "completions.sqlite").frames == log.sound


# -- a full disk -------------------------------------------------------------------------------------------------------------

FULL = """
    import resource, sys
    from pathlib import Path
    from drp.errors import DataError
    from drp.store.completions import Store
    from tests.test_store import ask, upper

    store = Store(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    kept = 0
    try:
        for n in range(1000):
            store.keep([(ask(str(n)), upper(ask(str(n))))])
            kept += 1
    except DataError as error:
        print(kept, error)
        for n in range(kept):
            assert store.get(ask(str(n)))
"""


def test_a_full_disk_is_named_with_a_cure_and_the_next_run_finds_all_that_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "completions.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(path)], cwd=ROOT, text=True, capture_output=True, check=True
    )
    kept, message = done.stdout.split(" ", 1)
    assert 10 < int(kept) < 1000
    assert "the completion store cannot be used" in message
    assert "make room" in message
    assert stored(path, int(kept)) == int(kept)
    store = Store(path)
    run(store, Answers(upper), *(ask(str(n)) for n in range(300)))
    assert store.rows("pragma integrity_check") == [("ok",)]


# -- several processes -------------------------------------------------------------------------------------------------------

WORKER = """
    import sys, time
    from pathlib import Path
    from drp.backends import Ask
    from drp.models import Completion
    from drp.store.completions import Store
    from drp.store.stored import Stored
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


def test_four_processes_ask_and_find_while_others_forget_and_export(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    path = tmp_path / "completions.sqlite"
    environment = {**os.environ, "DRP_CACHE": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def cache(*arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "drp", "cache", *arguments]
        return subprocess.Popen(
            command, cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}, text=True, stderr=subprocess.PIPE
        )

    Store(path).close()
    workers = [worker(path, tmp_path / f"log{n}", 100 * n, 100 * n + 500, 0.002) for n in range(4)]
    others: list[subprocess.Popen[str]] = []
    while any(process.poll() is None for process in workers):
        others += [
            cache("forget", "--where", "completion_tokens = 0 and abs(random()) % 3 = 0", "--yes"),
            cache("export", "--out", f"{len(others)}.parquet"),
        ]
        assert [(p.wait(60), p.stderr and p.stderr.read()) for p in others[-2:]] == [(0, ""), (0, "")]
    assert [process.wait() for process in workers] == [0, 0, 0, 0]
    assert len(others) > 2
    store = Store(path)
    assert store.rows("pragma integrity_check") == [("ok",)]
    assert store.rows("select count(*) from uses where completion not in (select id from completions)") == [(0,)]
    store.close()
