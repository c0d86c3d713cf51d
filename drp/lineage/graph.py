"""Stages and files: who made a file, and who read it, by every dvc.lock of a snapshot."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from drp.errors import DataError, choices
from drp.lineage.snapshot import Snapshot
from drp.pipeline.locked import Lock, Made, Place

COUNTS = "counts"
"""The stage, and the op, that collect what a recipe's manifests count."""
MANIFEST = ".manifest.json"


@dataclass(frozen=True)
class Node:
    """A stage that has run, by its lock entry. `op` is what dvc.yaml says it runs; `frozen`: its outcome is published."""

    recipe: str
    slug: str
    op: str
    frozen: bool
    lock: Lock

    @property
    def address(self) -> str:
        """`<recipe>/<stage>`."""
        return f"{self.recipe}/{self.slug}"

    @property
    def name(self) -> str:
        """The stage's name in the recipe, without the levels of axes."""
        return self.slug.partition("--")[0]

    @property
    def deps(self) -> dict[str, Made]:
        """The files that it read."""
        return self.lock.deps

    @property
    def outs(self) -> dict[str, Made]:
        """The files that it made."""
        return self.lock.outs

    @property
    def params(self) -> dict[Place, Any]:
        """The values that it read, by file and dotted key."""
        return self.lock.params

    @property
    def base(self) -> str | None:
        """The path of its records, without the ending; None of a stage that makes no records."""
        return next((path.removesuffix(MANIFEST) for path in self.outs if path.endswith(MANIFEST)), None)

    @property
    def model(self) -> str | None:
        """The folder of the model that it made; None where it made none."""
        ours = {f"{self.base}{end}" for end in (".parquet", ".dropped.parquet", ".trail.parquet", MANIFEST)}
        return next((path for path in self.outs if path not in ours), None) if self.base else None

    @property
    def report(self) -> str | None:
        """The JSON of its metrics; None where it reports none."""
        return None if self.base else next((path for path in self.outs if path.endswith(".json")), None)

    def option(self, key: str) -> Any:
        """What the recipe said for an option, by the lock; None where it said nothing."""
        found = {place[1]: value for place, value in self.params.items()}
        return next((v for k, v in found.items() if k.endswith(f".{key}") and k.startswith("stages.")), None)


class Graph:
    """The stages of a snapshot that have run, in all recipes."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._manifests: dict[str, dict[str, Any]] = {}

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """Every stage of drp's by its address, each behind those that it reads from."""
        found = {node.address: node for name in self.recipes for node in _nodes(self.snapshot, name)}
        makers = {path: node for node in found.values() for path in node.outs}
        ordered: dict[str, Node] = {}

        def visit(node: Node, under: tuple[str, ...] = ()) -> None:
            if node.address in ordered or node.address in under:
                return
            for path in node.deps:
                if path in makers:
                    visit(makers[path], (*under, node.address))
            ordered[node.address] = node

        for node in found.values():
            visit(node)
        return ordered

    @cached_property
    def recipes(self) -> list[str]:
        """The recipes that have a lock file."""
        paths = map(PurePosixPath, self.snapshot.files)
        return sorted(p.parts[-2] for p in paths if p.name == "dvc.lock" and len(p.parts) >= 3 and p.parts[-3] == "recipes")

    def counted(self, recipe: str) -> bool:
        """Whether the counts of a recipe's stages have been collected: the stage that reads every manifest, and is no node."""
        return COUNTS in (self.snapshot.mapping(f"recipes/{recipe}/dvc.lock").get("stages") or {})

    @cached_property
    def _makers(self) -> dict[str, Node]:
        return {path: node for node in self.nodes.values() for path in node.outs}

    def maker(self, path: str) -> Node | None:
        """The stage that made a file or folder."""
        return self._makers.get(path)

    def readers(self, path: str) -> list[Node]:
        """The stages that read a file or folder."""
        return [node for node in self.nodes.values() if path in node.deps]

    def sources(self, node: Node) -> list[Node]:
        """The stages that it read from, records and models, by the order of its deps."""
        return list({m.address: m for path in node.deps if (m := self.maker(path))}.values())

    def inputs(self, node: Node) -> list[Node]:
        """The stages whose records it read."""
        made = (self.maker(path) for path in node.deps if path.endswith(".parquet"))
        return [m for m in made if m is not None]

    def users(self, node: Node) -> list[Node]:
        """The stages that read anything that it made."""
        return [other for other in self.nodes.values() if any(path in other.deps for path in node.outs)]

    def above(self, nodes: Iterable[Node]) -> list[Node]:
        """These stages and all that they are made from, in the order of making."""
        return self._closure(nodes, self.sources)

    def below(self, nodes: Iterable[Node]) -> list[Node]:
        """These stages and all that is made from them, in the order of making."""
        return self._closure(nodes, self.users)

    def _closure(self, nodes: Iterable[Node], step: Any) -> list[Node]:
        found: dict[str, Node] = {}
        queue = list(nodes)
        while queue:
            node = queue.pop()
            if node.address not in found:
                found[node.address] = node
                queue += step(node)
        return [node for node in self.nodes.values() if node.address in found]

    def labelled(self, node: Node, label: str, among: Iterable[Node] | None = None) -> Node | None:
        """The input that an op knows by a label (mix's `parents`, evaluate's `suite`)."""
        return self.labels(node, among).get(label)

    def labels(self, node: Node, among: Iterable[Node] | None = None) -> dict[str, Node]:
        """The inputs by the labels that an op knows them by: shortest names that tell them apart."""
        inputs = list(self.inputs(node) if among is None else among)
        for named in (_name, _variant, _slug, _address):
            found = {named(each): each for each in inputs}
            if len(found) == len(inputs):
                return found
        return {}

    def manifest(self, node: Node) -> dict[str, Any]:
        """What the stage wrote of its run; DataError with the cure where it is nowhere."""
        if node.address not in self._manifests:
            path = f"{node.base}{MANIFEST}"
            found = self.snapshot.json(path, node.outs[path])
            if not isinstance(found, dict) or not {"counts", "inputs"} <= found.keys():
                raise DataError(f"{path}: not a manifest of a stage; `dvc checkout {path}` brings back what the lock names")
            self._manifests[node.address] = found
        return self._manifests[node.address]

    def option(self, node: Node, key: str) -> Any:
        """What an option was, by the lock or (where an axis sets it) by the manifest; None where neither says."""
        if (found := node.option(key)) is not None or node.base is None:
            return found
        path = f"{node.base}{MANIFEST}"
        here = self.snapshot.find(path, node.outs[path])
        return self.manifest(node).get("options", {}).get(key) if here else None

    def metrics(self, node: Node) -> dict[str, Any]:
        """The metrics of a reporting stage, by their dotted names."""
        if node.report is None:
            return {}
        return dict(_flat(self.snapshot.json(node.report, node.outs[node.report])))

    def stage(self, name: str) -> Node:
        """A stage by its address, or by its name where only one recipe has it; DataError with the choices."""
        if name in self.nodes:
            return self.nodes[name]
        found = [node for node in self.nodes.values() if node.slug == name]
        if len(found) != 1:
            which = ", ".join(node.address for node in found)
            raise DataError(f"{name!r} is {f'a stage of several: {which}' if found else 'no stage that has run'}"
                            f"{'' if found else choices(name, self.nodes)}")  # fmt: skip
        return found[0]

    def datasets(self, recipe: str) -> list[Node]:
        """What a recipe is for: the records that its models are trained on, or else those that no other stage of it reads."""
        own = [node for node in self.nodes.values() if node.recipe == recipe and node.base]
        if trained := [source for node in own if node.model for source in self.inputs(node)]:
            return list({node.address: node for node in trained}.values())
        read = {path for node in own for path in node.deps}
        return [node for node in own if f"{node.base}.parquet" not in read and node.op not in ("evaluate",)]


def _nodes(snapshot: Snapshot, recipe: str) -> Iterator[Node]:
    compiled = snapshot.mapping(f"recipes/{recipe}/dvc.yaml").get("stages") or {}
    for slug, entry in (snapshot.mapping(f"recipes/{recipe}/dvc.lock").get("stages") or {}).items():
        stage = compiled.get(slug) or {}
        op = ((stage.get("meta") or {}).get("drp") or {}).get("op")
        if op is not None and op != COUNTS:
            yield Node(recipe, slug, op, bool(stage.get("frozen")), Lock.of(entry))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from _flat(inner, f"{name}.{key}" if name else str(key))


def _name(node: Node) -> str:
    return node.name


def _variant(node: Node) -> str:
    return node.slug.partition("--")[2] or node.name


def _slug(node: Node) -> str:
    return node.slug


def _address(node: Node) -> str:
    return node.address
