"""drp withdraw: one row out of everything, nothing else changed, and no question asked twice."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from drp.errors import ConfigError
from drp.models import Completion
from drp.ops.load import load
from drp.recipe.read import load as yaml
from drp.records import Dropped, Kept, read
from drp.store.completions import Owner, Store
from drp.withdrawing.exclusion import put
from tests.fakes import FakeWork
from tests.projects import Project_, project
from tests.servers import ChatServer
from tests.test_store import ask
from tests.two_recipes import PARAMS, anew, question, think, two_recipes

QUICK = """\
# what this is for
stages:
  a: {op: load, source: "q.jsonl", limit: 4}   # flow
  b:
    op: load
    source: q.jsonl  # block
    skip: 2

  m: {op: mix, from: [a, b]}
  made-here: {op: make, size: 2}
"""
CHILD = """\
extends: one
stages:
  a: {limit: 5}
  n: {op: mix, from: [a]}
"""


def data(made: Project_, path: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read(made.root / f"data/{path}.parquet")}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    """Two loads of one file and a recipe that takes one of them over, run and committed."""
    made = project(tmp_path_factory.mktemp("quick") / "p", QUICK)
    made.write("recipes/two/recipe.yaml", CHILD)
    made.write("q.jsonl", "".join(json.dumps({"question": f"{n} + 1?", "answer": str(n + 1)}) + "\n" for n in range(6)))
    made.repro()
    made.commit("run")
    return made


@pytest.fixture
def quick(original: Project_, tmp_path: Path) -> Project_:
    """A copy of it, to be changed."""
    shutil.copytree(original.root, tmp_path / "p", symlinks=True)
    return Project_(tmp_path / "p")


def anew_of(made: Project_, *stages: str) -> None:
    """Compile, and make these stages anew, but not what was made from them."""
    made.run("drp", "compile")
    made.run("dvc", "repro", "-s", *(f"recipes/{stage.replace('/', '/dvc.yaml:')}" for stage in stages))


def row_id(made: Project_, row: int, *stages: str) -> str:
    return next(
        name for at in stages or ("one/a", "one/b") for name, record in data(made, at).items() if record["row"] == str(row)
    )


# -- the op ------------------------------------------------------------------------------------------------------------------


def test_a_withdrawn_record_is_dropped_after_all_choosing_and_leaves_no_text(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    rows = [{"question": f"{n % 5} + 1?", "answer": str(n % 5 + 1)} for n in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for options in ({"limit": 3}, {"limit": 3, "shuffle_seed": 2}, {"skip": 1, "limit": 3}, {}):
        before = list(load(FakeWork(tmp_path / "w"), source=str(path), **options))
        kept = [one.record["id"] for one in before if isinstance(one, Kept)]
        after = list(load(FakeWork(tmp_path / "w"), source=str(path), withdrawn={kept[1]: "asked"}, **options))
        assert [one.record["id"] for one in after if isinstance(one, Kept)] == [kept[0], *kept[2:]], options
        gone = [one for one in after if isinstance(one, Dropped) and one.record["id"] == kept[1]]
        assert {(one.reason, one.detail) for one in gone} == {("withdrawn", "asked")}
        assert all(set(one.record) == {"id", "source", "revision", "split", "row"} for one in gone)
        assert len(before) == len(after)


# -- the edit ----------------------------------------------------------------------------------------------------------------

PLACE = ("stages", "a", "withdrawn", "00e1")


@pytest.mark.parametrize(
    "text",
    [
        'stages:\n  # c\n  a: {op: load,  source: "gym://x", size: 3 }  # tail\n  b: {op: mix}\n',
        "stages:\n  a: {\n    op: load,\n    size: 3,\n  }\n",
        "stages:\n    a:\n        op: load\n        settings:\n            x: 1   # s\n\n    # about b\n    b: {op: mix}\naxes: {}\n",
        "stages:\n  a:\n    op: load",
        "stages:\n  a:\n    op: load\n    source: |\n      x\n  b: {op: mix}\n",
        "stages:\n  a: {op: load, withdrawn: {q: old}, size: 3}\n",
        "stages:\n  a:\n    withdrawn:\n      q: old  # why\n    op: load\n",
        "stages:\n  a: {op: load, withdrawn: {}, size: 3}\n",
        "stages:\n  a: {op: load, withdrawn: null}\n",
        "stages:\n  a:\n    withdrawn:\n    op: load\n",
        "extends: x  # parent\n",
        "stages:\r\n  a: {op: load}\r\n",
        "",
    ],
)
def test_an_exclusion_is_put_in_and_every_other_byte_stays(text: str) -> None:
    for words in ("plain words", "no: # 'quotes' \"here\"", "12", "null", "ümlaut, {braces}"):
        after = put(text, PLACE, words, "f")
        stage = yaml(after)["stages"]["a"]
        assert stage["withdrawn"]["00e1"] == words
        other = yaml(text).get("stages", {}).get("a", {})
        assert {k: v for k, v in stage.items() if k != "withdrawn"} == {k: v for k, v in other.items() if k != "withdrawn"}
        head = _common(text, after)
        tail = _common(text[head:][::-1], after[head:][::-1])
        assert text[head : len(text) - tail] in ("", "null"), "nothing else that stood there is gone"
        assert put(after, PLACE, words, "f") == after


def _common(one: str, other: str) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def test_an_exclusion_that_an_alias_would_carry_elsewhere_is_refused_with_what_to_write() -> None:
    with pytest.raises(ConfigError, match=r"by hand, under stages\.a\.withdrawn: \{\"00e1\": x\}"):
        put("stages:\n  a: &x {op: load}\n  b: *x\n", PLACE, "x", "f")


# -- the command, on data alone ----------------------------------------------------------------------------------------------


def test_every_load_that_has_it_is_edited_in_its_own_style_and_the_rest_of_the_file_stays(quick: Project_) -> None:
    name = row_id(quick, 3)
    before = {at: data(quick, at) for at in ("one/a", "one/b", "two/a")}
    dry = quick.run("drp", "withdraw", name, "--reason", "by its author", "--dry-run")
    assert f'+  a: {{op: load, source: "q.jsonl", limit: 4, withdrawn: {{{name}: by its author}}}}   # flow' in dry
    assert quick.run("git", "status", "--short") == "", "a dry run writes nothing"
    out = quick.run("drp", "withdraw", name, "--reason", "by its author")
    assert "2 exclusions written into recipes/one/recipe.yaml" in " ".join(out.split())
    added = [line for line in quick.run("git", "diff", "-U0", "recipes/one/recipe.yaml").splitlines() if line[:1] in "+-"][2:]
    assert [line[1:] for line in added if line[0] == "+"] == [
        f'  a: {{op: load, source: "q.jsonl", limit: 4, withdrawn: {{{name}: by its author}}}}   # flow',
        "    withdrawn:",
        f"      {name}: by its author",
    ]
    assert sum(line[0] == "-" for line in added) == 1
    assert quick.run("git", "diff", "recipes/two/recipe.yaml") == "", "it takes over what its parent says"
    quick.run("drp", "compile", "--check")
    told = json.loads(quick.run("drp", "withdraw", name, "--reason", "another", "--json"))
    assert told["edits"] == {}, "twice is harmless, and the first reason stays"
    assert set(quick.repro()) >= {"one:a", "one:b", "one:m", "two:a", "two:n"}
    for at, rows in before.items():
        assert data(quick, at) == {key: row for key, row in rows.items() if key != name}, at
    (gone,) = [row for row in read(quick.root / "data/one/a.dropped.parquet") if row["id"] == name]
    assert (gone["reason"], gone["detail"]) == ("withdrawn", "by its author")
    assert "3 + 1?" not in gone["record"]
    assert "dropped by one/a: " + name + ": withdrawn (by its author)" in " ".join(quick.run("drp", "used", name).split())


def test_a_child_whose_own_row_it_is_keeps_what_it_takes_over(quick: Project_) -> None:
    parents, own = row_id(quick, 0), next(n for n, r in data(quick, "two/a").items() if r["row"] == "4")
    quick.run("drp", "withdraw", parents, "--reason", "first")
    quick.edit("recipes/one/recipe.yaml", "    skip: 2", "    skip: 5")  # row 4 is then only the child's
    anew_of(quick, "one/a", "one/b", "two/a")
    quick.run("drp", "withdraw", own, "--reason", "second")
    told = yaml((quick.root / "recipes/two/recipe.yaml").read_text())["stages"]["a"]["withdrawn"]
    assert told == {parents: "first", own: "second"}
    anew_of(quick, "two/a")
    assert not {parents, own} & data(quick, "two/a").keys()
    assert parents not in data(quick, "one/a")


def test_a_row_is_withdrawn_by_its_source_and_key_and_a_source_that_never_ran_is_closed_too(quick: Project_) -> None:
    quick.write("recipes/new/recipe.yaml", "stages:\n  z: {op: load, source: q.jsonl}\n")
    quick.run("drp", "withdraw", "--source", "q.jsonl", "--row", "1", "--reason", "wrong")
    name = row_id(quick, 1)
    assert f"withdrawn: {{{name}: wrong}}" in (quick.root / "recipes/new/recipe.yaml").read_text()
    assert f"withdrawn: {{{name}: wrong}}" in (quick.root / "recipes/one/recipe.yaml").read_text()


def test_a_row_that_is_another_record_in_each_stage_is_withdrawn_from_the_one_that_is_named(tmp_path: Path) -> None:
    made = project(
        tmp_path / "p",
        "stages:\n  a: {op: load, source: 'gym://leg_counting', size: 3}\n"
        "  b: {op: load, source: 'gym://leg_counting', size: 3, seed: 7}\n"
        "  c: {op: load, source: 'gym://leg_counting', size: 3, skip: 1}\n",
    )
    made.repro()
    names = {stage: row_id(made, 1, f"one/{stage}") for stage in "abc"}
    assert names["a"] == names["c"] != names["b"]
    row = ("--source", "gym://leg_counting", "--row", "1", "--reason", "wrong")
    out = made.run("drp", "withdraw", *row, code=1)
    assert f"--in one/a ({names['a']})" in out
    assert f"--in one/b ({names['b']})" in out
    told = json.loads(made.run("drp", "withdraw", *row, "--in", "one/a", "--json"))
    assert [one["stages"] for one in told["withdrawn"]] == [["one/a", "one/c"]], (
        "all stages that have it, not the named one alone"
    )
    assert told["edits"].keys() == {"recipes/one/recipe.yaml"}
    guide = (Path(__file__).parents[1] / "docs/guide.md").read_text()
    assert "drp withdraw --source gym://leg_counting --row 17 --in mini/legs --reason" in guide


def test_a_level_of_an_axis_that_has_exclusions_of_its_own_gets_this_one_too(tmp_path: Path) -> None:
    recipe = (
        "stages:\n  a: {op: load, source: q.jsonl}\n  b: {op: mix, from: 'a@*'}\naxes:\n  size:\n"
        "    small: {stages.a.limit: 2}\n    large: {stages.a.withdrawn: {'0123': long ago}}\n"
    )
    made = project(tmp_path / "p", recipe)
    made.write("q.jsonl", "".join(json.dumps({"question": f"{n} + 1?", "answer": "2"}) + "\n" for n in range(3)))
    anew_of(made, "one/a--small", "one/a--large")
    name = next(row["id"] for row in read(made.root / "data/one/small/a.parquet") if row["row"] == "0")
    made.run("drp", "withdraw", name, "--reason", "wrong")
    told = yaml((made.root / "recipes/one/recipe.yaml").read_text())
    assert told["stages"]["a"]["withdrawn"] == {name: "wrong"}
    assert told["axes"]["size"]["large"]["stages.a.withdrawn"] == {"0123": "long ago", name: "wrong"}
    anew_of(made, "one/a--small", "one/a--large")
    for size in ("small", "large"):
        assert name not in data(made, f"one/{size}/a")


MIXED = """\
stages:
  exam: {op: load, source: e.jsonl}
  a: {op: load, source: q.jsonl}
  held: {op: mix, from: [a], without: [exam]}
  few: {op: mix, from: [a], limit: 3}
  of-held: {op: mix, from: [held]}
  of-few: {op: mix, from: [few]}
  apart: {op: mix, from: [a]}
"""


def test_what_a_mix_lets_in_instead_is_told_of_and_all_that_runs_is_named(tmp_path: Path) -> None:
    made = project(tmp_path / "p", MIXED)
    rows = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(6)]
    made.write("q.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    made.write("e.jsonl", json.dumps({"question": "2 + 1?", "answer": "three"}) + "\n" + json.dumps(rows[5]) + "\n")
    made.repro()
    [exam] = [name for name, row in data(made, "one/exam").items() if row["answer"] == "three"]
    exam_told = made.run("drp", "withdraw", exam, "--reason", "x", "--dry-run")
    told = json.loads(made.run("drp", "withdraw", exam, "--reason", "x", "--dry-run", "--json"))
    assert (set(told["stages"]), told["perhaps"]) == ({"one/exam", "one/held"}, ["one/of-held"])
    assert "one/counts" in exam_told
    first = next(iter(data(made, "one/few")))
    told = json.loads(made.run("drp", "withdraw", first, "--reason", "x", "--json"))
    rest = {"one/a", "one/held", "one/few", "one/of-held", "one/of-few", "one/apart"}
    assert set(told["stages"]) | set(told["perhaps"]) == rest | ({"one/exam"} if first in data(made, "one/exam") else set())
    made.run("drp", "withdraw", exam, "--reason", "x")
    ran = {f"one/{stage.partition(':')[2]}" for stage in made.repro()}
    assert ran == rest | {"one/exam", "one/counts"}
    assert "2 + 1?" in {row["question"] for row in data(made, "one/of-held").values()}


def test_what_cannot_be_withdrawn_is_refused_with_what_is_near_and_nothing_is_written(quick: Project_) -> None:
    name = row_id(quick, 2)
    wrong = name[:-2] + ("00" if name[-2:] != "00" else "11")
    out = quick.run("drp", "withdraw", wrong, "--reason", "x", code=1)
    assert f"no record with the id '{wrong}'" in out
    assert f"near it: {name}" in out
    assert "it comes from one/made-here (op make)" in quick.run("drp", "withdraw", "001", "--reason", "x", code=1)
    assert "--row" in quick.run("drp", "withdraw", "--source", "q.jsonl", "--reason", "x", code=2)
    assert "is in none of" in quick.run("drp", "withdraw", "--source", "q.jsonl", "--row", "99", "--reason", "x", code=1)
    assert "templating" in quick.run("drp", "withdraw", name, "--reason", "a ${b}", code=2)
    assert quick.run("git", "status", "--short") == ""


def test_of_records_that_are_not_here_it_is_said_what_brings_them(quick: Project_) -> None:
    name = row_id(quick, 3)
    shutil.rmtree(quick.root / ".dvc/cache/files")
    (quick.root / "data/one/m.parquet").unlink()
    told = " ".join(quick.run("drp", "withdraw", name, "--reason", "x", "--dry-run").split())
    assert "not here 1 stage: no DVC remote is configured; `drp run one` makes them; withdraw again then" in told
    quick.run("dvc", "remote", "add", "-d", "there", "/nowhere")
    told = " ".join(quick.run("drp", "withdraw", name, "--reason", "x", "--dry-run").split())
    assert "not here 1 stage: `dvc pull` brings them; withdraw again then" in told


# -- the command, with models and a store ------------------------------------------------------------------------------------


def test_after_a_withdrawal_only_what_depends_on_it_runs_and_only_what_changed_is_asked(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = two_recipes(tmp_path_factory)
    name = next(key for key, row in data(made, "base/left").items() if row["question"] == question(10, 7)["question"])
    scores = data(made, "base/scores")
    held = next(key for key, row in data(made, "base/exam").items() if row["question"] == question(32, 8)["question"])
    told = json.loads(made.run("drp", "withdraw", f"{name}/000", held, "--reason", "asked by its author", "--json"))
    assert told["withdrawn"][0]["id"] == name, "a record made of it means its question"
    assert told["withdrawn"][1]["stages"] == ["base/right", "base/exam"], "else it would be held out no longer, and trained on"
    assert told["frozen"] == ["last/second"]
    assert set(told["edits"]) == {"recipes/base/recipe.yaml", "recipes/more/recipe.yaml"}
    paid = _payments(made)
    ran = {entry.replace(":", "/") for entry in anew(made)}
    assert ran == set(told["stages"]) - {"last/second"}, "what was said would be made anew"
    for path in made.root.glob("data/*/*.parquet"):
        if not path.stem.endswith((".dropped", ".trail")):
            assert not [row for row in read(path) if {name, held} & set(row["id"].split("/"))], path
    after = data(made, "base/scores")
    assert [after[key]["completion"] for key in after if "/base/" in key] == [
        scores[key]["completion"] for key in scores if "/base/" in key and key in after
    ]
    fresh = _payments(made)[len(paid) :]
    changed = {row["completion"] for key, row in after.items() if "/drp/" in key} - {row["completion"] for row in scores.values()}
    assert {key for key, _ in fresh} == changed, "nothing is asked but the new adapter"
    assert {stage for _, stage in fresh} <= {"scores"}
    first = made.run("drp", "used", name)
    assert "dropped by base/left" in first
    assert "withdrawn (asked by its author)" in first
    assert f"record {name}: dropped by more/extra: withdrawn" in made.run("drp", "why", name[:8]), "by its beginning too"
    late = json.loads(made.run("drp", "withdraw", name, "--reason", "asked", "--json"))
    assert (late["edits"], late["stages"], late["text_unknown"]) == ({}, [], [])
    assert late["mentions"][name]["mention"] == told["mentions"][name]["mention"] > 0, "its text is that of the commit before"
    assert f"drp cache forget --mentions {name} --yes" in late["commands"]
    assert question(10, 7)["question"] in made.run("drp", "cache", "forget", "--mentions", name, "--dry-run")
    shutil.rmtree(made.root / ".dvc/cache/files")
    gone = json.loads(made.run("drp", "withdraw", name, "--reason", "asked", "--json"))
    assert (gone["mentions"], gone["text_unknown"]) == ({}, [name])
    assert "--mentions 'TEXT'" in made.run("drp", "withdraw", name, "--reason", "asked")
    assert "nor in the data of an earlier commit" in made.run("drp", "cache", "forget", "--mentions", name, code=1)
    for key in told["completions"]:
        made.run("drp", "cache", "forget", "--yes", "--key", key)
    again = json.loads(made.run("drp", "withdraw", name, "--reason", "asked", "--json"))
    assert (again["edits"], again["completions"]) == ({}, {})


def test_the_commands_that_it_prints_run_what_it_said_and_leave_nobodys_reply_to_it_and_everybody_elses(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = two_recipes(tmp_path_factory)
    made.write("recipes/elsewhere/recipe.yaml", "stages:\n  dear: {op: load, source: left.jsonl, limit: 1}\n")
    made.run("drp", "cache", "export", "base")
    made.run("dvc", "add", "-q", "recipes/base/completions.parquet")
    text, other = (question(n, 7)["question"] for n in (10, 11))
    name = next(key for key, row in data(made, "base/left").items() if row["question"] == text)
    _, lone = _ask(made, text), _ask(made, other)  # of an earlier prompt: no last run used them
    told = json.loads(made.run("drp", "withdraw", name, "--reason", "asked", "--json"))
    people = made.run("drp", "withdraw", name, "--reason", "asked").splitlines()
    assert "17 stages to make anew; 4 checkpoints learned from it" in people[0]
    assert not [command for command in told["commands"] if "dvc repro" in command or "--unused" in command]
    assert all(f"run {command}" in "\n".join(people) for command in told["commands"])
    *forget, last = told["commands"]
    assert f"drp cache forget --mentions {name} --file recipes/base/completions.parquet --yes" in forget
    found = told["mentions"][name]
    assert found["mention"] == found["cited"] + 1 == len(told["completions"]) + 1
    for command in forget:
        made.run(*command.split())
    requests = _requests(made)
    assert not [request for request in requests.values() if text in request]
    assert lone in requests, "what others asked stays"
    assert not [row for row in read(made.root / "recipes/base/completions.parquet") if text in row["request"]]
    assert last == "drp run base more last"
    with ChatServer(think) as server:
        made.write("params.yaml", PARAMS.format(url=server.url))
        ran = {entry.replace(":", "/") for entry in made.ran(made.run(*last.split()))}
    assert {name for name in ran if not name.endswith("/counts")} == set(told["stages"])
    left = made.run("drp", "cache", "forget", "--mentions", name, "--dry-run")
    assert text in left, "it is known from the data of the commit before"
    assert "0 completions" in left


def test_only_the_stages_concerned_are_named_where_their_recipe_has_others_to_run(quick: Project_) -> None:
    recipe = (quick.root / "recipes/one/recipe.yaml").read_text()
    quick.write("recipes/one/recipe.yaml", recipe + "  costly: {op: load, source: q.jsonl, limit: 1}\n")
    told = json.loads(quick.run("drp", "withdraw", row_id(quick, 3), "--reason", "x", "--json"))
    assert told["commands"] == ["drp run one:m two"]


def test_a_question_that_others_have_in_them_is_looked_for_and_not_forgotten_blindly(tmp_path: Path) -> None:
    made = project(tmp_path / "p", "stages:\n  a: {op: load, source: q.jsonl}\n")
    texts = ["How many apples are there?", "How many apples are there? And pears?", "1 + 1?"]
    made.write("q.jsonl", "".join(json.dumps({"question": text, "answer": "2"}) + "\n" for text in texts))
    anew_of(made, "one/a")
    ids = {row["question"]: row["id"] for row in data(made, "one/a").values()}
    for text in texts:
        _ask(made, text)
    told = json.loads(made.run("drp", "withdraw", ids[texts[0]], "--reason", "x", "--json"))
    assert told["commands"][0] == f"drp cache forget --mentions {ids[texts[0]]}", "nothing is removed by it"
    assert told["mentions"][ids[texts[0]]]["others"] == [ids[texts[1]]]
    assert f"other questions have it in them too, and so their prompts: {ids[texts[1]]}" in made.run(*told["commands"][0].split())
    store = Store(made.root / ".dvc/cache/drp/completions.sqlite")
    store.used(Owner("theirs", "answers"), [_ask(made, texts[1])])
    store.close()
    told = json.loads(made.run("drp", "withdraw", ids[texts[1]], "--reason", "x", "--json"))
    assert told["commands"][0] == f"drp cache forget --mentions {ids[texts[1]]}"
    assert told["mentions"][ids[texts[1]]]["strangers"] == ["theirs/answers"], "of another project that shares the store"
    short = made.run("drp", "withdraw", ids[texts[2]], "--reason", "x")
    assert "'1 + 1?': is too short to be looked for" in " ".join(short.split())
    assert "--mentions" not in short


def _ask(made: Project_, text: str) -> str:
    """An answer in the store that no stage's last run used; its key."""
    request = ask(f"An earlier prompt. {text}")
    store = Store(made.root / ".dvc/cache/drp/completions.sqlite")
    store.keep([(request, Completion("yes", "stop", 1, 1, "fake"))])
    store.close()
    return request.key()


def _requests(made: Project_) -> dict[str, str]:
    store = Store(made.root / ".dvc/cache/drp/completions.sqlite")
    found = {key.hex(): request for key, request in store.rows("select key, request from completions")}
    store.close()
    return found


def _payments(made: Project_) -> list[tuple[str, str]]:
    """Key and stage of every answer that a backend ever gave."""
    import sqlite3

    with sqlite3.connect(made.root / ".dvc/cache/drp/completions.sqlite") as db:
        found = db.execute("select p.key, s.stage from payments p join stages s on s.id = p.stage order by p.id").fetchall()
    return [(key.hex(), stage) for key, stage in found]
