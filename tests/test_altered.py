"""Answers that were read from files which are not what their locks name, or that could not be read at all."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drp.lineage import altered
from drp.lineage.subject import Lineage
from drp.pipeline.stamps import Stamps
from drp.project import Project
from tests.projects import Project_
from tests.traced import traced

TARGETS = "data/fruit/targets.parquet"
FORGED = "That gives 50 + 6 = 57."


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    return traced(tmp_path_factory.mktemp("altered") / "p")


@pytest.fixture
def copy(made: Project_, tmp_path: Path) -> Project_:
    shutil.copytree(made.root, tmp_path / "p", symlinks=True)
    return Project_(tmp_path / "p")


def forge(made: Project_, column: str = "target") -> str:
    """Write a sentence into one record; its id."""
    table = pq.read_table(made.root / TARGETS)
    rows = table.to_pylist()
    rows[0][column] = rows[0][column].replace("\n</think>", f" {FORGED}\n</think>") if column == "target" else FORGED
    path = made.root / TARGETS
    path.unlink()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    return str(rows[0]["id"])


def test_every_answer_that_was_read_from_an_altered_file_says_so_in_its_first_line(copy: Project_) -> None:
    name = forge(copy)
    for command in (("why", FORGED), ("why", name), ("why", "fruit/targets"), ("why", TARGETS), ("used", name),
                    ("deleted", name), ("deleted", "fruit")):  # fmt: skip
        first = copy.run("drp", *command).splitlines()[0]
        assert first.startswith(f"ALTERED: {TARGETS} is not what recipes/fruit/dvc.lock names"), command
        told = json.loads(copy.run("drp", *command, "--json"))
        found = told[0]["altered"] if isinstance(told, list) else [each["path"] for each in told["altered"]]
        assert found == [TARGETS], command
    assert copy.run("drp", "why", "no such words", code=1).startswith(f"ALTERED: {TARGETS}")
    assert json.loads(copy.run("drp", "why", name, "--at", "HEAD", "--json"))["altered"] == []
    cure = copy.run("drp", "why", name).splitlines()[0].partition("; `")[2].partition("`")[0]
    copy.run(*cure.split())
    assert "ALTERED" not in copy.run("drp", "why", name)


def test_a_sentence_that_is_of_neither_thought_nor_reply_comes_from_no_step(copy: Project_) -> None:
    forge(copy)
    told = json.loads(copy.run("drp", "why", FORGED, "--json"))
    kinds = [branch["kind"] for branch in told["below"][0]["below"]]
    assert "from no step" in kinds
    assert "reply" not in kinds
    framed = json.loads(copy.run("drp", "why", "\n</think>\n\n", "--json"))["below"][0]["below"][0]
    assert (framed["kind"], framed["step"]) == ("from no step", None)
    own = json.loads(copy.run("drp", "why", "The answer is \\boxed{36}.", "--json"))["below"][0]["below"]
    assert [branch["kind"] for branch in own if branch["kind"] in ("reply", "from no step")] == ["reply"]


def test_a_sentence_across_thought_and_reply_is_told_of_both(copy: Project_) -> None:
    row = pq.read_table(copy.root / TARGETS).to_pylist()[0]
    across = row["pruned"][-12:] + "\n</think>\n\n" + row["target_reply"][:5]
    kinds = [b["kind"] for b in json.loads(copy.run("drp", "why", across, "--json"))["below"][0]["below"]]
    assert kinds[:2] == ["sentence", "reply"]


def test_a_sentence_of_the_pruned_thought_that_no_step_led_to_says_so(copy: Project_) -> None:
    path = copy.root / TARGETS
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0]["pruned"] += f" {FORGED}"
    path.unlink()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    told = json.loads(copy.run("drp", "why", FORGED, "--json"))["below"][0]["below"]
    assert told[0]["kind"] == "from no step"


def asked(made: Project_) -> Lineage:
    lineage = Lineage(Project(made.root))
    lineage.tables.file(lineage.graph.nodes["fruit/targets"])
    return lineage


def test_a_file_too_large_to_hash_is_known_by_size_end_or_link_and_else_unchecked(
    copy: Project_, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copy.root / TARGETS
    whole = path.read_bytes()
    monkeypatch.setattr(altered, "MOST", 0)
    monkeypatch.setattr(altered, "TAIL", 100)

    def found(content: bytes) -> tuple[list[str], list[str]]:
        path.unlink()
        path.write_bytes(content)
        told = altered.beside(asked(copy).graph)
        return list(told.altered), list(told.unchecked)

    assert found(whole) == ([], [TARGETS])
    assert found(whole[:400] + b"?" + whole[401:]) == ([], [TARGETS]), "only `drp verify` sees this"
    assert found(whole[:-9] + b"?" + whole[-8:]) == ([TARGETS], [])
    assert found(whole + b"?") == ([TARGETS], [])
    lineage = asked(copy)
    path.unlink()
    path.hardlink_to(lineage.snapshot.object(lineage.graph.nodes["fruit/targets"].outs[TARGETS].md5))
    assert altered.beside(lineage.graph).plain() == {"altered": [], "unchecked": []}


def test_a_file_is_hashed_once_until_it_changes(copy: Project_, monkeypatch: pytest.MonkeyPatch) -> None:
    import drp.pipeline.stamps

    monkeypatch.setattr(drp.pipeline.stamps, "SETTLED", 0)
    project, path = Project(copy.root), copy.root / TARGETS
    path.unlink()
    path.write_text("one")
    first = Stamps(project)
    one = first.md5(TARGETS)
    first.keep()
    assert Stamps(project).known(TARGETS) == one
    path.write_text("two")
    assert Stamps(project).known(TARGETS) is None
    assert Stamps(project).md5(TARGETS) != one
    first.file.write_text('{"cut')
    assert Stamps(project).known(TARGETS) is None


def test_what_is_found_nowhere_in_a_clone_without_data_says_that_they_were_not_looked_in(copy: Project_) -> None:
    for path in ("data/fruit/pruned.parquet", ".dvc/cache/files"):
        shutil.rmtree(copy.root / path) if path.startswith(".") else (copy.root / path).unlink()
    for command in (("why", "no such words"), ("why", "0123abcd"), ("deleted", "0123abcd"), ("used", "0123abcd")):
        told = copy.run("drp", *command, code=1)
        assert "not looked in: the records of 1 stage are not here (no DVC remote is configured; `drp run fruit`" in told, command


def test_the_cure_for_data_that_are_not_here_is_a_pull_only_where_there_is_a_remote(
    copy: Project_, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    brings = lambda: Project(copy.root).brings("it", "fruit")
    assert brings() == "no DVC remote is configured; `drp run fruit` makes it"
    copy.run("dvc", "remote", "add", "--local", "there", str(tmp_path / "remote"))
    assert brings() == "`dvc pull -r there` brings it"
    copy.run("dvc", "remote", "default", "there")
    assert brings() == "`dvc pull` brings it"
    (copy.root / ".dvc/config").write_text("")
    (copy.root / ".dvc/config.local").unlink()
    (tmp_path / "DVC_GLOBAL_CONFIG_DIR").mkdir()
    (tmp_path / "DVC_GLOBAL_CONFIG_DIR/config").write_text("[core]\n    remote = all\n['remote \"all\"']\n    url = /r\n")
    assert brings() == "`dvc pull` brings it"
