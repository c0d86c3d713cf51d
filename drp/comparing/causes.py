"""What made two states of a stage differ, by what their locks name: values, prompts, code, sources, models from elsewhere."""

import hashlib
from collections.abc import Iterator

from drp.lineage.graph import Graph, Node
from drp.lineage.spine import Pair
from drp.pipeline import texts
from drp.pipeline.locked import Made, Place
from drp.planning.entries import ABSENT
from drp.planning.why import Input, Prompt, Reason, code, leaves
from drp.store.completions import Store

OPS = "ops.lock.yaml"


class Causes:
    """Reasons as values, for pairs of stages of two graphs; the texts of prompts come from git, or from the completion store."""

    def __init__(self, old: Graph, new: Graph, store: Store | None) -> None:
        self.old, self.new, self.store = old, new, store

    def of(self, pair: Pair) -> list[Reason]:
        """Everything that the two were made from and that no stage made."""
        return [*self._params(pair), *self._files(pair)]

    def _params(self, pair: Pair) -> Iterator[Reason]:
        old = {_plain(pair.old, place): place for place in pair.old.params}
        new = {_plain(pair.new, place): place for place in pair.new.params}
        for known in dict.fromkeys([*old, *new]):
            before = pair.old.params[old[known]] if known in old else ABSENT
            now = pair.new.params[new[known]] if known in new else ABSENT
            same = old.get(known, new.get(known)) == new.get(known, old.get(known))
            file, key = (old.get(known) or new[known]) if same else known
            if before == now:
                continue
            if file.endswith(OPS) and ABSENT not in (before, now):
                yield code(key.removesuffix(".fingerprint"), before, now)
            elif not file.endswith(OPS):
                yield from leaves(file, key, before, now)

    def _files(self, pair: Pair) -> Iterator[Reason]:
        old = {path: made for path, made in pair.old.deps.items() if self.old.maker(path) is None}
        new = {path: made for path, made in pair.new.deps.items() if self.new.maker(path) is None}
        gone, come = [p for p in old if p not in new], [p for p in new if p not in old]
        renamed = dict(zip(_prompts(gone), _prompts(come), strict=True)) if len(_prompts(gone)) == len(_prompts(come)) else {}
        for path in dict.fromkeys([*old, *new]):
            if path in renamed.values():
                continue
            here = renamed.get(path, path)
            if old.get(path) != new.get(here):
                yield self._changed(path, here, old.get(path), new.get(here))

    def _changed(self, path: str, here: str, old: Made | None, new: Made | None) -> Reason:
        if old and new and path.startswith("prompts/"):
            before, now = self._text(self.old, path, old.md5), self._text(self.new, here, new.md5)
            lines = texts.changed_lines(path, before, now) if before is not None and now is not None else None
            return Prompt(path if path == here else f"{path} → {here}", old.md5, new.md5, lines)
        was, now_is = old or Made(""), new or Made("")
        return Input(here, was.md5 or None, now_is.md5 or None, was.size, now_is.size)

    def _text(self, graph: Graph, path: str, md5: str) -> str | None:
        """The text that a prompt had when the stage ran, which may be another than the snapshot's own."""
        content = graph.snapshot.bytes(path)
        if content is not None and hashlib.md5(content).hexdigest() == md5:
            return content.decode(errors="replace")
        found = texts.find(self.store, graph.snapshot.root, path, md5)
        return found[0] if found else None


def _prompts(paths: list[str]) -> list[str]:
    return [path for path in paths if path.startswith("prompts/")]


def _plain(node: Node, place: Place) -> Place:
    """A value's place without what tells recipes, variants and stages apart: `recipe.yaml`, `stages.*.keep`; an option that an
    axis sets is the stage's own."""
    file, key = place
    parts = key.split(".")
    if file.endswith("/resolved.yaml") and parts[0] == "axes" and len(parts) > 4:  # axes.<axis>.<level>.<stage>.<option>
        return "recipe.yaml", ".".join(["stages", "*", *parts[4:]])
    if not file.endswith("/recipe.yaml"):
        return file.replace(f"recipes/{node.recipe}/", "recipes/*/", 1), key
    return "recipe.yaml", ".".join([*parts[:1], "*", *parts[2:]] if parts[0] == "stages" else parts)
