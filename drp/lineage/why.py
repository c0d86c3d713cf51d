"""Backwards: why a record, a sentence, a file, a model or a metric is what it is."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from drp.errors import DataError
from drp.lineage.backwards import Backwards, touched
from drp.lineage.branch import Branch
from drp.lineage.chain import SAMPLES
from drp.lineage.follow import follow
from drp.lineage.graph import Node
from drp.lineage.made import Making, listed, quoted
from drp.lineage.origin import named
from drp.lineage.subject import Lineage, Subject
from drp.lineage.tables import unglobbed

SOUGHT = ("pruned", "target_reply", "target", "thought", "reply", "response", "question", "solution")
"""The text columns in which a piece of text is looked for, in this order."""
WRONG = 5
"""Items that a metric lists of those that were answered wrong."""


def why(lineage: Lineage, subject: Subject, most: int = 3) -> Branch:
    """What a subject comes from, as a tree; `most` records are told of where a text stands in several."""
    ways: dict[str, Callable[[], Branch]] = {
        "record": lambda: _Why(lineage).record(subject), "text": lambda: _Why(lineage).text(subject, most),
        "file": lambda: _Why(lineage).file(subject), "model": lambda: _Why(lineage).stage(subject),
        "stage": lambda: _Why(lineage).stage(subject), "recipe": lambda: _Why(lineage).recipe(subject),
        "metric": lambda: _Why(lineage).metric(subject), "role": lambda: _Why(lineage).role(subject),
        "completion": lambda: _Why(lineage).completion(subject),
    }  # fmt: skip
    return ways[subject.kind]()


class _Why:
    """Answers from one lineage; a stage that was told of once is only named again."""

    def __init__(self, lineage: Lineage) -> None:
        self.lineage, self.graph, self.tables = lineage, lineage.graph, lineage.tables
        self.making = Making(lineage)
        self._told: set[str] = set()
        self._cured = False  # what brings data that are not here is said once

    # -- records and texts --------------------------------------------------------------------------------------------------

    def record(self, subject: Subject) -> Branch:
        """A record where it is last; one that was dropped begins with that."""
        node, name = subject.node, subject.name
        if node.op == "evaluate" and not subject.part:
            return self._answer(node, name)
        if subject.part == ".dropped":
            return self._dropped(node, name)
        if node.model:
            node = next((n for n in self.graph.inputs(node) if self.tables.row(n, name, "id")), node)
        found = Backwards(self.making, node, name)
        return found.record_branch(after=self._samples(found))

    def _samples(self, found: Backwards) -> Iterator[Branch]:
        """Of a question, its samples, and what became of each."""
        if any(link.node.op in SAMPLES for link in found.chain.links):
            return  # it is a sample
        if not any(node.op in SAMPLES for node in self.graph.below([found.node])):
            return
        fates: dict[str, dict[str, Any]] = {}
        for met in follow(self.lineage, found.record, [found.node]).values():
            for row in (*met.kept, *met.dropped):
                if row["id"] != found.record:
                    fate = fates.setdefault(row["id"], {"last": None, "trained_on_by": [], "dropped": None})
                    fate["last"] = fate["last"] if met.node.model else met.node.address
                    fate["trained_on_by"] += [met.node.model] if row in met.learned else []
            for row in met.dropped:
                if row["id"] in fates:
                    fates[row["id"]]["dropped"] = {"stage": met.node.address, **row}
        for name, fate in sorted(fates.items()):
            lost = fate["dropped"]
            words = f"dropped by {lost['stage']}: {lost['reason']}" if lost else f"in {fate['last']}"
            words += f"; trained on by {', '.join(fate['trained_on_by'])}" if fate["trained_on_by"] else ""
            yield Branch("sample", name, words, {"id": name, **fate})

    def _dropped(self, node: Node, name: str) -> Branch:
        row = self.tables.row(node, name, part=".dropped") or {}
        words = f"dropped by {node.address}: {row['reason']}" + (f" ({row['detail']})" if row["detail"] else "")
        facts = {"id": name, "stage": node.address, **{key: row[key] for key in ("reason", "detail")}, "dropped": True}
        texts = (("reply", row["reply"]),) if row["reply"] else ()
        found = self.tables.source(node, name)
        below = [Backwards(self.making, *found).record_branch()] if found else []
        if not found and (absent := self.tables.absent(self.graph.inputs(node))):
            names = ", ".join(other.address for other in absent)
            words += f"; what it was is not here: the records of {names} ({self.tables.brings('them', absent)})"
        return Branch("record", name, words, facts, (*below, self.making.made(node)), texts)

    def _answer(self, node: Node, name: str, deep: bool = True) -> Branch:
        """A row of an evaluation: the answer of a model to an item."""
        row = self.tables.row(node, name)
        if row is None:
            raise DataError(f"{node.address}: no row {name!r}")
        words = f"{row['verdict']}: {row['prediction']}, gold {row['answer']}; {row['tokens']} tokens, {row['finish']}"
        facts = {key: value for key, value in row.items() if key not in ("response", "reply")}
        below = list(self.making.completions(node, [row["completion"]]))
        if deep:
            below += [*self._asked_model(node, row["model"]), *self._item(node, row["suite"], row["item"])]
        texts = (("question", row["question"]), ("response", row["response"]))
        return Branch("answer", name, words, {**facts, "stage": node.address}, (*below, self.making.made(node)), texts)

    def _item(self, node: Node, suite: str, item: str) -> Iterator[Branch]:
        suites = [n for n in self.graph.inputs(node) if not n.model]
        if other := self.graph.labelled(node, suite, among=suites):
            yield Backwards(self.making, other, item).record_branch()

    def _asked_model(self, node: Node, label: str) -> Iterator[Branch]:
        """The model that a label of an evaluation means, and how it was made."""
        models = self.graph.manifest(node).get("models") or {}
        for key, identity in models.items():
            if key.rpartition(".")[2] != label:
                continue
            yield self.making.model(node, key, identity)
            folder = self.making.folder(node, identity) or identity["name"]
            if maker := self.graph.maker(folder):
                yield self._tree(maker)

    def text(self, subject: Subject, most: int) -> Branch:
        """Where a piece of text stands, and where that comes from."""
        for node in subject.nodes:
            for column in (name for name in SOUGHT if name in self.tables.columns(node)):
                names, count = self.tables.containing(node, column, subject.name, most)
                if count:
                    found = tuple(self._place(node, name, column, subject.name) for name in names)
                    more = f", in {count:,} records; `-n` shows more" if count > len(names) else ""
                    words = f"stands in column {column} of {node.address}{more}"
                    facts = {"text": subject.name, "column": column, "stage": node.address, "records": count,
                             "more": count > len(names)}  # fmt: skip
                    return Branch("text", quoted(subject.name), words, facts, found)
        looked = ", ".join(node.address for node in subject.nodes)
        raise DataError(f"{quoted(subject.name)}: no file, stage, record, metric or completion is called so, and no text of a "
                        f"record has it (looked in {looked}){self.lineage.unseen}{self.lineage.meant(subject.name)}")  # fmt: skip

    def _place(self, node: Node, record: str, column: str, text: str) -> Branch:
        if node.op == "evaluate":
            return self._answer(node, record)
        found = Backwards(self.making, node, record)
        whole = (self.tables.row(node, record, column) or {})[column]
        spans = [match.span() for match in re.finditer(re.escape(text), whole)]
        below: list[Branch] = []
        if column == "pruned":
            below += found.sentences(spans)
        elif column in ("target", "target_reply"):
            below += found.target(column, whole, spans)
        elif column == "thought" and found.row.get("steps"):
            below += [found.step(number) for number, step in enumerate(found.row["steps"]) if touched(step, spans)]
        return found.record_branch(below)

    # -- stages, files, models ------------------------------------------------------------------------------------------------

    def file(self, subject: Subject) -> Branch:
        """A file that a stage made; or one that none made: a prompt, a source."""
        if subject.nodes:
            return self._tree(subject.node)
        readers = self.graph.readers(subject.name)
        md5 = readers[0].deps[subject.name].md5
        commit = self.making.origins.last(subject.name, self.lineage.snapshot.commit)
        shallow = commit in self.making.origins.boundary
        told = named(commit, shallow) if commit else "not in git"
        if commit and not self.making.origins.has(subject.name, md5, commit):
            told = f"changed since commit {commit[:10]}"
        text = self.lineage.snapshot.text(subject.name) if subject.name.endswith((".j2", ".yaml")) else None
        words = f"no stage made it; {told}; read by {', '.join(node.address for node in readers)}"
        facts = {"md5": md5, "commit": commit, "shallow": shallow, "read_by": [node.address for node in readers]}
        return Branch("file", subject.name, words, facts, texts=(("text", text),) if text else ())

    def stage(self, subject: Subject) -> Branch:
        """A stage, or the model that it made."""
        return self._tree(subject.node)

    def recipe(self, subject: Subject) -> Branch:
        """What a recipe is for."""
        return Branch("recipe", subject.name, "", {}, tuple(self._tree(node) for node in subject.nodes))

    def _tree(self, node: Node) -> Branch:
        """A stage and all that it was made from."""
        if node.address in self._told:
            return Branch("stage", node.address, "told above", {"op": node.op, "above": True})
        self._told.add(node.address)
        words, facts = self._summary(node)
        models = [_set_aside(branch) for branch in self.making.models(node)]
        asked = f"by {', '.join(dict.fromkeys(branch.name for branch in models))}: " if models and not node.model else ""
        told = self._told.copy()
        made_from = [self._tree(other) for other in self.graph.sources(node)]
        if node.frozen:  # published: what it was made from lies, for most who ask, elsewhere
            self._told, made_from = told, [_set_aside(branch) for branch in made_from]
        leaves = [_set_aside(branch) for branch in self._leaves(node)]
        return self.making.stage(node, f"{asked}{words}", (*models, *made_from, *leaves), facts)

    def _leaves(self, node: Node) -> Iterator[Branch]:
        """The files that no stage made: prompts, sources."""
        for path in node.deps:
            if self.graph.maker(path) is None:
                yield self.making.prompt(node, path) if path.endswith(".j2") else Branch("file", path, node.deps[path].md5)

    def _summary(self, node: Node) -> tuple[str, dict[str, Any]]:
        if node.report:
            return node.report, {"report": node.report, "metrics": self.graph.metrics(node)}
        if not self.tables.present(node):
            cure = "" if self._cured else f": {self.tables.brings('them', [node])}"
            self._cured = True
            return f"its records are not here{cure}", {}
        counts = self.graph.manifest(node)["counts"]
        dropped = f", {sum(counts['dropped'].values())} dropped ({listed(counts['dropped'])})" if counts["dropped"] else ""
        words = f"{counts['kept']} records{dropped}" + (f"; {node.option('source')}" if node.op == "load" else "")
        if node.model:
            words = f"{node.model}: {self._trained(node)}" + ("; published, frozen" if node.frozen else "")
        return words, {"counts": counts, "model": node.model}

    def _trained(self, node: Node) -> str:
        columns = self.tables.columns(node)
        steps = "max(list_max(steps_seen))" if "steps_seen" in columns else "null"
        tokens = "sum(n_trained_tokens * len(steps_seen))" if "steps_seen" in columns else "sum(n_trained_tokens)"
        ((row),) = self.tables.query(
            f"select count(*) as n, {steps} as steps, {tokens} as tokens from read_parquet(?)",
            [unglobbed(self.tables.file(node))],
        )
        return (
            f"trained on {row['n']} records"
            + (f" in {row['steps']} optimiser steps" if row["steps"] else "")
            + f", {row['tokens']} tokens"
        )

    # -- metrics, roles, completions ---------------------------------------------------------------------------------------------

    def metric(self, subject: Subject) -> Branch:
        """A number of a report: the answers that it counts, and the models that gave them."""
        node, key = subject.node, subject.name
        value = self.graph.metrics(node)[key]
        suite, label, _ = (*key.split(".", 2), "", "")[:3]
        below = [branch for other in self.graph.inputs(node) for branch in self._counted(other, suite, label)]
        if not below:
            below = [self._tree(other) for other in self.graph.sources(node)]
        facts = {"value": value, "report": node.report, "stage": node.address}
        return Branch("metric", key, f"{value} in {node.report}", facts, (*below, self.making.made(node)))

    def _counted(self, node: Node, suite: str, label: str) -> Iterator[Branch]:
        """The answers of one model in one suite, if this evaluation has them."""
        stage, colon, name = label.rpartition(":")
        if node.op != "evaluate" or (colon and stage not in (node.name, node.slug, node.address)):
            return
        here = [unglobbed(self.tables.file(node)), suite, name]
        (found,) = self.tables.query(
            "select count(*) as answers, count(distinct item) as items, sum(correct::int) as correct, sum(truncated::int) as "
            "truncated, sum(tokens) as tokens from read_parquet(?) where suite = ? and model = ?", here,
        )  # fmt: skip
        if not found["answers"]:
            return
        wrong = self.tables.query(
            f"select id from read_parquet(?) where suite = ? and model = ? and not correct order by id limit {WRONG}", here
        )
        words = (f"suite {suite}, model {name}: {found['answers']} answers to {found['items']} items, {found['correct']} right, "
                 f"{found['truncated']} cut off, {found['tokens']} tokens")  # fmt: skip
        answers = [_set_aside(self._answer(node, row["id"], deep=False)) for row in wrong]
        suites = [n for n in self.graph.inputs(node) if not n.model]
        items = self.graph.labelled(node, suite, among=suites)
        below = (*answers, *self._asked_model(node, name), *([self._tree(items)] if items else []))
        yield self.making.stage(node, words, below, {key: int(value or 0) for key, value in found.items()})

    def role(self, subject: Subject) -> Branch:
        """A model of params.yaml."""
        identity = subject.node.params["params.yaml", f"models.{subject.name}"]
        words = f"{identity['name']}; asked by {', '.join(node.address for node in subject.nodes)}"
        maker = self.graph.maker(identity["name"])
        facts = {**identity, "users": [node.address for node in subject.nodes]}
        return Branch("model of params.yaml", subject.name, words, facts, (self._tree(maker),) if maker else ())

    def completion(self, subject: Subject) -> Branch:
        """A completion: its prompt and reply, and the stages whose last run it answered."""
        found = self.lineage.replies.find(subject.name)
        users = [self.graph.nodes[name] for name in (found.used_by if found else ()) if name in self.graph.nodes]
        branch = self.making.completion(subject.name, users[0] if users else None)
        below = [self.making.stage(node, "was answered by it", self.making.models(node)) for node in users]
        return Branch(branch.kind, branch.name, branch.words, branch.facts, tuple(below), branch.texts)


def _set_aside(branch: Branch) -> Branch:
    return Branch(branch.kind, branch.name, branch.words, branch.facts, branch.below, branch.texts, aside=True)
