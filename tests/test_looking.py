"""`drp show` and `drp head`: what a person asks for by as little of its name as will do."""

import json
from pathlib import Path

import pytest

from drp import cli
from drp.records import Writer, arrow
from tests.projects import project

RECIPE = """\
stages:
  a: {op: make, size: 2}
  n: {op: tally, from: [a]}
"""


def test_show_prints_the_only_table_and_asks_which_where_there_are_several(tmp_path: Path) -> None:
    made = project(tmp_path / "p", RECIPE)
    made.repro()
    assert made.run("drp", "show", "one") == made.run("drp", "show", "one", "n")
    made.write("recipes/one/recipe.yaml", RECIPE + "  m: {op: tally, from: [a]}\n")
    assert "several tables: say which: n, m" in made.run("drp", "show", "one", code=2)
    made.write("recipes/two/recipe.yaml", "stages:\n  a: {op: make}\n")
    assert "no table of its own" in made.run("drp", "show", "two", code=2)


def test_head_takes_the_beginning_of_an_id_but_not_of_several_questions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.parquet"
    pa = arrow()
    with Writer(path, pa.schema([("id", pa.string())])) as file:
        for name in ("00aa", "00aa/000", "00aa/001", "00ab/000"):
            file.add({"id": name})

    def ids(*arguments: str) -> list[str]:
        assert cli.main(["head", str(path), *arguments]) == 0
        return [json.loads(text + "}")["id"] for text in capsys.readouterr().out.split("}")[:-1]]

    assert ids("--id", "00ab") == ["00ab/000"]
    assert ids("--id", "00aa", "-n", "9") == ["00aa"], "the very id, not those that begin so"
    assert ids("--id", "00aa/", "-n", "9") == ["00aa/000", "00aa/001"]
    assert cli.main(["head", str(path), "--id", "00a"]) == 1
    assert "is the beginning of several ids: say which: 00aa, 00ab" in capsys.readouterr().err
    assert cli.main(["head", str(path), "--id", "01"]) == 1
    assert "no record '01'" in capsys.readouterr().err
