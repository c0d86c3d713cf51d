"""`drp verify`: a dataset that is what it says passes; each thing that was altered is found, named, and has its cure."""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from drp import __version__
from drp.store.completions import digest_of
from drp.targets import target_text
from tests.projects import Project_, project
from tests.servers import ChatServer, said
from tests.tiny import tiny_student

ROOT = Path(__file__).parents[1]
RECIPE = """\
models: {teacher: rules}
stages:
  one: {op: load, source: one.jsonl, question: q, answer: a}
  two: {op: load, source: two.jsonl, question: q, answer: a}
  questions: {op: mix, from: [one, two]}
  traces: {op: think, from: questions}
  steps: {op: segment, from: traces, by: skill, model: teacher, prompt: segment}
  edits: {op: edit, from: steps, model: teacher, prompt: edit}
  pruned: {op: reassemble, from: edits, model: teacher, prompt: reassemble}
  targets: {op: verify, from: pruned, verifier: exact}
  n: {op: tally, from: [targets]}
"""
STAGES = 9
THINK = '''
    """Think aloud about each question, twice."""
    from collections.abc import Iterable, Iterator
    from typing import TypedDict
    from drp.op import Kept, Outcome, Record, Work

    VERSION = 1
    MAKES_RECORDS = True

    class Adds(TypedDict):
        thought: str
        reply: str

    def think(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
        for record in records:
            for k in range(2):
                one, two = record["question"].rstrip("?").split(" + ")
                said = int(one) + int(two) + (k and record["answer"].endswith("7"))
                thought = (f"I need {one} + {two}. Let me add. So {one} + {two} = {said}.\\n\\n"
                           f"Wait, let me check that again. {one} + {two} = {said}. Yes, it is {said}.")
                yield Kept({**record, "id": f"{record['id']}/{k:03d}", "thought": thought, "reply": f"\\\\boxed{{{said}}}"})
    '''


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    """A dataset made by the rules teacher, with every kind of file."""
    made = project(tmp_path_factory.mktemp("first") / "p", RECIPE)
    shutil.copytree(ROOT / "prompts", made.root / "prompts", dirs_exist_ok=True)
    made.write("ops/think.py", THINK)
    made.write("params.yaml", "models:\n  rules: {name: rules, sampling: {max_tokens: 999}}\nrun:\n  rules: {backend: rules}\n")
    for name, start in (("one", 1), ("two", 4)):
        rows = [json.dumps({"q": f"{k} + {k + 3}?", "a": str(2 * k + 3)}) for k in range(start, start + 6)]
        made.write(f"{name}.jsonl", "\n".join(rows) + "\n")
    made.repro()
    made.commit("made")
    return made


@pytest.fixture
def made(first: Project_, tmp_path: Path) -> Project_:
    """A copy of it, with a cache of its own."""
    shutil.copytree(first.root, tmp_path / "p", symlinks=True)
    return Project_(tmp_path / "p")


def verify(made: Project_, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """What `drp verify --json` says, by check."""
    told = json.loads(made.run("drp", "verify", *arguments, "--json", code=code))
    assert told["ok"] == (code == 0)
    return {check["check"]: check for check in told["checks"]}


def faults(told: dict[str, dict[str, Any]], check: str) -> list[str]:
    """The faults that a check names."""
    return [f"{f['place']}: {f['words']}" for f in told[check]["findings"] if f["kind"] == "fault"]


def failed(told: dict[str, dict[str, Any]]) -> list[str]:
    """The checks that failed."""
    return [name for name, check in told.items() if check["state"] == "failed"]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def flip(path: Path, place: int = -200) -> None:
    """One byte of a file, another."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.unlink()
    path.write_bytes(data)


def rewrite(made: Project_, path: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Other rows in a Parquet file, and its new hash wherever the lock had the old one: a forgery with some care."""
    file = made.root / path
    old, table = md5(file), pq.read_table(file)
    rows = table.to_pylist()
    change(rows)
    file.unlink()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    _everywhere(made, old, md5(file))


def _everywhere(made: Project_, old: str, new: str) -> None:
    lock = made.root / "recipes/one/dvc.lock"
    text = lock.read_text()
    assert old in text
    lock.write_text(text.replace(old, new))


def test_what_is_as_it_was_made_passes_and_looking_changes_nothing(made: Project_) -> None:
    store = made.root / ".dvc/cache/drp/completions.sqlite"

    def state() -> list[Any]:
        with sqlite3.connect(store) as db:
            return [db.execute(f"select * from {t}").fetchall() for t in ("uses", "payments", "completions", "runs")]

    before = state(), sorted(p for p in (made.root / ".dvc/tmp/drp").rglob("*"))
    told = verify(made, "one")
    assert [check["state"] for check in told.values()] == ["ok"] * 9, told
    assert told["rebuild"]["looked"] == STAGES
    assert not any(check["findings"] for check in told.values()), told
    assert told["trails"]["looked"] > 100
    assert (state(), sorted(p for p in (made.root / ".dvc/tmp/drp").rglob("*"))) == before
    assert made.run("git", "status", "--short") == ""
    assert "rebuild" not in made.run("drp", "verify", "--no-rebuild")


@pytest.mark.parametrize("path", ["data/one/edits.parquet", "data/one/steps.dropped.parquet", "data/one/pruned.manifest.json"])
def test_a_flipped_byte_of_a_file_is_the_files(made: Project_, path: str) -> None:
    flip(made.root / path)
    told = verify(made, *([] if path.endswith("edits.parquet") else ["--no-rebuild"]), code=1)
    assert failed(told) == ["outputs"]
    [fault] = faults(told, "outputs")
    assert fault.startswith(f"{path}: ")
    assert "made anew" in fault or "DVC's cache has" in fault
    assert f"the file was altered: `dvc checkout --force {path}`" in fault
    made.run("dvc", "checkout", "--force", path)
    verify(made, "--no-rebuild")


def test_a_flipped_byte_of_a_report_is_gits_to_mend(made: Project_) -> None:
    flip(made.root / "recipes/one/reports/n.md", -5)
    [fault] = faults(verify(made, "--no-rebuild", code=1), "outputs")
    assert "`git checkout recipes/one/reports/n.md`" in fault
    made.run("git", "checkout", "recipes/one/reports/n.md")
    verify(made, "--no-rebuild")


def test_a_flipped_digit_of_an_out_in_the_lock_is_the_locks(made: Project_) -> None:
    there = md5(made.root / "data/one/targets.trail.parquet")
    _everywhere(made, there, there[:-1] + ("0" if there[-1] != "0" else "1"))
    [fault] = faults(verify(made, code=1), "outputs")
    assert "data/one/targets.trail.parquet" in fault
    assert "made anew" in fault
    assert "the lock was altered: `git checkout recipes/one/dvc.lock`" in fault
    [fault] = faults(verify(made, "--no-rebuild", code=1), "outputs")
    assert "DVC's cache has what lies here" in fault


def test_a_flipped_digit_of_an_input_in_the_lock_is_the_locks(made: Project_) -> None:
    lock = made.root / "recipes/one/dvc.lock"
    there = md5(made.root / "prompts/edit.j2")
    _everywhere(made, there, "f" * 32)
    assert "recipes/one/dvc.lock: edits" in (told := faults(verify(made, "--no-rebuild", code=1), "inputs"))[0]
    assert "prompts/edit.j2" in told[0]
    made.run("git", "checkout", "-q", str(lock))
    made.edit("recipes/one/dvc.lock", "stages.steps.by: skill", "stages.steps.by: sentence")
    assert "its option by is 'skill', the lock's is 'sentence'" in faults(verify(made, "--no-rebuild", code=1), "manifests")[0]


def test_what_was_edited_since_is_out_of_date_and_no_fault(made: Project_) -> None:
    made.edit("prompts/edit.j2", "step", "STEP")
    made.edit("recipes/one/recipe.yaml", "verifier: exact", "verifier: exact, timeout: 6.0")
    made.edit("recipes/one/recipe.yaml", "by: skill", "by: sentence")
    made.run("drp", "compile")
    told = verify(made)
    assert told["locks"]["state"] == "ok"
    stale = {f["place"]: f["words"] for f in told["inputs"]["findings"] if f["kind"] == "out of date"}
    assert told["inputs"]["state"] == "out of date"
    assert stale.keys() == {"one/edits", "one/steps", "one/targets"}
    assert "timeout: was not there" in stale["one/targets"]
    assert "prompts/edit.j2 has changed since" in stale["one/edits"]
    skipped = {f["place"] for f in told["rebuild"]["findings"]}
    assert {"one/edits", "one/steps", "one/targets"} <= skipped


def test_a_completion_that_was_altered_in_the_store_is_named(made: Project_) -> None:
    with sqlite3.connect(made.root / ".dvc/cache/drp/completions.sqlite") as db:
        [(key,)] = db.execute("select key from completions limit 1")
        db.execute("update completions set completion = replace(completion, '0', '1') where key = ?", (key,))
    told = verify(made, "--no-rebuild", code=1)
    assert failed(told) == ["completions"]
    [fault] = faults(told, "completions")
    assert key.hex() in fault
    assert "drp cache check --repair" in fault


def test_a_completion_that_a_trail_names_and_nobody_has_is_named(made: Project_) -> None:
    def forge(rows: list[dict[str, Any]]) -> None:
        rows[0]["completion"] = "ab" * 32

    rewrite(made, "data/one/edits.trail.parquet", forge)
    told = verify(made, "--no-rebuild", code=1)
    assert "ab" * 32 in faults(told, "completions")[0]


def later(rows: list[dict[str, Any]]) -> None:
    rows[1]["src_start"] += 1


def kept_instead(rows: list[dict[str, Any]]) -> None:
    next(row for row in rows if row["action"] == "delete")["action"] = "keep"


def elsewhere(rows: list[dict[str, Any]]) -> None:
    row = next(row for row in rows if row["action"] == "verbatim" and row["src_end"] - row["src_start"] > 8)
    row["src_end"] -= 4


def another_parent(rows: list[dict[str, Any]]) -> None:
    rows[0]["parents"] = [f"two:{'0' * 16}"]


def nobodys(rows: list[dict[str, Any]]) -> None:
    rows[-1]["record"] = "ffffffffffffffff/999"


@pytest.mark.parametrize(
    ("stage", "change", "says"),
    [
        ("steps", later, "its trail says step 1"),
        ("edits", kept_instead, "was given 'delete'"),
        ("pruned", elsewhere, "is called verbatim"),
        ("questions", another_parent, "its parent two:0000000000000000 is not there"),
        ("pruned", nobodys, "it has rows of ffffffffffffffff/999"),
    ],
)
def test_a_forged_trail_is_found_though_its_hash_was_forged_too(
    made: Project_, stage: str, change: Callable[[list[dict[str, Any]]], None], says: str
) -> None:
    rewrite(made, f"data/one/{stage}.trail.parquet", change)
    told = verify(made, "--no-rebuild", code=1)
    assert failed(told) == ["trails"]
    found = faults(told, "trails")
    assert any(says in fault for fault in found), found
    assert f"data/one/{stage}.trail.parquet" in found[0]


@pytest.mark.parametrize("path", ["data/one/targets.trail.parquet", "data/one/edits.parquet", "data/one/steps.manifest.json"])
@pytest.mark.parametrize("cut", [100, -300])
def test_a_file_that_is_none_is_named_though_its_hash_was_forged_too(made: Project_, path: str, cut: int) -> None:
    file = made.root / path
    old, data = md5(file), file.read_bytes()
    file.unlink()
    file.write_bytes(data[:cut] if cut > 0 else data[:100] + bytes(b ^ 255 for b in data[100:cut]) + data[cut:])
    _everywhere(made, old, md5(file))
    told = verify(made, "--no-rebuild", code=1)
    assert any(path.removesuffix(".parquet").split(".")[0] in f for check in told for f in faults(told, check)), told


def test_nulls_in_a_forged_record_are_a_fault_and_no_crash(made: Project_) -> None:
    def forge(rows: list[dict[str, Any]]) -> None:
        rows[0]["thought"] = rows[1]["steps"] = rows[2]["steps"][0]["end"] = None

    rewrite(made, "data/one/steps.parquet", forge)
    assert any("nulls where there can be none" in fault for fault in faults(verify(made, "--no-rebuild", code=1), "trails"))


def test_made_anew_a_forged_file_is_named_with_the_record_that_differs(made: Project_) -> None:
    names: list[str] = []

    def forge(rows: list[dict[str, Any]]) -> None:
        names.append(rows[3]["id"])
        rows[3]["target_reply"] += " indeed"

    rewrite(made, "data/one/targets.parquet", forge)
    told = verify(made, code=1)
    assert "rebuild" in failed(told)
    assert any("data/one/targets.parquet" in f and f"differs first at {names[0]}" in f for f in faults(told, "rebuild"))


def test_what_is_made_anew_with_other_bytes_and_is_not_here_to_compare_is_no_forgery(made: Project_) -> None:
    file = made.root / "data/one/targets.trail.parquet"
    old = md5(file)
    (made.root / ".dvc/cache/files/md5" / old[:2] / old[2:]).unlink()
    file.unlink()
    _everywhere(made, old, "f" * 32)
    told = verify(made, code=1)
    assert failed(told) == ["outputs"], "that it is not here"
    assert [(f["kind"], f["place"]) for f in told["rebuild"]["findings"]] == [("note", "data/one/targets.trail.parquet")]
    [fault] = faults(told, "outputs")
    assert "no DVC remote is configured; `drp run one` makes it" in fault


def test_a_record_that_vanished_is_missed(made: Project_) -> None:
    gone: list[str] = []
    rewrite(made, "data/one/targets.parquet", lambda rows: gone.append(rows.pop()["id"]))
    found = faults(verify(made, "--no-rebuild", code=1), "records")
    assert any("data/one/targets.parquet has" in f for f in found), "the count"
    assert any(f"the record {gone[0]} of its input is neither kept nor dropped" in f for f in found), "the id"


def test_a_record_made_from_none_of_the_inputs_is_found(made: Project_) -> None:
    def forge(rows: list[dict[str, Any]]) -> None:
        rows[-1]["id"] = "zz/000"

    rewrite(made, "data/one/traces.parquet", forge)
    told = verify(made, code=1)
    assert any("zz/000 is made from none" in f["words"] for f in told["records"]["findings"]), "of an own op's ids, a note"
    assert any("data/one/traces.parquet" in fault for fault in faults(told, "rebuild"))


def test_a_clone_checks_what_it_has_and_rebuilds_all_from_shared_completions(made: Project_, tmp_path: Path) -> None:
    made.run("dvc", "remote", "add", "-d", "there", str(tmp_path / "remote"))
    made.run("drp", "cache", "export", "one", "--out", str(tmp_path / "shared.parquet"))
    made.run("dvc", "push", "-q")
    made.commit("pushed")
    made.run("git", "clone", "-q", str(made.root), str(tmp_path / "clone"))
    clone = Project_(tmp_path / "clone")
    clone.run("dvc", "pull", "-q")
    told = verify(clone)
    assert told["completions"]["state"] == "skipped"
    reasons = {f["place"]: f["words"] for f in told["rebuild"]["findings"]}
    assert reasons.keys() == {"one/steps", "one/edits", "one/pruned"}
    assert "completions missing" in reasons["one/steps"]
    assert "drp cache import" in reasons["one/steps"]

    shutil.copy(tmp_path / "shared.parquet", clone.root / "recipes/one/completions.parquet")
    told = verify(clone)
    assert [check["state"] for check in told.values()] == ["ok"] * 9
    assert told["rebuild"]["looked"] == STAGES
    assert not (clone.root / ".dvc/cache/drp").exists(), "nothing was paid, nothing noted"

    (clone.root / "data/one/steps.parquet").unlink()
    shutil.rmtree(clone.root / ".dvc/cache")
    found = faults(verify(clone, "--no-rebuild", code=1), "outputs")
    assert len(found) == 1
    assert "data/one/steps.parquet: is not here, and neither is it in DVC's cache" in found[0]
    assert "dvc pull" in found[0]


def test_a_stage_that_reads_more_than_its_inputs_cannot_be_made_anew(made: Project_) -> None:
    made.edit("ops/think.py", "for record in records:", 'open("one.jsonl").read()\n    for record in records:')
    made.run("drp", "same", "think")
    told = verify(made, code=1)
    assert failed(told) == ["rebuild"]
    assert any("one/traces" in f and "one.jsonl, which is not an input" in f for f in faults(told, "rebuild"))


# -- what is shared --------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(made: Project_) -> Path:
    """The file of the completions of a project that has no store."""
    made.run("drp", "cache", "export", "one")
    shutil.rmtree(made.root / ".dvc/cache/drp")
    return made.root / "recipes/one/completions.parquet"


@pytest.mark.parametrize("junk", [b"junk\n", b"PAR1" + b"\xff" * 400 + b"\x08\x00\x00\x00PAR1", b""])
def test_a_shared_file_that_is_none_is_a_fault_with_its_cure(made: Project_, shared: Path, junk: bytes) -> None:
    shared.write_bytes(junk)
    [fault] = faults(verify(made, "--no-rebuild", code=1), "completions")
    assert fault.startswith("recipes/one/completions.parquet: not a Parquet file: ")
    assert "rm recipes/one/completions.parquet" in fault
    name = pq.read_table(made.root / "data/one/edits.parquet").to_pylist()[0]["id"]
    why = made.run("drp", "why", name, code=1)
    assert "recipes/one/completions.parquet: not a file of `drp cache export`; `drp verify` says what brings it back" in why


def test_a_shared_file_that_dvc_has_is_brought_back_by_its_cure(made: Project_, shared: Path) -> None:
    path = "recipes/one/completions.parquet"
    made.run("dvc", "add", "-q", path)
    shared.unlink()
    shared.write_text("junk")
    [fault] = faults(verify(made, "--no-rebuild", code=1), "completions")
    assert f"`dvc checkout --force {path}` brings back what was shared" in fault
    made.run("dvc", "checkout", "-q", "--force", path)
    verify(made, "--no-rebuild")


def forge_reply(made: Project_, shared: Path, digests: bool) -> tuple[str, str]:
    """Another action in the reply that a record's edit was made from; the record and the completion."""
    [first, *_] = pq.read_table(made.root / "data/one/edits.trail.parquet").to_pylist()
    table = pq.read_table(shared)
    rows = table.to_pylist()
    [row] = [row for row in rows if row["key"] == first["completion"]]
    assert "keep" in row["completion"]
    row["completion"] = row["completion"].replace("keep", "erase")
    if digests:
        row["digest"] = digest_of(row["completion"]).hex()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), shared)
    return first["record"], row["key"]


def test_a_forged_reply_in_a_shared_file_is_named_by_its_digest(made: Project_, shared: Path) -> None:
    record, key = forge_reply(made, shared, digests=False)
    told = verify(made, code=1)
    assert failed(told) == ["completions"]
    fault, lacking = faults(told, "completions")
    assert lacking.startswith("data/one/edits.trail.parquet: 1 of its")
    assert fault.startswith(f"recipes/one/completions.parquet: completion {key}: its reply is not what was stored")
    assert "its digest differs" in made.run("drp", "why", record, "--full")


@pytest.mark.parametrize("where", ["shared", "store"])
def test_a_forged_reply_with_its_digest_does_not_give_the_records_that_are_here(made: Project_, shared: Path, where: str) -> None:
    record, key = forge_reply(made, shared, digests=True)
    if where == "store":
        made.run("drp", "cache", "import", str(shared))
        shared.unlink()
    told = verify(made, code=1)
    assert failed(told) == ["rebuild"]
    [fault] = faults(told, "rebuild")
    assert fault.startswith("one/edits: its stored replies do not give the records that are here: ")
    assert f"{record} was made from completion {key}" in fault
    assert ("rm recipes/one/completions.parquet" if where == "shared" else f"drp cache forget --key {key}") in fault


INSIST = '''
    """Ask until the reply is good, three times at most."""
    from collections.abc import Iterable, Iterator
    from drp.models import Message
    from drp.op import Dropped, Kept, Model, Outcome, Record, Talk, Work, trail_row

    VERSION = 1

    def insist(records: Iterable[Record], work: Work, *, model: Model) -> Iterator[Outcome]:
        def talk(record: Record) -> Talk:
            told = (Message("user", record["question"]),)
            for _ in range(3):
                (heard,) = yield [model.request(told)]
                if heard.text == "good":
                    return Kept(record, (trail_row(record["id"], 0, completion=heard.key),))
                told = (*told, Message("assistant", heard.text), Message("user", "Again."))
            return Dropped(record, "malformed-reply", heard.text)

        return work.ask(model, records, talk)
    '''


def test_of_replies_that_no_trail_cites_one_that_is_gone_accuses_nobody(tmp_path: Path) -> None:
    made = project(tmp_path / "p", "models: {model: m}\nstages:\n  a: {op: load, source: q.jsonl}\n"
                                   "  b: {op: insist, from: a, model: model}\n")  # fmt: skip
    made.write("q.jsonl", '{"question": "q", "answer": "1"}\n')
    made.write("ops/insist.py", INSIST)
    with ChatServer(lambda number, body: said("good" if len(body["messages"]) > 1 else "bad")) as server:
        made.write("params.yaml", f'models:\n  m: {{name: x}}\nrun:\n  m: {{backend: openai, base_url: "{server.url}"}}\n')
        made.repro()
    assert verify(made)["rebuild"]["looked"] == 2
    store = made.root / ".dvc/cache/drp/completions.sqlite"
    with sqlite3.connect(store) as db:
        sound = db.execute("select id, completion, digest from completions").fetchall()
        [good] = [row for row in sound if '"good"' in row[1]]
        forged = good[1].replace("good", "evil")
        db.execute("update completions set completion = ?, digest = ? where id = ?", (forged, digest_of(forged), good[0]))
    assert "its stored replies do not give the records that are here" in faults(verify(made, code=1), "rebuild")[0]
    with sqlite3.connect(store) as db:
        db.execute("update completions set completion = ?, digest = ? where id = ?", (*good[1:], good[0]))
    made.run("drp", "cache", "forget", "one", "--where", "text = 'bad'", "--yes")
    told = verify(made)
    assert told["rebuild"]["left"] == {"lacking completions": 1}


# -- what a lock does not name ---------------------------------------------------------------------------------------------


def relock(made: Project_, change: Callable[[dict[str, Any]], None]) -> None:
    """Other entries in the lock."""
    file, yaml = made.root / "recipes/one/dvc.lock", YAML()
    lock = yaml.load(file)
    change(lock["stages"])
    with file.open("w") as out:
        yaml.dump(lock, out)


def without(stage: str, kind: str, path: str) -> Callable[[dict[str, Any]], None]:
    """A lock whose stage does not name a file."""

    def change(stages: dict[str, Any]) -> None:
        left = [entry for entry in stages[stage][kind] if entry["path"] != path]
        assert len(left) == len(stages[stage][kind]) - 1
        stages[stage][kind] = left

    return change


def another_command(stages: dict[str, Any]) -> None:
    stages["edits"]["cmd"] = "echo hi"


def no_entry(stages: dict[str, Any]) -> None:
    del stages["edits"]


def more_inputs(stages: dict[str, Any]) -> None:
    stages["edits"]["deps"].append(dict(stages["one"]["deps"][0]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("n", "outs", "recipes/one/reports/n.json"), "n: its lock does not name the out recipes/one/reports/n.json"),
        (without("edits", "outs", "data/one/edits.trail.parquet"), "edits: its lock does not name the out data/one/edits.trail"),
        (without("edits", "deps", "prompts/edit.j2"), "edits: its lock does not name the input prompts/edit.j2"),
        (without("counts", "deps", "data/one/edits.manifest.json"), "counts: its lock does not name the input data/one/edits"),
        (more_inputs, "edits: its lock names the input one.jsonl, dvc.yaml does not"),
        (another_command, "edits: it ran 'echo hi', dvc.yaml says 'drp stage one edits'"),
        (no_entry, "edits: the lock does not name this stage, but data/one/edits.dropped.parquet lies here"),
    ],
)
def test_what_a_lock_does_not_name_though_dvc_yaml_does_is_a_fault(
    made: Project_, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    relock(made, change)
    found = faults(verify(made, "--no-rebuild", code=1), "locks")
    assert len(found) == 1
    assert found[0].startswith(f"recipes/one/dvc.lock: {says}")
    assert "`git checkout recipes/one/dvc.lock`" in found[0]


def test_a_forged_report_that_the_lock_does_not_name_is_made_anew_and_missed(made: Project_) -> None:
    relock(made, without("n", "outs", "recipes/one/reports/n.json"))
    flip(made.root / "recipes/one/reports/n.json", -5)
    assert any("recipes/one/reports/n.json: is made, but its lock" in f for f in faults(verify(made, code=1), "rebuild"))


def test_a_lock_that_is_gone_is_a_fault_of_each_stage_whose_files_are_here(made: Project_) -> None:
    (made.root / "recipes/one/dvc.lock").unlink()
    found = faults(verify(made, code=1), "locks")
    assert len(found) == STAGES + 1, "and the counts"


def test_what_the_recipe_says_otherwise_since_is_no_fault_of_the_lock(made: Project_) -> None:
    made.edit("recipes/one/recipe.yaml", "from: [one, two]", "from: [one]")  # an input less
    made.edit("recipes/one/recipe.yaml", "verifier: exact", "keep: all")  # a key less: `drp compile` takes the entry away
    made.edit("recipes/one/recipe.yaml", "  n: {", "  late: {op: verify, from: targets}\n  n: {")  # it has never run
    told = verify(made, "--no-rebuild")
    assert {f["place"] for f in told["locks"]["findings"]} == {
        f"recipes/one/dvc.yaml: {stage}" for stage in ("questions", "targets", "late", "counts")
    }, "not compiled yet"
    made.run("drp", "compile")
    told = verify(made, "--no-rebuild")
    assert told["locks"]["state"] == "out of date"
    places = {f["place"].rpartition(" ")[2] for f in told["locks"]["findings"]}
    assert {"questions", "targets"} <= places
    assert "late" not in places
    verdict = made.run("drp", "verify", "--no-rebuild").splitlines()[0]
    assert verdict.startswith("no fault, but out of date: ")


def test_a_recipe_that_was_never_pulled_is_skipped_and_where_it_is_named_a_fault(made: Project_, tmp_path: Path) -> None:
    made.run("git", "clone", "-q", str(made.root), str(tmp_path / "clone"))
    clone = Project_(tmp_path / "clone")
    told = verify(clone)
    assert told["rebuild"]["state"] == told["records"]["state"] == "skipped"
    assert any("recipes/one" in f["place"] and "`drp run one` makes it" in f["words"] for f in told["outputs"]["findings"])
    clone.run("dvc", "remote", "add", "there", str(tmp_path / "remote"))
    told = verify(clone, "--no-rebuild")
    assert any("`dvc pull -r there` brings it" in f["words"] for f in told["outputs"]["findings"])
    assert f"{STAGES} not pulled" in clone.run("drp", "verify").splitlines()[0]
    assert faults(verify(clone, "one", "--no-rebuild", code=1), "outputs")


def test_an_op_that_was_edited_hides_no_forgery_as_being_well(made: Project_) -> None:
    rewrite(made, "data/one/traces.parquet", lambda rows: rows[0].update(thought=rows[0]["thought"] + " Hm."))
    made.edit("ops/think.py", "range(2)", "range(0 + 2)")
    verdict = made.run("drp", "verify", code=None).splitlines()[0]
    assert "1 out of date" in verdict
    told = {check["check"]: check for check in json.loads(made.run("drp", "verify", "--json", code=None))["checks"]}
    [stale] = [f for f in told["rebuild"]["findings"] if f["kind"] == "out of date" and f["place"] == "one/traces"]
    assert "`drp compile`" in stale["words"]
    assert "think" in stale["words"]


# -- ids of own ops --------------------------------------------------------------------------------------------------------

OWN = {
    "split": '''
        """Make two of one, with deep ids."""
        from collections.abc import Iterable, Iterator
        from drp.op import Kept, Outcome, Record, Work

        VERSION = 1
        MAKES_RECORDS = True

        def split(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
            for record in records:
                yield from (Kept({**record, "id": f"{record['id']}/a/b/c/d/{k}"}) for k in range(2))
        ''',
    "group": '''
        """Join all into one, of a new id."""
        from collections.abc import Iterable, Iterator
        from drp.op import Kept, Outcome, Record, TrailRow, Work

        VERSION = 1
        MAKES_RECORDS = True

        def group(records: Iterable[Record], work: Work, *, told: bool = True) -> Iterator[Outcome]:
            rows = list(records)
            parents = [f"a:{row['id']}" for row in rows]
            trail = [TrailRow(record="all", step=0, action="join", parents=tuple(parents))] if told else []
            yield Kept({**rows[0], "id": "all"}, tuple(trail))
        ''',
}


def test_ids_of_own_ops_may_be_deep_or_new_where_the_trail_names_the_parents(tmp_path: Path) -> None:
    made = project(tmp_path / "p", "stages:\n  a: {op: make}\n  deep: {op: split, from: a}\n  told: {op: group, from: a}\n"
                                   "  untold: {op: group, from: a, told: false}\n")  # fmt: skip
    for op, text in OWN.items():
        made.write(f"ops/{op}.py", text)
    made.repro()
    records = verify(made, "--no-rebuild")["records"]
    assert records["state"] == "ok"
    assert [(f["kind"], f["place"]) for f in records["findings"]] == [("note", "data/one/untold.parquet")]


def test_other_ids_of_an_own_op_that_keeps_ids_have_its_declaration_for_a_cure(tmp_path: Path) -> None:
    made = project(tmp_path / "p", "stages:\n  a: {op: make}\n  b: {op: shout, from: a}\n")
    made.repro()
    rewrite(made, "data/one/b.parquet", lambda rows: rows[-1].update(id=f"{rows[-1]['id']}/x"))
    told = verify(made, "--no-rebuild", code=1)
    found = faults(told, "records")
    assert len(found) == 2, told
    assert all("op 'shout' means to make records, it says `MAKES_RECORDS = True`" in fault for fault in found)


ROTATE = '''
    """Give each record the id of the one before it."""
    from collections.abc import Iterable, Iterator
    {imports}
    from drp.op import Kept, Outcome, Record, Work

    VERSION = 1
    {adds}

    def {op}(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
        rows = list(records)
        for row, other in zip(rows, [rows[-1], *rows[:-1]], strict=True):
            yield Kept({{**row, "question": other["question"]}})
    '''


def test_an_op_that_keeps_ids_and_swaps_questions_is_a_fault_unless_it_says_so(tmp_path: Path) -> None:
    made = project(tmp_path / "p", "stages:\n  a: {op: load, source: sources/q.jsonl}\n  deep: {op: split, from: a}\n"
                                   "  rotated: {op: rotate, from: a}\n  meant: {op: reword, from: a}\n"
                                   "  deeper: {op: rotate, from: deep}\n")  # fmt: skip
    made.write("sources/q.jsonl", "".join(f'{{"question": "q{k}", "answer": "{k}"}}\n' for k in range(7)))
    made.write("ops/split.py", OWN["split"])
    made.write("ops/rotate.py", ROTATE.format(op="rotate", imports="", adds=""))
    adds = "class Adds(TypedDict):\n        question: str"
    made.write("ops/reword.py", ROTATE.format(op="reword", imports="from typing import TypedDict", adds=adds))
    made.repro()
    found = verify(made, "--no-rebuild", code=1)["records"]["findings"]
    assert [(f["kind"], f["place"]) for f in found] == [
        ("fault", "data/one/rotated.parquet"), ("fault", "data/one/deeper.parquet")
    ]  # fmt: skip
    assert "7 of its records have another question than the record of their id in a (" in found[0]["words"]
    assert "`Adds`" in found[0]["words"]
    assert "7 of its records have another question than the record of their id in deep (" in found[1]["words"]


# -- as a person reads it ---------------------------------------------------------------------------------------------------


def test_of_many_files_one_that_is_bad_is_one_and_the_verdict_comes_first(made: Project_) -> None:
    outs = verify(made, "--no-rebuild")["outputs"]["looked"]
    flip(made.root / "data/one/edits.parquet")
    told = made.run("drp", "verify", "--no-rebuild", code=1).splitlines()
    assert told[0] == "1 fault: data/one/edits.parquet"
    assert told[1].startswith("  fault: data/one/edits.parquet: has md5 ")
    assert f"outputs      failed      1 of {outs} files and folders are not as dvc.lock names them" in told


def test_another_drp_is_told_once_with_both_versions_and_a_cure_for_whoever_has_it(made: Project_) -> None:
    """As in a clone whose recipes/ops.lock.yaml is of a drp with other code."""
    yaml, file = YAML(), made.root / "recipes/ops.lock.yaml"
    lock = yaml.load(file)
    for op in ("load", "mix", "segment", "edit", "reassemble", "verify"):
        lock[op]["code"] = "0123456789abcdef"
    with file.open("w") as out:
        yaml.dump(lock, out)
    flip(made.root / "data/one/targets.trail.parquet")
    told = made.run("drp", "verify", code=1).splitlines()
    assert told[0].startswith("1 fault: data/one/targets.trail.parquet")
    assert told[1].startswith("  fault: data/one/targets.trail.parquet: has md5 ")
    [cause] = [k for k, line in enumerate(told) if "is not the one that they were compiled with" in line]
    assert told[cause].startswith(f"  out of date: 7 times: this drp ({__version__}) is not the one")
    assert f"compiled with ({__version__})" in told[cause]
    assert "edit (01234567, here " in told[cause]
    assert "one/edits" in told[cause + 1]
    assert f"install the drp {__version__} with that code" in told[cause + 2], "a recipient's cure"
    assert "`drp same OP`" in told[cause + 2], "the maker's"
    assert max(map(len, told[cause : cause + 3])) < 400
    each = made.run("drp", "verify", "--full", code=1)
    assert each.count("is not the one that it was compiled with") == 14, "by its inputs, and not rebuilt"
    found = verify(made, code=1)
    assert len([f for f in found["inputs"]["findings"] if "cause" in f]) == 7
    assert len([f for f in found["rebuild"]["findings"] if "cause" in f]) == 7


# -- what is published ------------------------------------------------------------------------------------------------------

FORGE = '''
    """Make a model."""
    from collections.abc import Iterable, Iterator
    from drp.op import Kept, Outcome, Record, Work

    VERSION = 1
    MAKES_MODEL = True

    def forge(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
        (work.out / "weights.txt").write_text("heavy")
        yield from map(Kept, records)
    '''
PUBLISHING = """\
stages:
  a: {op: make}
  b: {op: shout, from: a}
  d: {op: shout, from: b}
  t: {op: forge, from: d}
publish: {t: models/one}
"""


def lose(made: Project_, *stages: str) -> None:
    """What nobody has any more: the files of stages, here and in DVC's cache."""
    for path in [path for stage in stages for path in made.root.glob(f"data/one/{stage}.*")]:
        (made.root / ".dvc/cache/files/md5" / md5(path)[:2] / md5(path)[2:]).unlink(missing_ok=True)
        path.unlink()


@pytest.fixture
def published(tmp_path: Path) -> Project_:
    """Recipe `one` publishes a model, made from a, b and d; `two` reads a, and has that model."""
    made = project(tmp_path / "p", PUBLISHING)
    made.write("ops/forge.py", FORGE)
    made.write("recipes/two/recipe.yaml", "extends: one\nstages:\n  c: {op: shout, from: a}\n")
    made.run("drp", "compile")
    made.run("drp", "compile", "--thaw", "one")
    made.run("dvc", "repro", "-q", "-R", "recipes")
    made.run("drp", "compile")
    return made


def test_what_only_a_published_model_was_made_from_need_not_be_here(published: Project_) -> None:
    lose(published, "b", "d")
    told = verify(published)
    assert not any(told[check]["findings"] for check in ("locks", "inputs", "manifests", "records", "trails", "ledgers"))
    [line] = told["outputs"]["findings"]
    assert "2 of its stages are not here, and need not be: one/t, made from them, is published (b, d)" in line["words"]
    assert told["outputs"]["state"] == told["records"]["state"] == "ok"
    assert told["rebuild"]["left"] == {"not here": 2, "published": 1}
    assert told["rebuild"]["looked"] == 2, "a, and two/c"
    verify(published, "two")
    verify(published, "one")
    published.edit("recipes/one/recipe.yaml", "a: {op: make}", "a: {op: make, size: 4}")
    published.run("drp", "compile")
    published.run("dvc", "repro", "-q", "-s", "recipes/one/dvc.yaml:a")
    found = [(f["kind"], f["place"]) for f in verify(published, "--no-rebuild")["inputs"]["findings"]]
    assert ("note", "one/b") in found, "it is as it was published"
    assert ("out of date", "two/c") in found, "and so no fault, though it has not all the records of its input as it is now"


def test_what_is_here_of_it_is_still_checked_and_what_others_read_must_be(published: Project_) -> None:
    lose(published, "d")
    flip(published.root / "data/one/b.parquet")
    assert [fault.split(":")[0] for fault in faults(verify(published, "--no-rebuild", code=1), "outputs")] == [
        "data/one/b.parquet"
    ]
    (published.root / "data/one/b.parquet").unlink()
    lose(published, "a.manifest")
    [fault] = faults(verify(published, "--no-rebuild", code=1), "outputs")
    assert fault.startswith("data/one/a.manifest.json: is not here"), "two/c was made from a"


# -- models ----------------------------------------------------------------------------------------------------------------

AIM = '''
    """Aim at the answer."""
    from collections.abc import Iterable, Iterator
    from typing import TypedDict
    from drp.op import Kept, Outcome, Record, Work

    VERSION = 1

    class Adds(TypedDict):
        target: str

    def aim(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
        for record in records:
            yield Kept({**record, "target": TARGET.replace("0", record["answer"])})
    '''


@pytest.fixture(scope="module")
def first_trained(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    """An adapter of a student of ten thousand parameters."""
    stages = ["q: {op: load, source: q.jsonl, question: q, answer: a}", "t: {op: aim, from: q}",
              "m: {op: sft, from: t, model: student, prompt: solve, epochs: 2, rank: 2, batch_size: 4, max_length: 60}"]  # fmt: skip
    made = project(tmp_path_factory.mktemp("trained") / "p", "\n  ".join(["models: {student: pupil}\nstages:", *stages]) + "\n")
    tiny_student(made.root / "pupils/tiny")
    made.write("ops/aim.py", AIM.replace("TARGET", repr(target_text("It is 0.", "\\boxed{0}")).replace("\\", "\\")))
    made.write("prompts/solve.j2", "{{ question }}\n")
    made.write("params.yaml", "models:\n  pupil: {name: pupils/tiny}\nrun:\n  pupil: {backend: transformers, device: cpu}\n")
    rows = [json.dumps({"q": f"{k} + 1?" + " What is it?" * (40 * (k == 3)), "a": str(k + 1)}) for k in range(10)]
    made.write("q.jsonl", "\n".join(rows) + "\n")
    made.repro()
    made.commit("made")
    return made


@pytest.fixture
def trained(first_trained: Project_, tmp_path: Path) -> Project_:
    shutil.copytree(first_trained.root, tmp_path / "p", symlinks=True)
    return Project_(tmp_path / "p")


def test_a_ledger_is_recomputed_and_weights_are_said_not_to_be(trained: Project_) -> None:
    told = verify(trained)
    assert told["ledgers"]["looked"] == 1
    assert told["ledgers"]["findings"] == []
    [left] = told["rebuild"]["findings"]
    assert "it trains a model" in left["words"]
    assert trained.run("drp", "verify").splitlines()[0] == "no fault; rebuild left out 1 of 3: 1 training a model"


def other_steps(rows: list[dict[str, Any]]) -> None:
    rows[0]["steps_seen"], rows[-1]["steps_seen"] = rows[-1]["steps_seen"], [99]


def never_seen(rows: list[dict[str, Any]]) -> None:
    rows[1]["steps_seen"] = []


def too_many(rows: list[dict[str, Any]]) -> None:
    rows[2]["n_trained_tokens"] = rows[2]["n_tokens"] + 1


def too_long(rows: list[dict[str, Any]]) -> None:
    rows[2]["n_tokens"] = 61


def one_less(rows: list[dict[str, Any]]) -> None:
    rows[2]["n_trained_tokens"] -= 1


def another_id(rows: list[dict[str, Any]]) -> None:
    rows[-1]["id"] = "ffff"


@pytest.mark.parametrize(
    ("change", "check", "says"),
    [
        (other_steps, "ledgers", "was seen in the steps [99]"),
        (never_seen, "ledgers", "was seen in the steps []"),
        (too_many, "ledgers", "cannot have been trained on"),
        (too_long, "ledgers", "of its 61 tokens"),
        (another_id, "records", "the record ffff is in none of its inputs"),
    ],
)
def test_a_ledger_that_training_cannot_have_left_is_a_fault(
    trained: Project_, change: Callable[[list[dict[str, Any]]], None], check: str, says: str
) -> None:
    rewrite(trained, "data/one/m.parquet", change)
    assert any(says in fault for fault in faults(verify(trained, "--no-rebuild", code=1), check))


def test_a_ledgers_tokens_are_counted_again(trained: Project_) -> None:
    rewrite(trained, "data/one/m.parquet", one_less)
    verify(trained, "--no-rebuild")
    [fault] = faults(verify(trained, code=1), "ledgers")
    assert "was trained on 17 of its 27 tokens, but its prompt and target make 18 of 27" in fault


@pytest.mark.parametrize(
    ("key", "value"),
    [("inputs", {}), ("models", {"model": {"name": "another"}}), ("prompts", {"solve": "0" * 64}), ("usage", {"served": ["x"]})],
)
def test_what_a_models_manifest_says_is_recomputed(trained: Project_, key: str, value: dict[str, Any]) -> None:
    file = trained.root / "data/one/m.manifest.json"
    old, data = md5(file), json.loads(file.read_text())
    file.unlink()
    file.write_text(json.dumps({**data, key: value}, indent=1, sort_keys=True) + "\n")
    _everywhere(trained, old, md5(file))
    assert any(f"its {key} are" in fault for fault in faults(verify(trained, "--no-rebuild", code=1), "ledgers"))


def test_a_recipe_that_never_ran_is_said_so(made: Project_) -> None:
    assert "did you mean 'one'?" in made.run("drp", "verify", "onne", code=1)
