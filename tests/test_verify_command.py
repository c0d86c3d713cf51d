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

from tests.projects import Project_, project

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
    assert [check["state"] for check in told.values()] == ["ok"] * 7, told
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
    assert f"the file was altered: `dvc checkout {path}`" in fault
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
    assert any("zz/000 is made from none" in f for f in faults(verify(made, "--no-rebuild", code=1), "records"))


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
    assert [check["state"] for check in told.values()] == ["ok"] * 7
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


def test_a_recipe_that_never_ran_is_said_so(made: Project_) -> None:
    assert "did you mean 'one'?" in made.run("drp", "verify", "onne", code=1)
