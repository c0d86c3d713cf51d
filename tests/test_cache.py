"""`drp cache`: what is stored is counted, checked, repaired, shared and forgotten, and nothing of it is lost on the way."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drp import cli
from drp.errors import DataError
from drp.models import Completion, Finish, Request, Sampling
from drp.store.completions import Owner, Store
from tests.projects import project
from tests.servers import ChatServer, said
from tests.test_store import MODEL, ask, flip, killed

Cache = Callable[..., str]
EDITS, STEPS = Owner("one", "edits"), Owner("one", "steps--skill")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cache:
    """Runs `drp cache …` in a project, and gives what it printed; `code` is the exit code that it must have."""
    (tmp_path / "p" / "recipes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "p")
    monkeypatch.setenv("DRP_CACHE", str(tmp_path / "c"))

    def run(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert cli.main(["cache", *arguments]) == code
        printed = capsys.readouterr()
        return printed.out + printed.err

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c" / "completions.sqlite"


def answer(request: Request, finish: Finish = "stop", text: str = "") -> Completion:
    return Completion(text or request.messages[0].content.upper(), finish, 10, 20, "fake-1")


def fill(path: Path, owner: Owner, *requests: Request, finish: Finish = "stop", text: str = "", cost: float = 0.5) -> list[str]:
    """Answer requests for a stage; gives the keys."""
    store = Store(path)
    kept = store.keep([(r, answer(r, finish, text)) for r in requests], owner, [cost] * len(requests))
    keys = [completion.key for completion in kept]
    store.used(owner, keys)
    store.close()
    return keys


def many(first: int, last: int) -> list[Request]:
    return [ask(f"{n} " + "word " * 40) for n in range(first, last)]


def has(path: Path, *requests: Request) -> list[bool]:
    store = Store(path)
    found = [store.get(request) is not None for request in requests]
    store.close()
    return found


# -- stats -----------------------------------------------------------------------------------------------------------------


def test_stats_count_by_model_and_by_stage_what_is_there_and_what_it_cost(cache: Cache, path: Path) -> None:
    fill(path, EDITS, ask("a"), ask("b"))
    fill(path, STEPS, ask("c"), finish="length")
    fill(path, STEPS, ask("a"), ask("d", replace(MODEL, name="other")))
    store = Store(path)
    store.keep([(ask("e"), answer(ask("e")))])
    store.close()
    found = json.loads(cache("stats", "--json"))
    assert [found[k] for k in ("completions", "reusable", "cut_off", "unused")] == [5, 4, 1, 1]
    assert found["models"] == [
        {"model": "fake", "completions": 4, "finish": {"length": 1, "stop": 3}, "prompt_tokens": 40, "completion_tokens": 80},
        {"model": "other", "completions": 1, "finish": {"stop": 1}, "prompt_tokens": 10, "completion_tokens": 20},
    ]
    by_stage = {s["stage"]: (s["uses"], s["payments"], s["completion_tokens"], s["cost"]) for s in found["stages"]}
    assert by_stage == {"": (0, 1, 20, 0.0), "edits": (2, 2, 40, 1.0), "steps--skill": (3, 3, 60, 1.5)}
    assert found["bytes"] > 4096
    assert found["oldest"] <= found["newest"]
    assert "5 completions: 4 whole (80.0%), 1 cut off; 1 used by no last run" in cache("stats")


def test_without_a_store_nothing_is_made(cache: Cache, path: Path) -> None:
    assert "no completions yet" in cache("stats", code=1)
    assert "no completions yet" in cache("check")
    assert "no completions yet" in cache("export", "--out", "x.parquet", code=1)
    assert not path.parent.exists()


# -- check and repair ----------------------------------------------------------------------------------------------------------


def test_a_sound_store_is_called_sound_and_is_not_touched_by_a_repair(cache: Cache, path: Path) -> None:
    fill(path, EDITS, *many(0, 50))
    before = path.read_bytes()
    assert "50 completions, 50 uses, 50 payments" in cache("check")
    assert cache("check", "--repair").endswith("sound\n")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        ("update completions set completion = replace(completion, 'WORD', 'LORD') where id = 7", "its digest differs"),
        ("update completions set request = replace(request, 'word', 'lord') where id = 7", "its key differs"),
        ("update completions set finish = 'length' where id = 7", "finish differ from what it says itself"),
        ("update completions set request = '{' where id = 7", "it cannot be read"),
        ("update completions set model = 9 where id = 7", "there is no model 9"),
    ],
)
def test_a_row_that_is_not_what_was_stored_is_named_and_a_repair_saves_the_others(
    cache: Cache, path: Path, harm: str, fault: str
) -> None:
    keys = fill(path, EDITS, *many(0, 20))
    store = Store(path)
    store.db.execute(harm)
    store.db.execute("insert into leases (process, recipe, stage, amount) values ('lost', 'one', 'b', 2.5)")
    store.close()
    out = cache("check", code=1)
    assert f"completions {keys[6]}: " in out
    assert fault in out
    out = cache("check", "--repair")
    assert "completions: 19 saved, 1 lost" in out
    assert "uses: 19 saved, 1 lost" in out
    assert "payments: 20 saved, 0 lost" in out
    assert "leases: 1 saved, 0 lost" in out, "money that may have been paid is not forgiven"
    assert has(path, *many(0, 20)) == [n != 6 for n in range(20)]
    assert path.with_name("completions.sqlite.broken-1").exists()
    assert cache("check").endswith("sound\n")


def test_a_flipped_byte_in_a_request_is_found(cache: Cache, path: Path) -> None:
    fill(path, EDITS, *many(0, 20))
    flip(path, path.read_bytes().index(b"11 word word") + 5)
    assert "its key differs" in cache("check", code=1)


def pages_of(path: Path, content: bytes) -> list[int]:
    """The pages of the file in which `content` stands."""
    data = path.read_bytes()
    return [n for n in range(len(data) // 4096) if content in data[n * 4096 : (n + 1) * 4096]]


def spoil(path: Path, *pages: int) -> None:
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)


def test_a_repair_reads_around_bad_pages(cache: Cache, path: Path) -> None:
    fill(path, EDITS, *many(0, 2000))
    leaves = pages_of(path, b"word word")
    assert len(leaves) > 100
    bad = [leaves[10], leaves[11], leaves[60]]
    gone = sum(path.read_bytes()[page * 4096 : (page + 1) * 4096].count(b'{"text"') for page in bad)
    assert gone > 10
    spoil(path, *bad)
    harmed = path.read_bytes()
    out = cache("check", code=1)
    assert f"completions: {gone} rows cannot be read" in out
    assert path.read_bytes() == harmed, "a check changes nothing"
    out = cache("check", "--repair")
    assert f"completions: {2000 - gone} saved, {gone} lost" in out
    assert "payments: 2000 saved, 0 lost" in out
    assert sum(has(path, *many(0, 2000))) == 2000 - gone
    assert path.with_name("completions.sqlite.broken-1").read_bytes() == harmed
    assert cache("check").endswith("sound\n")


def test_a_repair_reads_on_where_the_first_page_is_spoilt(cache: Cache, path: Path) -> None:
    fill(path, EDITS, *many(0, 300))
    spoil(path, 0)
    assert "file is not a database" in cache("check", code=1)
    assert "completions: 300 saved, 0 lost" in cache("check", "--repair")
    assert all(has(path, *many(0, 300)))


def test_a_repair_reads_what_stands_behind_the_damage_in_a_log(cache: Cache, path: Path) -> None:
    log = killed(path, 60)
    frame = 24 + 4096
    flip(log, 32 + (log.stat().st_size - 32) // frame // 2 * frame + 24 + 99)
    assert "its log is damaged" in cache("check", code=1)
    before = log.read_bytes()
    out = cache("check", "--repair")
    saved = sum(has(path, *(ask(str(n)) for n in range(60))))
    assert saved >= 45, out
    assert f"completions: {saved} saved" in out
    assert path.with_name("completions.sqlite.broken-1-wal").read_bytes() == before
    assert cache("check").endswith("sound\n")


def test_a_store_of_which_nothing_can_be_read_is_left_as_it_is(cache: Cache, path: Path) -> None:
    path.parent.mkdir()
    for content in (b"", b"SQLite format 3\x00" + b"\xff" * 8000, b"never a store" * 999):
        path.write_bytes(content)
        assert "nothing in it can be read; it is left as it is" in cache("check", "--repair", code=1)
        assert path.read_bytes() == content
        assert not list(path.parent.glob("*broken*"))


def test_a_repair_waits_for_nobody_and_refuses_while_a_process_uses_the_store(cache: Cache, path: Path) -> None:
    fill(path, EDITS, *many(0, 20))
    store = Store(path)
    store.db.execute("update completions set finish = 'length' where id = 7")
    assert "another process uses the completion store" in cache("check", "--repair", code=1)
    store.close()
    assert "19 saved, 1 lost" in cache("check", "--repair")


def test_a_second_repair_keeps_the_first_broken_file(cache: Cache, path: Path) -> None:
    for _ in range(2):
        fill(path, EDITS, *many(0, 20))
        store = Store(path)
        store.db.execute("update completions set finish = 'length' where id = (select min(id) from completions)")
        store.close()
        cache("check", "--repair")
    assert sorted(p.name for p in path.parent.glob("*broken-?")) == [f"completions.sqlite.broken-{n}" for n in (1, 2)]


DIES = """
import os, signal, sys
from pathlib import Path
from drp.store.repair import repair

steps = int(sys.argv[2])

def watch(event, arguments):
    global steps
    if event in ("os.link", "os.rename", "os.remove") and "completions.sqlite" in str(arguments):
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
repair(Path(sys.argv[1]))
"""


def test_a_repair_that_is_killed_at_any_step_leaves_a_store_that_is_refused_or_whole(cache: Cache, path: Path) -> None:
    whole, refused = 0, list[str]()
    log = killed(path, 40)
    damaged = flip(log, 32 + 20 * (24 + 4096) + 99)
    before = path.parent.rename(path.parent.with_name("before"))
    for steps in range(12):
        shutil.rmtree(path.parent, ignore_errors=True)
        shutil.copytree(before, path.parent)
        died = subprocess.run([sys.executable, "-c", DIES, str(path), str(steps)], cwd=Path(__file__).parents[1], check=False)
        try:
            store = Store(path)
        except DataError as error:
            refused.append(str(error))
        else:
            whole += 1
            assert store.rows("select count(*) from completions")[0][0] >= 35
            store.close()
        assert any(p.read_bytes() == damaged for p in path.parent.glob("*-wal")), "the old one is there in any case"
        if not died.returncode:
            break
    assert whole > 0
    assert {"torn" in text or "a repair did not end" in text for text in refused} == {True}
    assert len(refused) > 4


# -- export and import ---------------------------------------------------------------------------------------------------------


def test_an_export_is_the_same_bytes_whoever_made_it_in_whatever_order(cache: Cache, path: Path, tmp_path: Path) -> None:
    fill(path, EDITS, *many(0, 30))
    fill(path, STEPS, *many(20, 40))
    cache("export", "--out", "one.parquet")
    path.rename(path.with_name("other"))
    fill(path, STEPS, *reversed(many(20, 40)))
    fill(path, EDITS, *reversed(many(0, 30)))
    cache("export", "--out", "two.parquet")
    assert Path("one.parquet").read_bytes() == Path("two.parquet").read_bytes()
    rows = pq.read_table("one.parquet").to_pylist()
    assert [row["key"] for row in rows] == sorted(request.key() for request in many(0, 40))
    assert {tuple(row["used_by"]) for row in rows} == {("one/edits",), ("one/edits", "one/steps--skill"), ("one/steps--skill",)}
    assert list(rows[0]) == [
        "key", "model", "request", "completion", "digest", "finish", "prompt_tokens", "completion_tokens", "used_by",
    ]  # fmt: skip


def test_an_export_of_a_stage_has_its_completions_in_all_variants_and_no_others(cache: Cache, path: Path) -> None:
    fill(path, EDITS, *many(0, 3))
    fill(path, STEPS, *many(5, 7))
    fill(path, Owner("two", "steps"), *many(10, 14))
    assert "x.parquet: 2 completions of 1 stages (7 others left out)" in cache(
        "export", "one", "--stage", "steps", "--out", "x.parquet"
    )
    assert "5 completions" in cache("export", "one", "--out", "x.parquet")
    assert "9 completions" in cache("export", "--out", "x.parquet")
    assert "(one, two); did you mean 'two'?" in cache("export", "twoo", "--out", "y.parquet", code=2)
    assert "no stage 'step'" in cache("export", "--stage", "step", "--out", "y.parquet", code=2)
    assert not Path("y.parquet").exists()


def test_what_is_imported_is_as_if_it_had_been_asked_here(cache: Cache, path: Path) -> None:
    hot = replace(MODEL, sampling=Sampling(0.7, 0.95, max_tokens=99))
    special = ask(
        'ünï 😀 \\ " \u2028', hot, schema={"title": "t", "b": 1, "a": {"type": "number", "maximum": 1e22}}, index=3, seed=2**62
    )
    fill(path, EDITS, special, *many(0, 2000))
    cache("export", "--out", "x.parquet")
    first = path.rename(path.with_name("other"))
    assert "x.parquet: 2001 new, 0 known, 0 refused" in cache("import", "x.parquet")
    assert "x.parquet: 0 new, 2001 known, 0 refused" in cache("import", "x.parquet")
    one, two = Store(first), Store(path)
    assert two.get(special) == one.get(special) != None  # noqa: E711
    one.close()
    two.close()
    assert all(has(path, *many(0, 2000)))
    assert cache("check").endswith("sound\n")
    cache("export", "--out", "y.parquet")
    assert Path("x.parquet").read_bytes() == Path("y.parquet").read_bytes(), "who used them is there too"
    assert json.loads(cache("stats", "--json"))["stages"][0]["payments"] == 0


def test_rows_that_are_not_what_they_say_are_refused_by_name_and_the_others_come_in(cache: Cache, path: Path) -> None:
    fill(path, EDITS, *many(0, 8))
    cache("export", "--out", "x.parquet")
    rows = pq.read_table("x.parquet").to_pylist()
    rows[0]["request"] = rows[0]["request"].replace("word", "lord", 1)
    rows[1]["completion"] = rows[1]["completion"].replace('"stop"', '"length"')
    rows[2]["model"] = "{"
    rows[3]["completion"] = '{"text": "x", "finish": "stop", "sudo": 1}'
    rows[4]["key"] = rows[5]["key"]
    rows[6]["completion"] = rows[6]["completion"].replace("WORD", "LORD", 1)
    pq.write_table(pa.Table.from_pylist(rows), "bad.parquet")
    path.unlink()
    out = cache("import", "bad.parquet", code=1)
    assert "bad.parquet: 2 new, 0 known, 6 refused" in out
    assert f"bad.parquet: completion {rows[0]['key']}: its key is not that of its request" in out
    assert f"bad.parquet: completion {rows[1]['key']}: finish is 'stop', but 'length' in the completion" in out
    assert f"bad.parquet: completion {rows[6]['key']}: its reply is not what was stored (its digest differs)" in out
    assert sum(has(path, *many(0, 8))) == 2


def test_an_import_replaces_what_is_not_whole_and_nothing_that_is(cache: Cache, path: Path) -> None:
    fill(path, EDITS, ask("a"), ask("b"), text="theirs")
    fill(path, EDITS, ask("c"), finish="length", text="theirs")
    cache("export", "--out", "x.parquet")
    path.unlink()
    fill(path, EDITS, ask("a"), text="mine")
    fill(path, EDITS, ask("b"), finish="error", text="mine")
    fill(path, EDITS, ask("c"), finish="length", text="mine")
    assert "0 new, 1 in the place of broken ones, 2 known, 0 refused" in cache("import", "x.parquet")
    store = Store(path)
    found = [store.get(ask(word, whole=False)) for word in "abc"]
    store.close()
    assert [c.text for c in found if c] == ["mine", "theirs", "mine"]


def test_another_parquet_file_is_refused_with_what_it_lacks(cache: Cache) -> None:
    pq.write_table(pa.table({"id": ["a"], "key": ["b"]}), "z.parquet")
    assert "z.parquet: not a file of `drp cache export`: no column completion, completion_tokens" in cache(
        "import", "z.parquet", code=1
    )


def test_a_shared_file_without_digests_is_refused_with_its_cure(cache: Cache, path: Path) -> None:
    fill(path, EDITS, *many(0, 3))
    cache("export", "--out", "x.parquet")
    pq.write_table(pq.read_table("x.parquet").drop_columns("digest"), "old.parquet")
    assert "old.parquet: it has no digests of its replies" in (out := cache("import", "old.parquet", code=1))
    assert "`drp cache export`, where the store is, writes it anew" in out


MEASURE = """
import re, sys
from pathlib import Path
from drp.store.exchange import export, import_, owners
from drp.store.completions import Store

old, new, file = map(Path, sys.argv[1:])
store = Store(old)
export(store, owners(store), file)
import_(Store(new), file)
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)  # getrusage counts the parent
"""


def test_memory_does_not_grow_with_what_is_shared(path: Path, tmp_path: Path) -> None:
    peaks = []
    for size in (12_000, 40_000):
        store = Store(path)
        requests = [ask(f"{n} " + "word " * 100) for n in range(size)]
        store.used(EDITS, [c.key for c in store.keep([(r, answer(r)) for r in requests], EDITS)])
        store.close()
        command = [sys.executable, "-c", MEASURE, str(path), str(tmp_path / f"new{size}"), str(tmp_path / "x.parquet")]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 30, "28 000 completions more are 40 MB"


# -- forget --------------------------------------------------------------------------------------------------------------------


def test_forgetting_says_what_goes_and_what_it_cost_and_keeps_the_books(cache: Cache, path: Path) -> None:
    fill(path, EDITS, *many(0, 3), cost=0.25)
    fill(path, STEPS, *many(2, 5), cost=0.5)
    out = cache("forget", "one", "--stage", "edits", "--dry-run")
    assert "3 completions, 3 of them whole; 4 payments for them: 120 tokens, 1.2500" in out
    assert all(has(path, *many(0, 5)))
    out = cache("forget", "one", "--stage", "edits", "--yes")
    assert "forgot 3" in out
    assert out.count("to ask anew: ") == 2, "the third was another stage's, too"
    assert "dvc repro -s -f recipes/one/dvc.yaml:edits" in out
    assert "dvc repro -s -f recipes/one/dvc.yaml:steps--skill" in out
    assert has(path, *many(0, 5)) == [False, False, False, True, True]
    stages = json.loads(cache("stats", "--json"))["stages"]
    assert [(s["stage"], s["uses"], s["cost"]) for s in stages] == [("edits", 0, 0.75), ("steps--skill", 2, 1.5)]
    assert cache("check").endswith("sound\n")


@pytest.fixture
def mixed(path: Path) -> list[Request]:
    """Four completions: whole, cut off, failed, and one that nobody's last run used."""
    requests = [ask("whole"), ask("cut"), ask("failed"), ask("lonely")]
    fill(path, EDITS, requests[0])
    fill(path, EDITS, requests[1], finish="length", text="I am sorry, but")
    fill(path, EDITS, requests[2], finish="error")
    store = Store(path)
    store.keep([(requests[3], answer(requests[3]))])
    store.close()
    return requests


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        (["--where", "finish = 'length'"], ["cut"]),
        (["--where", "text like '%sorry%'"], ["cut"]),
        (["--where", "model = 'fake' and served = 'fake-1' and age_days < 1 and prompt_tokens + completion_tokens = 30"], ["whole", "cut", "failed", "lonely"]),
        (["--where", "text = 'WHOLE' -- a comment"], ["whole"]),
        (["--unused"], ["lonely"]),
        (["--failed"], ["failed"]),
        (["one"], ["whole", "cut", "failed"]),
        (["one", "--where", "finish = 'stop'"], ["whole"]),
        (["--key", ask("lonely").key()], ["lonely"]),
        (["--key", ask("whole").key()[:12]], ["whole"]),
        (["--where", "age_days > 1"], []),
    ],
)  # fmt: skip
def test_a_choice_is_what_it_says(cache: Cache, path: Path, mixed: list[Request], options: list[str], gone: list[str]) -> None:
    cache("forget", *options, "--yes")
    store = Store(path)
    left = {json.loads(row[0])["messages"][0][1] for row in store.rows("select request from completions")}
    store.close()
    assert {"whole", "cut", "failed", "lonely"} - left == set(gone)


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("finished = 'length'", "no such column: finished; it may speak of finish, prompt_tokens"),
        ("1; delete from uses", "syntax error"),
        ("1) union select id from completions where (1", "prohibited"),
        ("(select count(*) from payments)", "not authorized"),
        ("(select max(cost) from payments)", "prohibited"),
        ("load_extension('x') is null", "not authorized"),
        ("zeroblob(1000000000) = 1", "not authorized"),
        ("(with recursive t(x) as (select 1 union all select x + 1 from t) select max(x) from t)", "not authorized"),
        ("", "say what to forget"),
    ],
)
def test_a_condition_can_do_nothing_but_look_at_the_documented_columns(
    cache: Cache, path: Path, mixed: list[Request], where: str, why: str
) -> None:
    assert why in cache("forget", "--where", where, "--yes", code=2)
    store = Store(path)
    assert store.rows("select count(*) from completions") == [(4,)]
    store.close()


def test_nothing_is_forgotten_without_a_yes(
    cache: Cache, path: Path, mixed: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115
    assert "give --yes to forget them, or --dry-run" in cache("forget", "one", code=2)
    assert "no stage of a recipe 'onn' has used a completion (one); did you mean 'one'?" in cache("forget", "onn", code=2)
    assert "not a completion's key" in cache("forget", "--key", "xyz", code=2)
    assert has(path, mixed[0], mixed[3]) == [True, True]


# -- by what a prompt says --------------------------------------------------------------------------------------------------------

QUESTION = 'What is "5" + 7\\n?\nGive a number.'
"""With all that JSON escapes."""


def test_what_a_text_was_asked_with_is_shown_with_its_users_and_forgotten_only_when_told(cache: Cache, path: Path) -> None:
    edited, refused, split = ask(f"Edit: {QUESTION} Okay."), ask(f"{QUESTION}\nGo on."), ask("What is 5 + 7? Give a number.")
    fill(path, EDITS, edited, split)
    fill(path, STEPS, edited)
    store = Store(path)
    store.keep([(refused, answer(refused))])
    store.close()
    out = cache("forget", "--mentions", QUESTION)
    assert "2 completions, 2 of them whole" in out
    assert "  1 used by one/edits\n  1 used by one/steps--skill\n  1 used by no stage's last run" in out
    assert "--yes forgets them" in out
    assert has(path, edited, refused, split) == [True, True, True], "it only looked"
    assert "0 completions" in cache("forget", "--mentions", "what is 5 + 7?", "--yes"), "letter by letter"
    assert "too short" in cache("forget", "--mentions", "5 + 7?", "--yes", code=2)
    assert "forgot 2" in cache("forget", "--mentions", QUESTION, "--yes")
    assert has(path, edited, refused, split) == [False, False, True]


def test_what_a_text_was_asked_with_is_taken_out_of_an_exported_file_and_the_rest_stays(cache: Cache, path: Path) -> None:
    gone, stays = ask(f"Edit: {QUESTION}"), ask("Edit: What is 6 + 7? Give a number.")
    fill(path, EDITS, stays)
    cache("export", "--out", "without.parquet")
    fill(path, EDITS, gone)
    cache("export", "--out", "with.parquet")
    shared = Path("with.parquet")
    before = shared.read_bytes()
    assert "with.parquet: 1 completions\n  1 used by one/edits" in cache(
        "forget", "--mentions", QUESTION, "--file", "with.parquet"
    )
    assert shared.read_bytes() == before
    assert "then: dvc add with.parquet" in cache("forget", "--mentions", QUESTION, "--file", "with.parquet", "--yes")
    assert shared.read_bytes() == Path("without.parquet").read_bytes()
    assert has(path, gone, stays) == [True, True], "the store is another matter"
    assert "--mentions and --key alone" in cache("forget", "--unused", "--file", "with.parquet", "--yes", code=2)
    cache("forget", "--key", stays.key()[:12], "--file", "with.parquet", "--yes")
    assert pq.read_table(shared).num_rows == 0


# -- with real DVC -------------------------------------------------------------------------------------------------------------

RECIPE = """\
stages:
  a: {op: make, size: 5}
  b: {op: ask, from: a, model: m, prompt: say}
"""


def test_what_is_forgotten_is_asked_anew_and_who_imports_pays_nothing(tmp_path: Path) -> None:
    with ChatServer(lambda number, body: said(f"answer {number}")) as server:
        made = project(tmp_path / "alice", RECIPE)
        made.write("params.yaml", f'models:\n  m: {{name: x}}\nrun:\n  m: {{backend: openai, base_url: "{server.url}"}}\n')
        made.repro()
        assert len(server.bodies) == 5
        out = made.run("drp", "cache", "forget", "one", "--where", "text in ('answer 1', 'answer 3')", "--yes")
        command = next(line for line in out.splitlines() if "dvc repro" in line).removeprefix("to ask anew: ")
        made.run(*command.split())
        assert len(server.bodies) == 7

        made.run("drp", "cache", "export", "one", "--out", "answers.parquet")
        made.run("dvc", "add", "-q", "answers.parquet")
        made.commit()
        table = (made.root / "data/one/b.parquet").read_bytes()
        bob = project(tmp_path / "bob", RECIPE)
        shutil.copy(made.root / "params.yaml", bob.root / "params.yaml")
        assert "5 new, 0 known, 0 refused" in bob.run("drp", "cache", "import", str(made.root / "answers.parquet"))
        bob.repro()
        assert len(server.bodies) == 7
        assert (bob.root / "data/one/b.parquet").read_bytes() == table
