"""Lineage where things lie oddly: ops of a project's own, merges, files that git lacks, names that are patterns, links."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from drp.lineage.subject import Lineage
from drp.project import Project
from tests.projects import Project_, project

JOIN = '''
    """Join every two records into one, and say so in the trail."""
    from collections.abc import Iterable, Iterator
    from drp.op import Kept, Outcome, Record, Work, trail_row

    VERSION = 1
    MAKES_RECORDS = True

    def join(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
        rows = list(records)
        for number in range(0, len(rows) - 1, 2):
            one, two = rows[number : number + 2]
            name = f"pair-{number:03d}"
            trail = trail_row(name, 0, action="join", parents=[f"b:{one['id']}", f"b:{two['id']}"])
            yield Kept({**one, "id": name, "text": one["text"] + two["text"]}, (trail,))
'''
RECIPE = """\
stages:
  a: {op: make, size: 4}
  b: {op: shout, from: a}
  c: {op: join, from: b}
  n: {op: tally, from: [b, c]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    """In a folder whose name DuckDB would take for a pattern, data linked from DVC's cache."""
    here = project(tmp_path_factory.mktemp("odd") / "br[ab] 'q'", RECIPE)
    here.write("ops/join.py", JOIN)
    here.run("dvc", "config", "cache.type", "symlink")
    here.commit("ops")
    here.repro()
    here.commit("run")
    return here


def asked(made: Project_, command: str, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.run("drp", command, *arguments, "--json"))
    return found


def walk(branch: dict[str, Any]) -> list[dict[str, Any]]:
    return [branch, *(inner for below in branch.get("below", []) for inner in walk(below))]


def stage(branch: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in walk(branch) if each["kind"] == "stage" and each["name"] == f"one/{name}")


def copied(made: Project_, folder: Path) -> Project_:
    shutil.copytree(made.root, folder / "p", symlinks=True)
    return Project_(folder / "p")


def test_what_an_own_op_joined_leads_to_all_that_it_was_made_of(made: Project_) -> None:
    found = asked(made, "why", "pair-002")
    assert stage(found, "c")["parents"] == ["one/b:002", "one/b:003"]
    assert [each["id"] for each in walk(found) if each["kind"] == "stage" and each["name"] == "one/a"] == ["003", "002"]


def test_a_record_is_followed_into_what_an_own_op_joined_it_to(made: Project_) -> None:
    text = made.run("drp", "used", "003")
    assert "one/c: has pair-002" in text
    assert "pair-000" not in text


def test_what_a_trail_that_is_not_here_would_say_is_told_to_be_unknown(made: Project_, tmp_path: Path) -> None:
    here = copied(made, tmp_path)
    trail = here.root / "data/one/c.trail.parquet"
    here.root.joinpath(".dvc/cache/files/md5", *trail.readlink().parts[-2:]).unlink()
    trail.unlink()
    found = here.run("drp", "why", "pair-000", "--in", "one/c")
    cure = "no DVC remote is configured; `drp run one` makes it"
    assert f"its trail is not here, which says what it was made from: {cure}" in " ".join(found.replace("│", "").split())
    assert here.run("drp", "deleted", "pair-000").startswith("pair-000: ")
    told = here.run("drp", "used", "000")
    assert "not here 1 stage of one" in told, "it may be in a record of another name"
    source = here.root / "data/one/b.parquet"
    here.root.joinpath(".dvc/cache/files/md5", *source.readlink().parts[-2:]).unlink()
    source.unlink()
    told = " ".join(here.run("drp", "why", "pair-000").replace("│", "").split())
    assert "not looked in: the records of one/b are not here (no DVC remote is configured; `drp run one` makes them)" in told


def test_a_value_that_an_own_op_changed_is_told_of_that_op_and_no_other(made: Project_) -> None:
    found = asked(made, "why", "001", "--in", "one/b")
    assert (stage(found, "a")["text"], stage(found, "b")["text"]) == ("w1", "W1")


def test_a_file_that_dvc_linked_is_known_by_its_name(made: Project_) -> None:
    assert (made.root / "data/one/b.parquet").is_symlink()
    for name in ("data/one/b.parquet", "./data/one/b.parquet", str(made.root / "data/one/b.parquet")):
        assert asked(made, "why", name)["name"] == "one/b"


def test_an_op_that_git_lacks_is_no_clean_origin(made: Project_, tmp_path: Path) -> None:
    assert stage(asked(made, "why", "pair-000"), "c")["made"]["dirty"] is False
    here = copied(made, tmp_path)
    here.run("git", "rm", "-q", "--cached", "ops/join.py")
    here.run("git", "commit", "-q", "--amend", "-m", "run")
    found = stage(asked(here, "why", "pair-000"), "c")["made"]
    assert (found["dirty"], found["differs"]) == (True, ["ops/join.py"])


def test_a_lock_entry_that_a_merge_brought_is_the_merges_and_one_of_a_branch_the_branchs(made: Project_, tmp_path: Path) -> None:
    here = copied(made, tmp_path)
    here.run("git", "checkout", "-qb", "side")
    here.edit("recipes/one/recipe.yaml", "size: 4", "size: 6")
    here.repro()
    here.commit("six")
    six = here.run("git", "rev-parse", "HEAD").strip()
    here.run("git", "checkout", "-q", "main")
    here.write("notes.txt", "other")
    here.commit("other")
    here.run("git", "merge", "-q", "--no-ff", "--no-commit", "side")
    here.edit("recipes/one/recipe.yaml", "op: shout", "times: 2, op: shout")
    here.repro()
    here.commit("merge, and more")
    merge = here.run("git", "rev-parse", "HEAD").strip()
    here.run("git", "config", "color.ui", "always")
    found = asked(here, "why", "pair-004")
    assert stage(found, "a")["made"]["commit"] == six
    assert stage(found, "b")["made"]["commit"] == merge
    assert stage(found, "b")["made"]["dirty"] is False


def test_a_prompt_whose_name_is_not_ascii_has_its_commit(made: Project_, tmp_path: Path) -> None:
    here = copied(made, tmp_path)
    here.write("prompts/löse.j2", "Löse {{ text }}.")
    here.commit("prompt")
    lineage = Lineage(Project(here.root))
    assert lineage.origins.last("prompts/löse.j2", None) == here.run("git", "rev-parse", "HEAD").strip()


def test_a_report_of_a_revision_is_gits_and_not_what_lies_here_now(made: Project_, tmp_path: Path) -> None:
    here = copied(made, tmp_path)
    here.edit("recipes/one/reports/n.json", '"b": 4', '"b": 5')
    assert asked(here, "why", "count.b")["value"] == 5
    assert asked(here, "why", "count.b", "--at", "HEAD")["value"] == 4
    here.write("recipes/one/reports/n.json", "{")
    told = here.run("drp", "why", "count.b", code=1)
    assert "recipes/one/reports/n.json" in told
    assert "not JSON" in told


def test_data_made_from_an_earlier_file_than_lies_here_say_so(made: Project_, tmp_path: Path) -> None:
    here = copied(made, tmp_path)
    here.edit("recipes/one/recipe.yaml", "size: 4", "size: 5")
    here.run("drp", "compile")
    here.run("dvc", "repro", "-q", "-s", "recipes/one/dvc.yaml:a")
    assert "made from an earlier data/one/a.parquet" in here.run("drp", "why", "001", "--in", "one/b")


def test_a_file_that_is_no_parquet_is_named(made: Project_, tmp_path: Path) -> None:
    here = copied(made, tmp_path)
    path = here.root / "data/one/c.parquet"
    path.unlink()
    path.write_bytes(b"PAR1 it is not PAR1")
    told = here.run("drp", "why", "pair-000", "--in", "one/c", code=1)
    assert "data/one/c.parquet" in told
    assert "drp verify" in told
