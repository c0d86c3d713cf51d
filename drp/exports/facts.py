"""What all exports tell of stages: where their text began, which models spoke, how sure their origin is."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

from drp.exports import parquet
from drp.exports.languages import Languages
from drp.exports.licences import UNKNOWN, Licences
from drp.exports.public import public
from drp.lineage.graph import MANIFEST, Graph, Node
from drp.lineage.origin import Origins

HUB = "https://huggingface.co"
KEYS = ("config", "split", "size", "seed", "settings", "skip", "limit", "shuffle_seed")
"""Options of `load` that say which part of a source was taken."""


@dataclass(frozen=True)
class Source:
    """Where records began: what `load` was told, and what pins it (a commit, a package's version, a file's md5)."""

    stage: str
    name: str
    revision: str | None
    taken: dict[str, Any]

    @property
    def hub(self) -> str | None:
        """The id of a hub data set."""
        return self.name.removeprefix("hf://") if self.name.startswith("hf://") else None

    @property
    def url(self) -> str | None:
        """Where the world finds it: the hub, or the package that generates it."""
        if self.hub:
            return f"{HUB}/datasets/{self.hub}" + (f"/tree/{self.revision}" if self.revision else "")
        if self.name.startswith("gym://"):
            version = (self.revision or "").partition("==")[2]
            return f"https://pypi.org/project/reasoning-gym/{version}/#{self.name.removeprefix('gym://')}".replace("//#", "/#")
        return None

    @property
    def part(self) -> str:
        """The part that was taken, for people."""
        return ", ".join(f"{key} {_short(value)}" for key, value in self.taken.items())


@dataclass(frozen=True)
class Speaker:
    """A model as a stage used it: its label there (the option, and the key of a mapping), and its identity."""

    label: str
    name: str
    revision: str | None
    file: str | None
    content: str | None
    adapter: str | None
    sampling: dict[str, Any]

    @property
    def key(self) -> str:
        """What tells it apart from others in an identifier: name, revision and contents, without blanks."""
        marks = [self.revision, self.file, (self.content or "")[:12], (self.adapter or "")[:12]]
        return quote("@".join([self.name, *(mark for mark in marks if mark)]), safe="/@:.-_")

    @property
    def hub(self) -> bool:
        """Whether the name is a model's on the hub (a local folder has contents, a package a scheme)."""
        return self.content is None and "://" not in self.name and re.fullmatch(r"[\w.-]+/[\w.-]+", self.name) is not None


class Facts:
    """What is known of the stages of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.snapshot = graph, graph.snapshot
        self.origins = Origins(graph)

    def public(self, value: Any) -> Any:
        """A value without the absolute paths of this machine."""
        return public(value, self.snapshot.root)

    @cached_property
    def licences(self) -> Licences:
        """What the project knows of licences."""
        return Licences.of(self.snapshot.project)

    @cached_property
    def languages(self) -> Languages:
        """What the project knows of the languages of its sources."""
        return Languages.of(self.snapshot.project)

    def option(self, node: Node, key: str) -> Any:
        """What the recipe said for an option: by the lock, or, where an axis set it, by the manifest."""
        return self.graph.option(node, key)

    # -- where text comes from -------------------------------------------------------------------------------------------

    def feeds(self, node: Node) -> list[Node]:
        """The stages whose records go into a stage's own; those that only hold records back (`without`) do not."""
        held = self.option(node, "without") or []
        names = {held} if isinstance(held, str) else set(held)
        return [other for other in self.graph.inputs(node) if not names & {other.name, other.slug, other.address}]

    def line(self, nodes: Iterable[Node]) -> list[Node]:
        """These stages and all whose records went into theirs, in the order of making."""
        found: dict[str, Node] = {}
        queue = list(nodes)
        while queue:
            node = queue.pop()
            if node.address not in found:
                found[node.address] = node
                queue += self.feeds(node)
        return [node for node in self.graph.nodes.values() if node.address in found]

    def sources(self, nodes: Iterable[Node]) -> list[Source]:
        """Where the records of these stages began, each source as often as it was loaded."""
        return [self._source(node) for node in self.line(nodes) if self.option(node, "source") is not None]

    def _source(self, node: Node) -> Source:
        name = str(self.option(node, "source"))
        made = node.deps.get(name)
        revision = f"md5 {made.md5}" if made else self._recorded(node) or self.option(node, "revision")
        taken = {key: value for key in KEYS if (value := self.option(node, key)) is not None}
        return Source(node.address, self.public(name), revision, self.public(taken))

    def _recorded(self, node: Node) -> str | None:
        """The revision that the records themselves name: the commit that `main` was, the version of a generator."""
        path = f"{node.base}.parquet"
        file = self.snapshot.find(path, node.outs[path]) if path in node.outs else None
        if file is None or "revision" not in parquet.schema(file).names or not parquet.rows(file):
            return None
        first: str | None = parquet.beginning(file, "revision")["revision"][0].as_py()
        return first

    # -- who made it -----------------------------------------------------------------------------------------------------

    def manifest(self, node: Node) -> dict[str, Any]:
        """What a stage wrote of its run; {} of one that reports, and where the file is nowhere here (`doubts` says so)."""
        return self.graph.manifest(node) if node.base and not self._lost(node) else {}

    def _lost(self, node: Node) -> bool:
        path = f"{node.base}{MANIFEST}"
        return self.snapshot.find(path, node.outs[path]) is None

    def speakers(self, node: Node) -> list[Speaker]:
        """The models that a stage used, by its manifest."""
        found = []
        for label, identity in self.manifest(node).get("models", {}).items():
            told = {key: identity.get(key) for key in ("revision", "file", "content", "adapter")}
            sampling = {key: value for key, value in (identity.get("sampling") or {}).items() if value is not None}
            found.append(Speaker(label, self.public(identity["name"]), **self.public(told), sampling=sampling))
        return found

    def version(self, node: Node) -> str:
        """The version of drp that ran a stage; empty where it wrote no manifest."""
        return str(self.manifest(node).get("packages", {}).get("drp", ""))

    def counts(self, node: Node) -> dict[str, Any]:
        """How many records a stage read, kept, and dropped by reason; {} where it wrote no manifest."""
        found: dict[str, Any] = self.manifest(node).get("counts", {})
        return found

    def prompts(self, node: Node) -> list[str]:
        """The prompt files of a stage, with what they include."""
        return [path for path in node.deps if path.startswith("prompts/")]

    def names(self, nodes: Iterable[Node]) -> list[str]:
        """The sources and models whose licences bear on what these stages made, each once.

        Of a model that a stage here made, and of which no licence is told, those of what it was made from.
        """
        found: dict[str, None] = {}
        queue = list(nodes)
        seen: set[str] = set()
        while queue:
            line = [node for node in self.line([queue.pop(0)]) if node.address not in seen]
            seen |= {node.address for node in line}
            found |= {source.name: None for source in self.sources(line)}
            for speaker in (speaker for node in line for speaker in self.speakers(node)):
                maker = self.graph.maker(speaker.name)
                if maker and self.licences.licence(speaker.name) == UNKNOWN:
                    queue.append(maker)
                else:
                    found[speaker.name] = None
        return list(found)

    # -- how sure it is --------------------------------------------------------------------------------------------------

    def doubts(self, nodes: Iterable[Node]) -> list[str]:
        """What a reader must know before he believes the rest: outcomes in no commit, or made from other than what lies there."""
        found = []
        for node in nodes:
            origin = self.origins.of(node)
            if origin.commit is None:
                found.append(f"{node.address}: its outcome is in no commit")
            elif origin.differs:
                listed = ", ".join(origin.differs)
                found.append(f"{node.address}: made from what commit {origin.commit[:10]} has otherwise, or not at all: {listed}")
            if node.base and self._lost(node):
                cure = self.graph.snapshot.brings("it", node.base)
                found.append(f"{node.address}: its manifest is not here ({cure}), so its models and counts are not told")
            for path, made in node.deps.items():
                maker = self.graph.maker(path)
                if maker and maker.outs[path].md5 != made.md5:
                    found.append(f"{node.address}: made from another {path} than {maker.address} has made since")
        return found

    def changed(self, path: str, node: Node) -> list[str]:
        """The doubt that a file is no longer what its stage made; none where it is."""
        import hashlib

        file = self.snapshot.data(path, node.outs[path])
        with file.open("rb") as opened:
            same = hashlib.file_digest(opened, "md5").hexdigest() == node.outs[path].md5
        return [] if same else [f"{path}: changed since {node.address} made it (`dvc checkout {path}` brings that back)"]


def sha256(path: Any) -> str:
    """Of a file."""
    import hashlib

    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {inner}" for key, inner in value.items()) + ")"
    return str(value)
