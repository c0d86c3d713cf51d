"""What a TARGET on the command line means: a file, a stage, a model, a metric, a record, a completion, or a piece of text."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from drp.errors import DataError, choices
from drp.lineage.graph import Graph, Node
from drp.lineage.origin import Origins
from drp.lineage.replies import LEAST, Replies
from drp.lineage.snapshot import Snapshot
from drp.lineage.tables import PARTS, Part, Tables
from drp.project import Project

Kind = Literal["file", "model", "stage", "recipe", "metric", "role", "record", "completion", "text"]
KINDS: tuple[Kind, ...] = get_args(Kind)
HEX = frozenset("0123456789abcdef")
ENOUGH = 4
"""Characters at the beginning of an id that are enough to ask for it."""
BEGUN = 10_000
"""Ids that begin with a TARGET, of one file, that are weighed against each other."""
FEW = 5
"""Of several ids that a TARGET may mean, those that are listed."""


@dataclass(frozen=True)
class Subject:
    """`name` is the path, address, metric's key, name in params.yaml (`role`), id, key or text. `nodes`: who made the file or
    model, the stage itself, who reports the metric, what the recipe is for, who asks the model of params.yaml, who holds the
    record (the last one first); `part` says whether that one kept or dropped it."""

    kind: Kind
    name: str
    nodes: tuple[Node, ...] = ()
    part: Part = ""

    @property
    def node(self) -> Node:
        """The stage that the answer begins with."""
        return self.nodes[0]


class Lineage:
    """All that answers need, of one state of a project."""

    def __init__(self, project: Project, at: str | None = None) -> None:
        self.project = project
        self.snapshot = Snapshot(project, at)
        self.graph = Graph(self.snapshot)
        self.tables = Tables(self.graph)
        self.replies = Replies(self.tables)
        self.origins = Origins(self.graph)
        if not self.graph.nodes:
            raise DataError(f"no stage has run in {self.snapshot.name}: `drp run NAME` (or `dvc repro`) runs a recipe's")

    def subject(self, target: str, kind: str | None = None, within: str | None = None) -> Subject:
        """What `target` means, taken for a `kind` if one is given, looked for in the stage `within` if one is given; DataError
        that says what was looked for where it is nothing."""
        if kind is not None and kind not in KINDS:
            raise DataError(f"{kind!r} is not a kind of target{choices(kind, KINDS)}")
        ways: dict[str, Callable[[str], Subject | None]] = {
            "file": self._file, "model": self._model, "stage": self._stage, "recipe": self._recipe, "metric": self._metric,
            "role": self._role, "record": lambda name: self._record(name, within, kind == "record"),
            "completion": self._completion, "text": lambda text: self._text(text, within),
        }  # fmt: skip
        for name, way in ways.items():
            if kind in (None, name) and (found := way(target)):
                self._note(found)
                return found
        raise DataError(self._nothing(target, kind))

    def _note(self, subject: Subject) -> None:
        """Of a file or stage, what it made counts as read: an answer about a file that was altered is to say so."""
        for node in subject.nodes if subject.kind in ("file", "stage", "model", "recipe") else ():
            own = subject.name if subject.kind == "file" else f"{node.base}.parquet"
            if own in node.outs and self.snapshot.find(own, node.outs[own]):
                self.snapshot.data(own, node.outs[own])

    def within(self, name: str | None) -> list[Node]:
        """The stages to look in for a record: that one; or all that make records, the last ones first."""
        if name is not None:
            return [self.graph.stage(name)]
        last = [node for recipe in self.graph.recipes for node in self.graph.datasets(recipe)]
        rest = [node for node in reversed(self.graph.nodes.values()) if node.base and node not in last]
        return [*last, *rest]

    # -- the ways ----------------------------------------------------------------------------------------------------------

    def _file(self, target: str) -> Subject | None:
        path = self._path(target)
        if path is None:
            return None
        maker = self.graph.maker(path)
        if maker:
            return Subject("model" if path == maker.model else "file", path, (maker,))
        return Subject("file", path) if self.graph.readers(path) else None

    def _path(self, target: str) -> str | None:
        """A path of the project, as locks name it: of a file in a folder that is an out or a dep, the folder's."""
        if "\n" in target or not target:
            return None
        given = Path(target)
        if not given.is_absolute() and (Path.cwd() / given).exists():
            given = Path.cwd() / given
        if given.is_absolute():  # by its name: DVC may have made a link of it
            named = Path(os.path.abspath(given))
            ways = [(way, root) for way in (named, named.parent.resolve() / named.name)
                    for root in (self.project.root, self.project.root.resolve()) if way.is_relative_to(root)]  # fmt: skip
            if not ways:
                return None
            given = ways[0][0].relative_to(ways[0][1])
        known = {path for node in self.graph.nodes.values() for path in (*node.outs, *node.deps)}
        return next((path.as_posix() for path in (given, *given.parents) if path.as_posix() in known), None)

    def _stage(self, target: str) -> Subject | None:
        found = self.graph.nodes.get(target)
        named = [found] if found else [node for node in self.graph.nodes.values() if node.slug == target]
        if len(named) > 1:
            raise DataError(f"{target!r} is a stage of several recipes: say which: {', '.join(n.address for n in named)}")
        if not named:
            return None
        node = named[0]
        return Subject("model", node.model, (node,)) if node.model else Subject("stage", node.address, (node,))

    def _model(self, target: str) -> Subject | None:
        found = self._stage(target) or self._file(target)
        return found if found and found.kind == "model" else None

    def _recipe(self, target: str) -> Subject | None:
        return Subject("recipe", target, tuple(self.graph.datasets(target))) if target in self.graph.recipes else None

    def _metric(self, target: str) -> Subject | None:
        where, colon, key = target.partition(":")
        reporting = [node for node in self.graph.nodes.values() if node.report]
        named = [n for n in reporting if colon and where in (n.address, n.slug, n.report)]
        reporting = [n for n in reporting if n.report and self.snapshot.find(n.report, n.outs[n.report])]
        key = key if named else target
        if any(c.isspace() for c in key) or "." not in key:
            return None
        found = [(node, name) for node in named or reporting for name in self.graph.metrics(node) if name == key]
        if len(found) > 1:
            which = ", ".join(f"{node.address}:{name}" for node, name in found)
            raise DataError(f"{target!r} is a metric of several reports: say which: {which}")
        if named and not found:
            keys = [name for node in named for name in self.graph.metrics(node)]
            raise DataError(f"{where} reports no metric {key!r}{choices(key, keys)}")
        return Subject("metric", key, (found[0][0],)) if found else None

    def _role(self, target: str) -> Subject | None:
        """A model of params.yaml by its name there, or by the role that recipes bind it to."""
        names = [target] if self._users(target) else sorted(self.roles.get(target, ()))
        if len(names) > 1:
            raise DataError(
                f"{target!r} is a role that recipes bind to several models of params.yaml: say which: {', '.join(names)}"
            )
        users = self._users(names[0]) if names else ()
        return Subject("role", names[0], users) if users else None

    def _users(self, model: str) -> tuple[Node, ...]:
        return tuple(node for node in self.graph.nodes.values() if ("params.yaml", f"models.{model}") in node.params)

    @cached_property
    def roles(self) -> dict[str, set[str]]:
        """The models of params.yaml that recipes bind each of their roles to, as far as a stage that has run asks them."""
        found: dict[str, set[str]] = {}
        for recipe in self.graph.recipes:
            bound = self.snapshot.mapping(f"recipes/{recipe}/recipe.yaml").get("models")
            for role, model in bound.items() if isinstance(bound, dict) else ():
                if isinstance(model, str) and self._users(model):
                    found.setdefault(str(role), set()).add(model)
        return found

    def _record(self, target: str, within: str | None, certain: bool) -> Subject | None:
        if not target or (not certain and any(c.isspace() for c in target)):
            return None  # a text, most likely: an id with blanks in it is asked for by `--as record`
        if known := self._exact(target, within):
            return known
        if len(target) < ENOUGH:
            return None
        found: dict[str, tuple[Node, Part]] = {}
        for node, part in self._files(within):
            for name in self.tables.beginning(node, target, BEGUN, part):
                found.setdefault(name, (node, part))
        if not found:
            return None
        parts = target.count("/") + 1  # as much of an id as was begun: of a question's samples, the question
        names = sorted({"/".join(name.split("/")[:parts]) for name in found})
        if len(names) == 1 and (whole := self._exact(names[0], within)):
            return whole
        if len(names) == 1:  # no record is called so: what begins with it is meant
            names = sorted(found)
        if len(names) > 1:
            count = f"{len(names):,} ids" if len(found) < BEGUN else f"{len(names):,} ids or more"
            more = " …" if len(names) > FEW else ""
            raise DataError(f"{target!r} is the beginning of several ids ({count}): say which: {', '.join(names[:FEW])}{more}")
        node, part = found[names[0]]
        return Subject("record", names[0], (node,), part)

    def _exact(self, target: str, within: str | None) -> Subject | None:
        for node, part in self._files(within):
            if self.tables.row(node, target, "id", part=part):
                return Subject("record", target, (node,), part)
        return None

    def _files(self, within: str | None) -> Iterator[tuple[Node, Part]]:
        """The files of records, kept or dropped, that can be read here; of a stage that is asked for, its records in any case."""
        for node in self.within(within):
            yield from ((node, part) for part in PARTS if (within and not part) or self.tables.present(node, part))

    def _here(self, within: str | None) -> Iterator[Node]:
        """The stages whose records can be read here."""
        return (node for node in self.within(within) if within or self.tables.present(node))

    def _completion(self, target: str) -> Subject | None:
        if not LEAST <= len(target) <= 64 or not set(target) <= HEX:
            return None
        found = self.replies.find(target)
        if found is None and len(target) == 64:
            return Subject("completion", target)
        return Subject("completion", found.key) if found else None

    def _text(self, target: str, within: str | None) -> Subject | None:
        nodes = tuple(self._here(within))
        return Subject("text", target, nodes) if target.strip() and nodes else None

    @cached_property
    def names(self) -> set[str]:
        """All that has a name: stages, files, recipes, models of params.yaml and the roles bound to them, metrics."""
        nodes = self.graph.nodes.values()
        found = {name for node in nodes for name in (node.address, node.slug, *node.outs, *node.deps)}
        found |= {*self.graph.recipes, *self.roles}
        found |= {key.removeprefix("models.") for node in nodes for _, key in node.params if key.count(".") == 1}
        reports = [n for n in nodes if n.report and self.snapshot.find(n.report, n.outs[n.report])]
        return found | {key for node in reports for key in self.graph.metrics(node)}

    def meant(self, target: str, among: set[str] | None = None) -> str:
        """`; did you mean 'x'?`, where a name is near to a target that is nothing."""
        import difflib

        known = among or self.names
        found = [] if any(c.isspace() for c in target) else difflib.get_close_matches(target, sorted(known), n=1, cutoff=0.7)
        return f"; did you mean {found[0]!r}?" if found else ""

    def _nothing(self, target: str, kind: str | None) -> str:
        if kind in ("stage", "model"):
            return f"no stage {target!r} has run{choices(target, self.graph.nodes)}"
        if kind == "recipe":
            return f"no recipe {target!r} has run{choices(target, self.graph.recipes)}"
        if kind == "file":
            known = {path for node in self.graph.nodes.values() for path in (*node.outs, *node.deps)}
            return f"no stage made or read a file {target!r} in {self.snapshot.name}{self.meant(target, known)}"
        what = {
            "record": "record with the id",
            "completion": "completion with the key",
            None: "thing called",
            "role": "model of params.yaml",
        }.get(kind, kind)
        near = self.meant(target) if kind in (None, "metric", "role") else ""
        return f"no {what} {target!r} in {self.snapshot.name}{self.unseen}{near}"

    @property
    def unseen(self) -> str:
        """What an answer that found nothing has not looked in: `; the records of … are not here: …`, or nothing."""
        absent = self.tables.absent()
        count = f"{len(absent)} stage{'s' * (len(absent) > 1)}"
        return f"; not looked in: the records of {count} are not here ({self.tables.brings('them', absent)})" if absent else ""

    def close(self) -> None:
        """Let go of the files."""
        self.replies.close()
        self.tables.close()
