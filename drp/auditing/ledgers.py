"""Whether ledgers can be what training left: their tokens, the steps that saw each record, and what their manifests say."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from drp.auditing.current import OPS, differ, remakeable, short, value_at
from drp.auditing.finding import MANY, Check, Why
from drp.auditing.sums import Entry, Sums
from drp.auditing.tokens import recounted, tokenizer
from drp.errors import DataError, DrpError
from drp.lineage.graph import MANIFEST, Node
from drp.lineage.tables import Tables, unglobbed
from drp.ops import get
from drp.pipeline.calling import build_model
from drp.pipeline.stage import Run
from drp.pipeline.work import model_identity, usage_of
from drp.pipeline.yamlfile import mapping
from drp.recipe.stages import Stage
from drp.records import read
from drp.training import Trained, plan

SFT = "sft"
"""The op whose ledger is known step by step: the order of training follows from the count, the options and the seed."""
SILENT = (SFT, "pretrain")
"""Ops that train and ask nobody."""


def ledgers(sums: Sums, tables: Tables, scope: Sequence[Entry], recount: bool) -> Check:
    """The ledger of each stage that trains, and its manifest, as far as can be told without training; `recount`: tokens too."""
    check = Check("ledgers", "ledgers that training can have left")
    for entry in scope:
        node = entry.node
        if node is None or node.model is None:
            continue
        if not sums.sound(node) or not tables.present(node):
            if node.address not in sums.away:
                check.skip(node.address, "its ledger was not looked at: it is not here as its lock names it")
            continue
        check.looked += 1
        place, cure = f"{node.base}.parquet", f"; `git checkout {entry.file}` and `{_back(node)}` bring back what was made"
        try:
            check.faults(place, _tokens(sums, tables, node), cure)
            if node.op == SFT and (reason := _moved_on(sums, node)):
                check.skip(node.address, f"its steps were not recomputed: {reason.words}", reason.cause)
            elif node.op == SFT:
                check.faults(place, _steps(sums, tables, node), cure)
            elif "steps_seen" in tables.columns(node):
                check.note(place, f"its steps_seen are as {node.op} says: the order of training is known of {SFT} alone")
            stage = sums.stages.get(entry.address)
            if stage is not None and not node.frozen and remakeable(sums, entry) is None:
                check.faults(f"{node.base}{MANIFEST}", _said(sums, node, stage), cure)
                if node.op == SFT and recount:
                    _recount(check, sums, tables, node, stage, cure)
        except DataError as error:
            check.fault(place, f"{error}{cure}")
        except DrpError as error:
            check.skip(f"{node.base}{MANIFEST}", f"not compared with its recipe: {error}")
    return check


def _recount(check: Check, sums: Sums, tables: Tables, node: Node, stage: Stage, cure: str) -> None:
    place = f"{node.base}.parquet"
    try:
        known = tokenizer(sums.project, stage)
    except DrpError as error:
        check.skip(place, f"its tokens were not counted again: {error}")
        return
    check.faults(place, recounted(sums.project, tables, node, stage, known), cure)


def _back(node: Node) -> str:
    return f"{'git' if node.frozen else 'dvc'} checkout {node.base}.parquet {node.base}{MANIFEST}"


def _moved_on(sums: Sums, node: Node) -> Why | None:
    """Why the order of training cannot be told: it was another drp's."""
    locked = node.params.get((OPS, f"{SFT}.fingerprint"))
    now = value_at(sums.values(OPS), f"{SFT}.fingerprint")
    return sums.code(SFT) or (Why(f"its op was {locked} then, and is {now} now") if locked != now else None)


def _option(sums: Sums, node: Node, key: str) -> Any:
    """An option as the stage had it, also one that its recipe leaves to the op."""
    said = sums.graph.option(node, key)
    return get(SFT).options[key].default if said is None else said


def _tokens(sums: Sums, tables: Tables, node: Node) -> Iterator[str]:
    if not {"n_tokens", "n_trained_tokens"} <= {*tables.columns(node)}:
        return  # an op of the project's own, which keeps another ledger
    ranges = "n_trained_tokens > 0 and n_trained_tokens <= n_tokens"
    if node.op == SFT:
        ranges += f" and n_tokens <= {int(_option(sums, node, 'max_length'))}"
    sql = f"select id, n_tokens, n_trained_tokens from read_parquet(?) where not coalesce({ranges}, false) order by id"
    for row in tables.query(f"{sql} limit {MANY + 1}", [unglobbed(tables.file(node))]):
        told = f"{row['n_trained_tokens']} of its {row['n_tokens']} tokens"
        yield f"the record {row['id']} cannot have been trained on {told}"


def _steps(sums: Sums, tables: Tables, node: Node) -> Iterator[str]:
    """The steps that saw each record, beside those that follow from count, options and seed."""
    count = tables.count(node)
    given = {key: _option(sums, node, key) for key in ("epochs", "batch_size", "seed")}
    seen = Trained(plan(count, **given)).seen(count) if count else []
    for row, steps in zip_longest(read(tables.file(node)), seen):
        if row is None or row["steps_seen"] != steps:
            told = "no row" if row is None else f"the record {row['id']} was seen in the steps {short(row['steps_seen'])}"
            yield f"{told}, but {count} records, {', '.join(f'{k} {v}' for k, v in given.items())} give {short(steps)}"


def _said(sums: Sums, node: Node, stage: Stage) -> Iterator[str]:
    """What a manifest says a model was made from, beside what the recipe and the files give."""
    manifest = sums.manifest(node)
    params = mapping(sums.project.params)
    models = {
        f"{key}.{label}".rstrip("."): model_identity(build_model(sums.project, params, use))
        for key, uses in stage.models.items() for label, use in uses.items()
    }  # fmt: skip
    expected: dict[str, Any] = {
        "options": stage.options(),
        "models": models,
        "prompts": {name: sums.project.prompt(name).fingerprint() for name in stage.prompts.values()},
        "inputs": Run(sums.project, stage, Path()).inputs.hashes,
    }
    if node.op in SILENT:
        expected["usage"] = usage_of({}, ())
    for key, value in expected.items():
        if differ(value, manifest.get(key)):
            yield f"its {key} are {short(manifest.get(key))}, but the recipe and the files here give {short(value)}"
