"""Forwards: what was made of a record, a completion, a prompt, a file, a stage or a model."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from drp.errors import DataError
from drp.lineage.branch import Branch, short
from drp.lineage.effects import Reruns, calls, counted, further, listed, metrics, plural, reruns
from drp.lineage.follow import Met, extends, follow, question, sources
from drp.lineage.graph import Node
from drp.lineage.onwards import onwards
from drp.lineage.past import past
from drp.lineage.replies import Reply
from drp.lineage.subject import Lineage, Subject
from drp.lineage.tables import Part, unglobbed
from drp.records import Record

STEPS = 8
"""Optimiser steps of a record that people see."""
ROWS = 6
"""Records, or answers, that people see of one stage without `--full`."""


def used(lineage: Lineage, subject: Subject, history: bool = False) -> Branch:
    """What was made of a subject, as a tree; with `history`, also which checkpoints of earlier states learned the record."""
    if subject.kind == "record":
        return of_record(lineage, subject, history)
    if subject.kind == "completion":
        return _of_completion(lineage, subject.name)
    if subject.kind == "text" and history:
        earlier = past(lineage, subject.name)
        return Branch("record", subject.name, "no record of that id is here now", dict(earlier.facts), (earlier,))
    if subject.kind == "text":
        raise _nothing(lineage, subject.name)
    return onwards(lineage, subject)


def _nothing(lineage: Lineage, name: str) -> DataError:
    return DataError(
        f"{short(name)!r} is no id, file, stage, model, recipe, metric or completion, and no model of params.yaml, in "
        f"{lineage.snapshot.name}{lineage.unseen}; `drp why` finds the record that a text stands in{lineage.meant(name)}"
    )


# -- records -----------------------------------------------------------------------------------------------------------------


def trace(lineage: Lineage, subject: Subject) -> dict[str, Met]:
    """What became of a record's question, by stage; of an answer, only what was made of that."""
    if subject.node.op == "evaluate":
        return follow(lineage, subject.name, subject.nodes)
    name, first = question(lineage, subject.name), sources(lineage.graph)
    there = [node for node in lineage.graph.nodes.values() if lineage.tables.present(node)]
    if not any(lineage.tables.row(node, name, "id") for node in first if node in there):  # of no source that is here
        first += [*subject.nodes, *(node for node in there if lineage.tables.row(node, name, "id"))]
    return follow(lineage, name, first)


def beginnings(lineage: Lineage, met: Mapping[str, Met]) -> list[str]:
    """The stages that a record came in by, as far as they are here."""
    has = {at for at, one in met.items() if one.kept or one.asked}
    return [at for at in met if at in has and not any(other.address in has for other in lineage.graph.inputs(met[at].node))]


def _rebuilt(facts: dict[str, Any], again: Reruns) -> list[Branch]:
    """What making all anew without it means, into the facts and as a branch."""
    told: dict[str, Any] = {
        "rebuild": [n.address for n in again.sure],
        "frozen": again.frozen,
        "perhaps": [n.address for n in again.perhaps],
    }
    facts |= told
    return [Branch("to rebuild without it", "", again.words(), dict(told))] if again.sure or again.perhaps else []


def of_record(lineage: Lineage, subject: Subject, history: bool = False) -> Branch:
    """The answer for a record, and for those made of it."""
    met = trace(lineage, subject)
    own = {at: only for at, one in met.items() if (only := one.only(subject.name))}
    root = question(lineage, subject.name)
    if any(not extends(row["id"], root) for one in met.values() for row in one.kept):
        # an op of the project's own joined it with others under another name
        first = [one.node for one in own.values() if not any(other.address in own for other in lineage.graph.inputs(one.node))]
        own = follow(lineage, subject.name, first)
    (chief, rest), facts, words = _told(lineage, own)
    branches = [*chief, *_rebuilt(facts, reruns(lineage, met, beginnings(lineage, met))), *rest]
    if history:
        earlier = past(lineage, subject.name)
        branches.append(earlier)
        facts["earlier"] = earlier.facts["checkpoints"]
    return Branch("record", subject.name, words, facts, tuple(branches))


def _of_completion(lineage: Lineage, key: str) -> Branch:
    reply = lineage.replies.find(key)
    key = reply.key if reply else key
    citing = {node.address: ids for node in _askers(lineage, reply) if (ids := sorted(set(_citing(lineage, node, key))))}
    own: dict[str, Met] = {}
    for address, ids in citing.items():
        for record in ids:
            for at, one in follow(lineage, record, [lineage.graph.nodes[address]]).items():
                own[at] = own[at].also(one) if at in own else one
    (chief, rest), facts, words = _told(lineage, own)
    cited = [Branch("record", name, f"cites it in {at}", {"stage": at}) for at, ids in citing.items() for name in ids]
    rebuild = _rebuilt(facts, reruns(lineage, own, list(citing)))
    facts["cited"] = citing
    facts["used_by"] = list(reply.used_by) if reply else []
    if not citing:
        asked = f"it answered {', '.join(reply.used_by)}, but" if reply and reply.used_by else "of those here,"
        words = f"{asked} no record cites it (a reply that was refused is not cited)"
    return Branch("completion", key[:16], words, {"key": key, **facts}, (*chief, *rebuild, *cited, *rest))


def _askers(lineage: Lineage, reply: Reply | None) -> list[Node]:
    """The stages that may cite a completion: those whose last run it answered, or else all that make records."""
    nodes = lineage.graph.nodes
    if reply and lineage.snapshot.commit is None and (known := [nodes[at] for at in reply.used_by if at in nodes]):
        return known
    return [node for node in nodes.values() if node.base and not node.model]


def _citing(lineage: Lineage, node: Node, key: str) -> Iterator[str]:
    """The records of a stage that cite a completion: in a column of its own (not one that its input has), or in its trail."""
    tables = lineage.tables
    places: tuple[tuple[Part, str], ...] = (("", "id"), (".trail", "record"))
    for part, column in places:
        if not tables.present(node, part) or "completion" not in tables.columns(node, part):
            continue
        before = [other for other in lineage.graph.inputs(node) if not part and tables.present(other)]
        if node.op != "evaluate" and any("completion" in tables.columns(other) for other in before):
            continue
        rows = tables.query(
            f"select distinct {column} as name from read_parquet(?) where completion = ?",
            [unglobbed(tables.file(node, part)), key],
        )
        yield from (row["name"] for row in rows)


# -- the parts of an answer --------------------------------------------------------------------------------------------------


def _told(lineage: Lineage, met: Mapping[str, Met]) -> tuple[tuple[list[Branch], list[Branch]], dict[str, Any], str]:
    """The branches of what was met (checkpoints with their metrics; the rest), with the facts and the words that answer: was any
    checkpoint trained on it?"""
    trained = {one.node.model: one for one in met.values() if one.learned and one.node.model}
    made = further(lineage, [one.node for one in trained.values()])
    unknown = [one.node.model for one in met.values() if one.absent and one.node.model]
    branches = [_checkpoint(one) for one in trained.values()]
    nodes = lineage.graph.nodes.values()
    branches += [_made(node, made[node.model]) for node in nodes if node.model in made]
    branches += _asked_of(lineage, {*trained, *made})
    rest = [branch for one in met.values() for branch in _stage(one)]
    rest += [branch for one in met.values() if one.asked for branch in _exam(lineage, one)]
    if absent := [one.node for one in met.values() if one.absent]:
        ledgers = f"with the ledger{'s' * (len(unknown) > 1)} of {listed(unknown)}; " if unknown else ""
        names, words = [node.address for node in absent], ledgers + lineage.tables.brings("them", absent)
        rest.append(Branch("not here", counted(absent), words, {"stages": names}))
    facts = {
        "trained_on_by": [_checkpoint(one).facts for one in trained.values()], "made_further": list(made), "unknown": unknown,
        "records": {at: [row["id"] for row in one.kept] for at, one in met.items() if one.kept},
        "dropped": {at: [dict(row) for row in one.dropped] for at, one in met.items() if one.dropped},
    }  # fmt: skip
    known = plural(len(trained), "checkpoint") if trained else "no checkpoint"
    words = f"{known} {'were' if len(trained) > 1 else 'was'} trained on it"
    words += f"; of {len(unknown)} more it is not known" if unknown else ""
    return (branches, rest), facts, words


def _checkpoint(met: Met) -> Branch:
    node, rows = met.node, met.learned
    md5 = node.outs[node.model].md5 if node.model else ""
    facts = {"path": node.model, "md5": md5, "stage": node.address, "frozen": node.frozen, "records": [dict(row) for row in rows]}
    below = tuple(Branch("record", row["id"], _seen([row]), dict(row), aside=len(rows) == 1 or n >= ROWS)
                  for n, row in enumerate(rows))  # fmt: skip
    return Branch("checkpoint", str(node.model), f"trained on {_names(rows)}: {_seen(rows)}", facts, below)


def _made(node: Node, bases: list[str]) -> Branch:
    md5 = node.outs[node.model].md5 if node.model else ""
    facts = {"path": node.model, "md5": md5, "stage": node.address, "made_from": bases, "frozen": node.frozen}
    return Branch("checkpoint", str(node.model), f"made further from {', '.join(bases)}", facts)


def _seen(rows: Iterable[Record]) -> str:
    """`optimiser steps 12, 88; 240 of 260 tokens reach the loss`."""
    own = list(rows)
    steps = sorted({step for row in own for step in row.get("steps_seen") or ()})
    words = [f"optimiser step{'s' * (len(steps) > 1)} {listed(map(str, steps), STEPS)}"] if steps else []
    if all("n_tokens" in row and "n_trained_tokens" in row for row in own):
        total, loss = (sum(row[key] for row in own) for key in ("n_tokens", "n_trained_tokens"))
        words.append(f"{loss:,} of {total:,} tokens reach the loss")
    return "; ".join(words) or plural(len(own), "record")


def _names(rows: Iterable[Record]) -> str:
    own = [row["id"] for row in rows]
    return own[0] if len(own) == 1 else f"{plural(len(own), 'record')} ({listed(own, ROWS)})"


def _stage(met: Met) -> Iterator[Branch]:
    """What a stage that makes records has of it, and what it dropped."""
    at = met.node.address
    if met.kept and not met.learned:
        kind = "ledger" if met.node.model else "data set"
        words = f"has {_names(met.kept)}" + (", but no optimiser step saw it" if met.node.model else "")
        yield Branch(kind, at, words, {"records": [row["id"] for row in met.kept], "op": met.node.op})
    for number, row in enumerate(met.dropped):
        detail = f" ({short(row['detail'], 60)})" if row["detail"] else ""
        yield Branch("dropped by", at, f"{row['id']}: {row['reason']}{detail}", {**row, "stage": at}, aside=number >= ROWS)


def _asked_of(lineage: Lineage, folders: set[str]) -> Iterator[Branch]:
    """The stages that asked these models: evaluations with their metrics, and data sets with what the models said."""
    for node in lineage.graph.nodes.values():
        asked = [path for path in node.deps if path in folders]
        if not asked or node.model or not node.base:
            continue
        path = f"{node.base}.manifest.json"
        if lineage.snapshot.find(path, node.outs[path]) is None:
            yield Branch("asked in", node.address, f"{', '.join(asked)}; its manifest is not here", {"models": asked})
            continue
        labels = calls(lineage, node, asked)
        named = f" as {', '.join(labels)}" if any(labels) else ""
        kind = "evaluation" if node.op == "evaluate" else "asked in"
        below = tuple(metrics(lineage, node, labels))
        facts = {"models": asked, "labels": labels, "stage": node.address, "counts": lineage.graph.manifest(node).get("counts")}
        yield Branch(kind, node.address, f"asks {', '.join(asked)}{named}", facts, below)


def _exam(lineage: Lineage, met: Met) -> Iterator[Branch]:
    """An evaluation that asked it: each answer, and the metrics that count it."""
    rows = met.asked
    right = sum(bool(row["correct"]) for row in rows)
    below = [
        Branch("answer", row["id"], f"{'right' if row['correct'] else 'wrong'} ({row['verdict']})"
               + ("" if row["counted"] else ", counts in no score"), dict(row), aside=number >= ROWS)
        for number, row in enumerate(rows)
    ]  # fmt: skip
    counted = [row for row in rows if row["counted"]]
    below += metrics(lineage, met.node, {row["model"] for row in counted}, {row["suite"] for row in counted})
    facts = {"rows": [row["id"] for row in rows], "right": right, "wrong": len(rows) - right}
    words = f"asked it {plural(len(rows), 'time')}: {right} right, {len(rows) - right} wrong"
    yield Branch("exam", met.node.address, words, facts, tuple(below))
