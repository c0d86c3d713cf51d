"""Undeclared reads: what the code of a stage opens that is not an input ends the stage with 66, whoever opens it."""

import os
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drp import landlock
from drp.pipeline.reads import code_in
from drp.records import read
from tests.projects import Project_, project

KERNEL = pytest.mark.skipif(not landlock.available(), reason="this kernel has no Landlock")

RECIPE = """\
stages:
  a: {op: make, size: 3}
  b: {op: peep, from: a, how: none}
"""

PEEP = '''
    """Read something that is no input."""
    import csv, os, pathlib, sqlite3, tempfile
    from collections.abc import Iterable, Iterator
    from drp.op import Kept, Outcome, Record, Source, Work

    VERSION = 1

    def peep(records: Iterable[Record], work: Work, *, how: str, source: Source | None = None) -> Iterator[Outcome]:
        for record in records:
            yield Kept({**record, "text": record["text"] + str(look(how, source))})

    def look(how, source):
        where = os.environ.get("WHERE", "")
        if how == "open":
            return open("lookup.csv").read()
        if how == "r+":
            return open("lookup.csv", "r+").read()
        if how == "pathlib":
            return pathlib.Path("lookup.csv").read_text()
        if how == "absolute":
            return open(os.path.abspath("extra/../lookup.csv")).read()
        if how == "link":
            return open("link.csv").read()
        if how == "os.open":
            return os.read(os.open("lookup.csv", os.O_RDONLY), 10)
        if how == "csv":
            with open("lookup.csv", newline="") as file:
                return list(csv.DictReader(file))
        if how == "sqlite":
            return sqlite3.connect("file:known.sqlite?mode=ro", uri=True).execute("select 1").fetchall()
        if how == "swallowed":
            try:
                return open("lookup.csv").read()
            except Exception:
                return ""
        if how == "output":
            return len(open("data/one/b.parquet", "rb").read())
        if how == "params":
            return open("params.yaml").read()
        if how == "outside":
            return open(where).read()
        if how == "library":
            import json.tool
            return pathlib.Path(os.__file__).stat().st_size and len(pathlib.Path(json.tool.__file__).read_text()) * 0
        if how == "arrow":
            import pyarrow.parquet as pq
            return pq.read_table("lookup.parquet").num_rows
        if how == "arrow outside the thread":
            import pyarrow.dataset as ds
            return ds.dataset("lookup.parquet").to_table().num_rows
        if how == "duckdb":
            import duckdb
            return duckdb.sql("select count(*) from 'lookup.parquet'").fetchall()
        if how == "source":
            return open(source).read()
        if how == "temporary":
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "x"
                path.write_text("x")
                return path.read_text()
        if how == "log":
            with open("log.txt", "a") as log:
                log.write("x")
        if how == "through proc":
            return open("/proc/self/cwd/lookup.csv").read()
        if how == "linked from temporary":
            with tempfile.TemporaryDirectory() as folder:
                os.symlink(os.path.abspath("lookup.csv"), folder + "/x")
                return open(folder + "/x").read()
        if how == "in a group":
            import pyarrow.parquet as pq
            try:
                pq.read_table("lookup.parquet")
            except OSError as error:
                raise ExceptionGroup("many", [ValueError("x"), error]) from None
        if how == "beside a descriptor":
            return os.read(os.open("hidden.csv", os.O_RDONLY, dir_fd=os.open("sub", os.O_RDONLY)), 10)
        if how == "child that tells":
            import subprocess
            return subprocess.run(["cat", "lookup.csv"], capture_output=True, check=True).stdout
        if how == "child":
            import subprocess, sys
            return subprocess.run([sys.executable, "scripts/deep/x.py"], check=True).returncode
        if how == "spawned":
            import multiprocessing, sys
            sys.path[:0] = [os.getcwd(), os.path.abspath("src")]
            from lib.pkg import inner
            import mine.inner
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                return pool.map(inner.double, [1]) + pool.map(mine.inner.double, [1])
        if how == "written and read":
            with open("made.txt", "w") as file:
                file.write("x")
            return open("made.txt").read()
        if how == "w+":
            with open("made.txt", "w+") as file:
                return file.read()
        if how == "replaced":
            os.replace("lookup.new", source)
            return open(source).read()
        if how == "a new database":
            return sqlite3.connect("made.sqlite").execute("create table t (a)").fetchall()
        if how == "cache":
            made = pathlib.Path(os.environ["HF_HOME"]) / "m.txt"
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text("x")
            return made.read_text()
        if how == "settings":
            from requests.utils import get_netrc_auth
            return "".join(get_netrc_auth("http://example.org/"))
        if how == "settings by itself":
            import configparser
            return configparser.ConfigParser().read(os.path.expanduser("~/.netrc"))
        return ""
    '''


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    """A project with an op that reads what is no input of its stage, if it is told to."""
    made = project(tmp_path_factory.mktemp("first") / "p", RECIPE)
    made.write("ops/peep.py", PEEP)
    made.write("lookup.csv", "a,b\n1,2\n")
    (made.root / "link.csv").symlink_to("lookup.csv")
    pq.write_table(pa.table({"a": [1, 2]}), made.root / "lookup.parquet")
    made.repro()
    made.commit()
    return made


@pytest.fixture
def made(first: Project_, tmp_path: Path) -> Project_:
    """A copy of it."""
    shutil.copytree(first.root, tmp_path / "p", symlinks=True)
    return Project_(tmp_path / "p")


def refused(made: Project_, how: str, names: str = "lookup.csv") -> str:
    """The stage says what was read, and how to declare it, with exit code 66; what was published stays."""
    before = {file: file.read_bytes() for file in (made.root / "data/one").iterdir()}
    made.edit("recipes/one/recipe.yaml", "how: none", f"how: {how}")
    made.run("drp", "compile")
    said = made.run("drp", "stage", "one", "b", code=66)
    assert "one/b: " in said
    assert names in said
    assert "option of type Source" in said
    assert {file: file.read_bytes() for file in (made.root / "data/one").iterdir()} == before
    return said


@pytest.mark.parametrize("how", ["open", "r+", "pathlib", "absolute", "csv", "os.open", "swallowed"])
def test_a_file_of_the_project_that_is_no_input_ends_the_stage(made: Project_, how: str) -> None:
    assert "ops/peep.py:" in refused(made, how), "who read it, and where"


def test_dvc_keeps_its_lock_and_says_66(made: Project_) -> None:
    before = (made.root / "recipes/one/dvc.lock").read_bytes()
    made.edit("recipes/one/recipe.yaml", "how: none", "how: swallowed")
    made.run("drp", "compile")
    said = made.run("dvc", "repro", "-R", "recipes", code=255)
    assert "exited with 66" in said
    assert "lookup.csv" in said
    assert (made.root / "recipes/one/dvc.lock").read_bytes() == before


def test_so_does_a_link_to_one_a_database_its_own_output_and_the_params(made: Project_) -> None:
    import sqlite3

    sqlite3.connect(made.root / "known.sqlite").execute("create table t (a)").connection.close()
    for how, name in (
        ("link", "link.csv"),
        ("sqlite", "known.sqlite"),
        ("output", "data/one/b.parquet"),
        ("params", "params.yaml"),
    ):
        refused(made, how, name)
        made.run("git", "checkout", "-q", ".")


@KERNEL
@pytest.mark.parametrize("how", ["arrow", "arrow outside the thread", "duckdb"])
def test_so_does_one_that_a_native_reader_opens(made: Project_, how: str) -> None:
    refused(made, how, "lookup.parquet")


def test_code_of_the_project_reads_no_file_elsewhere_either(made: Project_, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = made.root.parent / "home"
    elsewhere.mkdir()
    (elsewhere / "table.txt").write_text("x")
    monkeypatch.setenv("WHERE", str(elsewhere / "table.txt"))
    monkeypatch.setenv("TMPDIR", str(elsewhere / "tmp"))
    (elsewhere / "tmp").mkdir()
    assert str(elsewhere / "table.txt") in refused(made, "outside", "table.txt")


@KERNEL
def test_whatever_leads_to_it(made: Project_) -> None:
    made.write("sub/hidden.csv", "x")
    for how, name in (
        ("through proc", "lookup.csv"),
        ("linked from temporary", "lookup.csv"),
        ("beside a descriptor", "hidden.csv"),
        ("child that tells", "lookup.csv"),
        ("in a group", "lookup.parquet"),
    ):
        refused(made, how, name)
        made.run("git", "checkout", "-q", ".")


@KERNEL
def test_code_in_nested_folders_is_code_for_child_processes_too(made: Project_) -> None:
    for path in ("lib/pkg", "src/mine"):
        made.write(f"{path}/__init__.py", "")
        made.write(f"{path}/inner.py", "def double(x):\n    return 2 * x\n")
    made.write("scripts/deep/x.py", "import sys; sys.exit(0)\n")
    made.write("node_modules/deep/x.py", "")
    made.write("models/net.py", "")
    pq.write_table(pa.table({"a": [1]}), made.root / "src/lookup.parquet")
    assert {str(Path(path).relative_to(made.root)) for path in code_in(made.root)} == {
        "lib/pkg", "models/net.py", "ops", "scripts/deep", "src/mine"
    }  # fmt: skip
    for how in ("child", "spawned"):
        made.edit("recipes/one/recipe.yaml", "how: none", f"how: {how}")
        assert "one:b" in made.repro()
        made.run("git", "checkout", "-q", "recipes/one/recipe.yaml")


@KERNEL
@pytest.mark.parametrize("where", ["p/hf", "new/hf"])
def test_caches_are_read_also_in_the_project_and_where_they_are_new(
    made: Project_, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made.root.parent / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(made.root.parent / "tmp"))
    monkeypatch.setenv("HF_HOME", str(made.root.parent / where))
    made.edit("recipes/one/recipe.yaml", "how: none", "how: cache")
    assert "one:b" in made.repro()


def test_a_package_reads_its_own_settings_outside_the_project_and_the_op_does_not(
    made: Project_, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = made.root.parent / "home"
    (home / "tmp").mkdir(parents=True)
    (home / ".netrc").write_text("machine example.org login me password secret\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(home / "tmp"))
    refused(made, "settings by itself", ".netrc")
    made.edit("recipes/one/recipe.yaml", "how: settings by itself", "how: settings")
    assert "one:b" in made.repro()


@KERNEL
@pytest.mark.parametrize("how", ["written and read", "w+", "a new database"])
def test_what_the_op_made_in_the_project_belongs_in_a_temporary_folder(made: Project_, how: str) -> None:
    made.edit("recipes/one/recipe.yaml", "how: none", f"how: {how}")
    made.run("drp", "compile")
    said = made.run("drp", "stage", "one", "b", code=66)
    assert "reads made." in said
    assert "(tempfile)" in said
    assert "not an input" not in said


@pytest.mark.parametrize("how", ["library", "temporary", "log", "source"])
def test_inputs_libraries_temporary_files_and_writing_are_fine(made: Project_, how: str) -> None:
    source = ", source: lookup.csv" if how == "source" else ""
    made.edit("recipes/one/recipe.yaml", "how: none", f"how: {how}{source}")
    assert "one:b" in made.repro()
    texts = [row["text"] for row in read(made.root / "data/one/b.parquet")]
    assert texts[0].startswith("w0")
    assert ("1,2" in texts[0]) == (how == "source")


def test_a_prompt_with_includes_is_an_input_and_another_prompt_is_not(tmp_path: Path) -> None:
    made = project(
        tmp_path / "p", "stages:\n  a: {op: make}\n  b: {op: ask, from: a, model: m, prompt: say}\nmodels: {m: rules}\n"
    )
    made.write("params.yaml", "models:\n  rules: {name: rules, sampling: {max_tokens: 64}}\nrun:\n  rules: {backend: rules}\n")
    made.write("prompts/_part.j2", "Mind the gap.\n")
    made.write("prompts/other.j2", "Something else.\n")
    made.write("prompts/say.j2", "{% include '_part.j2' %} Say {{ text }}.\n")
    assert "one:b" in made.repro()
    made.edit(
        "ops/ask.py",
        "def talk(record: Record) -> Talk:",
        'def talk(record: Record) -> Talk:\n        open("prompts/other.j2").read()',
    )
    made.run("drp", "compile")
    assert "prompts/other.j2" in made.run("drp", "stage", "one", "b", code=66)


VERIFIER = '''
    """A verifier that looks answers up."""
    import pathlib

    def judge(reply, answer):
        READ
        return reply, reply == answer
    '''


@pytest.mark.parametrize(
    "read_",
    [
        'pathlib.Path("lookup.csv").read_text()',
        'try: open("lookup.csv")\n        except BaseException: pass',
        pytest.param('__import__("pyarrow.parquet").parquet.read_table("lookup.parquet")', marks=KERNEL),
    ],
)
def test_a_verifier_of_ones_own_is_held_to_it_in_its_worker_process(tmp_path: Path, read_: str) -> None:
    recipe = "stages:\n  a: {op: load, source: data.jsonl, question: q, answer: a, solution: s}\n  b: {op: reply, from: a}\n"
    made = project(tmp_path / "p", recipe + "  c: {op: verify, from: b, verifier: 'checks.mine:judge'}\n")
    made.write("data.jsonl", '{"q": "1 + 1?", "a": "2", "s": "2"}\n')
    made.write("lookup.csv", "a,b\n1,2\n")
    pq.write_table(pa.table({"a": [1, 2]}), made.root / "lookup.parquet")
    made.write("ops/reply.py", '''
        """Reply with the answer."""
        from collections.abc import Iterable, Iterator
        from typing import TypedDict
        from drp.op import Kept, Outcome, Record, Work

        VERSION = 1

        class Adds(TypedDict):
            reply: str

        def reply(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
            for record in records:
                yield Kept({**record, "reply": record["answer"]})
        ''')  # fmt: skip
    made.write("checks/mine.py", VERIFIER.replace("READ", "pass"))
    made.repro()
    assert [row["correct"] for row in read(made.root / "data/one/c.parquet")] == [True]
    made.write("checks/mine.py", VERIFIER.replace("READ", read_))
    made.run("drp", "compile")
    assert "lookup." in made.run("drp", "stage", "one", "c", code=66)


def test_data_that_dvc_linked_from_its_cache_is_an_input_by_whatever_name(made: Project_) -> None:
    made.run("dvc", "config", "cache.type", "symlink")
    made.run("dvc", "checkout", "--relink")
    assert (made.root / "data/one/a.parquet").is_symlink()
    made.edit("recipes/one/recipe.yaml", "how: none", "how: library")
    assert "one:b" in made.repro()


@KERNEL
def test_a_file_that_is_replaced_while_the_stage_runs_is_still_named(made: Project_) -> None:
    made.edit(
        "ops/peep.py",
        'if how == "open":',
        'if how == "swap" and os.path.exists("params.new"):\n        os.replace("params.new", "params.yaml")\n    if how == "open":',
    )
    shutil.copy(made.root / "params.yaml", made.root / "params.new")
    made.edit("recipes/one/recipe.yaml", "how: none", "how: swap")
    made.run("drp", "compile")
    assert "params.yaml" in made.run("drp", "stage", "one", "b", code=65)


@KERNEL
def test_so_is_an_input_that_is_replaced_before_it_is_read(made: Project_) -> None:
    shutil.copy(made.root / "lookup.csv", made.root / "lookup.new")
    made.edit("recipes/one/recipe.yaml", "how: none", "how: replaced, source: lookup.csv")
    made.run("drp", "compile")
    assert "replaced while the stage ran: lookup.csv" in made.run("drp", "stage", "one", "b", code=65)


def test_a_project_in_the_root_of_everything_or_of_too_many_neighbours_is_left_to_python(tmp_path: Path) -> None:
    with pytest.raises(landlock.Unfit):
        list(landlock.around(Path("/")))
    around = list(landlock.around(tmp_path))
    assert str(tmp_path) not in around
    assert not any(str(tmp_path).startswith(path + os.sep) for path in around)
    assert any(sys.base_prefix.startswith(path) for path in around)
