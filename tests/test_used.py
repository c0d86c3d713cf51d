"""drp used: what was made of a record, a completion, a prompt, a file; against a recount of every file in plain Python."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drp.errors import DataError
from drp.lineage.past import past
from drp.lineage.subject import Lineage
from drp.lineage.used import used
from drp.project import Project
from drp.records import read
from tests.own_ops import LEARN
from tests.projects import Project_, project
from tests.two_recipes import question, two_recipes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    return two_recipes(tmp_path_factory)


@pytest.fixture(scope="module")
def lineage(made: Project_) -> Iterator[Lineage]:
    found = Lineage(Project(made.root))
    yield found
    found.close()


@pytest.fixture(autouse=True)
def _there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "made" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("made").root)


def facts(lineage: Lineage, target: str, kind: str | None = None, history: bool = False) -> dict[str, Any]:
    return used(lineage, lineage.subject(target, kind), history).plain()


def rows(made: Project_, part: str = "") -> dict[str, list[dict[str, Any]]]:
    """The rows of every stage, by its address."""
    paths = [*made.root.glob("data/*/*.parquet"), *made.root.glob("recipes/last/published/*.parquet")]
    ends = {path: path.name.removesuffix(".parquet").partition(".") for path in paths}
    recipe = lambda path: "last" if "published" in path.parts else path.parent.name
    return {f"{recipe(path)}/{name}": list(read(path)) for path, (name, dot, end) in ends.items() if dot + end == part}


def of(row: dict[str, Any], name: str, column: str = "id") -> bool:
    return row[column] == name or row[column].startswith(f"{name}/")


def id_of(made: Project_, text: str) -> str:
    loaded = [row for at in ("base/left", "base/right", "base/exam", "more/extra") for row in rows(made)[at]]
    return next(row["id"] for row in loaded if row["question"] == text)


def test_for_every_record_the_answer_is_the_recount_of_all_files(made: Project_, lineage: Lineage) -> None:
    kept, dropped = rows(made), rows(made, ".dropped")
    models = {"base/adapter": "models/base/adapter", "more/first": "models/more/first", "last/second": "models/last"}
    names = {row["id"] for at, found in (*kept.items(), *dropped.items()) for row in found if at != "base/scores"}
    assert len(names) > 25
    for name in sorted(names):
        told = facts(lineage, name, "record")
        holding = {at: ids for at, found in kept.items() if (ids := [r["id"] for r in found if of(r, name)])}
        lost = {at: sorted((r["id"], r["reason"]) for r in found if of(r, name)) for at, found in dropped.items()}
        trained = {models[at]: [r for r in kept[at] if of(r, name)] for at in models if at in holding}
        asked = [r["id"] for r in kept["base/scores"] if of(r, name, "item")]
        assert told["records"] == holding, name
        assert {at: sorted((r["id"], r["reason"]) for r in found) for at, found in told["dropped"].items()} == {
            at: found for at, found in lost.items() if found
        }
        assert {one["path"]: one["records"] for one in told["trained_on_by"]} == trained
        exams = [branch for branch in told.get("below", []) if branch["kind"] == "exam"]
        assert sorted(row for exam in exams for row in exam["rows"]) == sorted(asked)
        assert told["unknown"] == []


def test_the_first_line_says_which_checkpoints_were_trained_on_it_and_what_is_to_rebuild(made: Project_) -> None:
    name = id_of(made, question(10, 7)["question"])
    first, *then = made.run("drp", "used", name).splitlines()
    assert first == f"record {name}: 3 checkpoints were trained on it"
    told = [line for line in then if line.startswith(("├─", "└─"))]
    kinds = [line.split()[1] for line in told]
    assert kinds[:3] == ["checkpoint"] * 3
    assert kinds.index("evaluation") < kinds.index("to") < kinds.index("data"), "checkpoints, metrics, what to rebuild, the rest"
    assert "optimiser step" in told[0]
    assert "frozen: last/second" in " ".join(" ".join(then).split())
    exam = made.run("drp", "used", id_of(made, question(32, 8)["question"])).splitlines()[0]
    assert "no checkpoint was trained on it" in exam


def test_a_model_that_was_started_from_one_that_learned_it_is_named_and_so_are_the_scores(
    made: Project_, lineage: Lineage
) -> None:
    told = facts(lineage, id_of(made, question(14, 7)["question"]))
    assert {one["path"] for one in told["trained_on_by"]} == {"models/base/adapter", "models/more/first"}
    assert told["made_further"] == ["models/last"], "by way of its start"
    (scores,) = [branch for branch in told["below"] if branch["kind"] == "evaluation"]
    table = json.loads((made.root / "recipes/base/reports/table.json").read_text())
    assert scores["labels"] == ["drp"]
    (found,) = scores["below"]
    assert found["metrics"]["exam.drp.accuracy"] == table["exam"]["drp"]["accuracy"]
    assert not any(key.startswith("exam.base") for key in found["metrics"])


def test_a_variant_is_told_apart_from_its_question_and_a_dropped_one_has_its_reason(made: Project_, lineage: Lineage) -> None:
    wrong = id_of(made, question(20, 7)["question"])
    told = facts(lineage, wrong)
    assert {row["reason"] for row in told["dropped"]["base/correct"]} <= {"wrong-answer", "truncated"}
    assert [one["path"] for one in told["trained_on_by"]] == ["models/more/first"], "talks were made of the question all the same"
    held = facts(lineage, id_of(made, question(32, 8)["question"]))
    assert [row["reason"] for row in held["dropped"]["base/questions"]] == ["held-out"]
    variant = facts(lineage, f"{id_of(made, question(10, 7)['question'])}/001")
    assert all(name.endswith("/001") for found in variant["records"].values() for name in found)
    assert "base/left" not in variant["records"]


def test_an_exam_item_has_every_answer_right_or_wrong_and_the_metrics_that_count_it(made: Project_, lineage: Lineage) -> None:
    name = id_of(made, question(30, 8)["question"])
    told = facts(lineage, name)
    (exam,) = [branch for branch in told["below"] if branch["kind"] == "exam"]
    truth = {row["id"]: row["correct"] for row in rows(made)["base/scores"] if row["item"] == name}
    assert {branch["id"]: branch["correct"] for branch in exam["below"] if branch["kind"] == "answer"} == truth
    assert exam["right"] == sum(truth.values())
    counted = [branch["name"] for branch in exam["below"] if branch["kind"] == "metrics"]
    assert counted == ["recipes/base/reports/table.json:exam.base", "recipes/base/reports/table.json:exam.drp"]
    answer = facts(lineage, next(iter(truth)))
    assert next(branch for branch in answer["below"] if branch["kind"] == "exam")["rows"] == [next(iter(truth))]


def test_for_every_completion_the_records_that_cite_it_are_found_by_store_and_by_columns(
    made: Project_, lineage: Lineage
) -> None:
    citing: dict[str, dict[str, set[str]]] = {}
    for at in ("base/traces", "base/scores"):
        for row in rows(made)[at]:
            citing.setdefault(row["completion"], {}).setdefault(at, set()).add(row["id"])
    for at, trail in rows(made, ".trail").items():
        for row in trail:
            if row["completion"]:
                citing.setdefault(row["completion"], {}).setdefault(at, set()).add(row["record"])
    assert len(citing) > 40
    for key, places in citing.items():
        told = facts(lineage, key)
        assert {at: set(ids) for at, ids in told["cited"].items()} == places, key
    alone = Lineage(Project(made.root))
    alone.replies.__dict__["store"] = None  # a clone without it
    key, places = next(iter(citing.items()))
    assert {at: set(ids) for at, ids in facts(alone, key)["cited"].items()} == places
    alone.close()


def test_an_included_prompt_a_source_a_role_and_a_stage_go_forward_by_the_graph(made: Project_, lineage: Lineage) -> None:
    included = facts(lineage, "prompts/_json.j2")
    assert included["readers"] == ["base/steps", "base/edits", "base/pruned"]
    assert included["checkpoints"] == ["models/base/adapter"]
    assert included["reports"] == ["recipes/base/reports/table.json"]
    source = facts(lineage, "extra.jsonl")
    assert source["readers"] == ["more/extra"]
    own = {row["id"] for row in rows(made)["more/extra"]}
    pooled = {branch["stage"]: branch["kept_of_it"] for branch in source["below"]}
    assert pooled["more/pool"] == sum(row["id"] in own for row in rows(made)["more/pool"])
    assert pooled["more/talks"] == sum(row["id"].split("/")[0] in own for row in rows(made)["more/talks"])
    assert facts(lineage, "rules")["readers"] == facts(lineage, "teacher")["readers"] == included["readers"]
    for target, groups in (("prompts/_json.j2", {"drp"}), ("models/base/adapter", {"drp"}), ("base/exam", {"base", "drp"})):
        (report,) = [branch for branch in facts(lineage, target)["below"] if branch["kind"] == "report"]
        told = {key.split(".")[1] for key in report["metrics"]}
        assert told == groups, f"{target}: metrics of models that do not depend on it are not its own"
    stage = facts(lineage, "base/traces", "stage")
    assert stage["readers"] == ["base/correct"]
    assert facts(lineage, "models/more/first")["checkpoints"] == ["models/last"]
    assert {"more/pool", "more/extra"} <= set(facts(lineage, "more", "recipe")["stages"])


def test_what_is_nothing_is_refused_with_what_was_looked_for(lineage: Lineage) -> None:
    with pytest.raises(DataError, match="no record with the id 'nosuchid'"):
        facts(lineage, "nosuchid", "record")
    with pytest.raises(DataError, match="'no such thing' is no id, file"):
        facts(lineage, "no such thing")
    for typo, meant in (("prompts/edti.j2", "prompts/edit.j2"), ("base/adaptor", "base/adapter"), ("techer", "teacher")):
        with pytest.raises(DataError, match=f"did you mean '{meant}'"):
            facts(lineage, typo)


def test_where_the_records_are_not_here_the_answer_says_what_is_not_known(made: Project_, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(made.root, tmp_path / "clone", symlinks=True)
    name = id_of(made, question(14, 7)["question"])
    for path in ("data/more", ".dvc/cache/files"):
        shutil.rmtree(tmp_path / "clone" / path)
    told = facts(Lineage(Project(tmp_path / "clone")), name)
    assert told["unknown"] == ["models/more/first"]
    assert [one["path"] for one in told["trained_on_by"]] == ["models/base/adapter"]
    assert "more/first" in told["perhaps"]
    (away,) = [branch for branch in told["below"] if branch["kind"] == "not here"]
    assert away["name"] == f"{len(away['stages'])} stages of more"


def test_history_finds_the_checkpoints_of_earlier_commits_and_experiments_and_says_which_ledgers_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = "stages:\n  q: {op: load, source: q.jsonl}\n  m: {op: learn, from: q, rate: 1, seen: 3}\n"
    only = "recipes/one/dvc.yaml:m"
    made = project(tmp_path / "p", recipe)
    made.write("ops/learn.py", LEARN)
    lines = [json.dumps({"question": f"{n} + 1?", "answer": str(n + 1)}) + "\n" for n in range(6)]
    made.write("q.jsonl", "".join(lines))
    made.run("drp", "compile")
    made.run("dvc", "repro", only)
    made.commit("all of them")
    ledger = list(read(made.root / "data/one/m.parquet"))
    name, unseen = ledger[0]["id"], ledger[-1]["id"]
    row = next(int(row["row"]) for row in read(made.root / "data/one/q.parquet") if row["id"] == name)
    made.run("dvc", "exp", "run", "-n", "faster", "-S", "recipes/one/recipe.yaml:stages.m.rate=5", only)
    made.run("git", "checkout", "-q", "--", ".")
    made.run("dvc", "checkout", "-q")
    made.write("q.jsonl", "".join(line for number, line in enumerate(lines) if number != row))
    made.run("dvc", "repro", only)
    made.commit("without it")
    before = made.run("git", "log", "--format=%H").split()[1]

    told = json.loads(made.run("drp", "used", name, "--at", "HEAD~1", "--json"))
    assert [one["records"] for one in told["trained_on_by"]] == [[ledger[0]]]
    assert json.loads(made.run("drp", "used", unseen, "--at", "HEAD~1", "--json"))["trained_on_by"] == [], "no step saw it"
    monkeypatch.chdir(made.root)
    lineage = Lineage(Project(made.root))
    later = facts(lineage, name, history=True)
    assert later["kind"] == "record", "also of a record that is nowhere now"
    assert {one["path"] for one in later["checkpoints"]} == {"models/one/m"}
    assert len({one["md5"] for one in later["checkpoints"]}) == 2, "the commit's and the experiment's"
    assert before in {one["commit"] for one in later["checkpoints"]}
    assert later["unknown"] == []
    assert past(lineage, unseen).facts["checkpoints"] == []
    lock = (made.root / "recipes/one/dvc.lock").read_text()
    for file in (made.root / ".dvc/cache/files/md5").rglob("*"):
        if file.is_file() and "".join(file.parts[-2:]) not in lock:
            file.unlink()
    gone = past(lineage, name).facts
    assert len(gone["unknown"]) == 2
    assert gone["checkpoints"] == []
    lineage.close()


def test_history_tells_checkpoints_of_equal_weights_apart_by_their_ledgers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = "recipes/one/dvc.yaml:m"
    made = project(tmp_path / "p", "stages:\n  q: {op: load, source: q.jsonl}\n  m: {op: learn, from: q, blind: true}\n")
    made.write("ops/learn.py", LEARN)
    lines = [json.dumps({"question": f"{n} + 1?", "answer": str(n + 1)}) + "\n" for n in range(3)]
    made.write("q.jsonl", "".join(lines))
    made.run("drp", "compile")
    made.run("dvc", "repro", only)
    made.commit("all of them")
    ids = {int(row["row"]): row["id"] for row in read(made.root / "data/one/q.parquet")}
    made.write("q.jsonl", "".join(lines[1:]))
    made.run("dvc", "repro", only)
    made.commit("without it")
    lineage = Lineage(Project(made.root))
    monkeypatch.chdir(made.root)
    [earlier] = past(lineage, ids[0]).facts["checkpoints"]
    [now] = [node for node in lineage.graph.nodes.values() if node.model]
    assert earlier["md5"] == now.outs["models/one/m"].md5
    assert earlier["ledger"] != now.outs["data/one/m.parquet"].md5
    made.run("dvc", "gc", "-w", "-f", "-q")
    gone = past(lineage, ids[0]).facts
    assert gone["checkpoints"] == []
    assert [one["path"] for one in gone["unknown"]] == ["models/one/m"]
    lineage.close()


def test_the_beginning_of_several_ids_is_refused_by_every_command_that_takes_an_id(made: Project_, lineage: Lineage) -> None:
    answers = sorted(row["id"] for row in rows(made)["base/scores"])
    begun = [name for name in answers if name.startswith("exam/b")]
    assert len(begun) > 5
    words = f"'exam/b' is the beginning of several ids ({len(begun)} ids): say which: {', '.join(begun[:5])} …"
    for command in (["why"], ["used"], ["deleted"], ["withdraw", "--reason", "x", "--dry-run"]):
        assert words in made.run("drp", *command, "exam/b", code=1)
    item = begun[0].rpartition("/")[0]
    for start in (item, item[:-4]):
        with pytest.raises(DataError, match=rf"\(2 ids\): say which: {item}/000, {item}/001$"):
            facts(lineage, start, "record")
    assert facts(lineage, begun[0])["name"] == begun[0]
    asked = begun[0].split("/")[2]
    assert facts(lineage, asked[:8])["name"] == asked, "the beginning of a question's id means the question"
