"""What an export is of: a recipe, a stage, or a file or folder that a stage made."""

import os
from dataclasses import dataclass
from pathlib import Path

from drp.errors import ConfigError, DataError, choices
from drp.lineage.graph import Graph, Node


@dataclass(frozen=True)
class Target:
    """`name` as it was asked for; `nodes` are the stages that it is: the data sets of a recipe, or one stage. `recipe`: all of
    it was asked for; `path`: this file or folder was."""

    name: str
    nodes: tuple[Node, ...]
    recipe: str | None = None
    path: str | None = None

    @property
    def model(self) -> Node | None:
        """The stage whose model is asked for; None where it is records."""
        [only, *more] = self.nodes
        meant = not more and self.recipe is None and only.model is not None
        return only if meant and self.path in (None, only.model) else None


def resolve(graph: Graph, name: str | None) -> Target:
    """What a name means, or what the only recipe is for; DataError with the choices."""
    if not graph.nodes:
        raise DataError(
            f"{graph.snapshot.name}: no stage has run (no entry in a recipes/*/dvc.lock); run `drp run` or `dvc repro`"
        )
    if name is None:
        if len(graph.recipes) != 1:
            raise ConfigError(f"which recipe, stage or file? {choices('', graph.recipes).strip()}")
        name = graph.recipes[0]
    if name in graph.recipes:
        return Target(name, tuple(_for(graph, name)), recipe=name)
    if name in graph.nodes:
        return Target(name, (graph.nodes[name],))
    if len(slugs := [node for node in graph.nodes.values() if node.slug == name]) == 1:
        return Target(name, (slugs[0],))
    path = _relative(graph, name)
    inside = (node for node in graph.nodes.values() if node.model and path.startswith(f"{node.model}/"))
    if node := graph.maker(path) or next(inside, None):
        return Target(name, (node,), path=path if path in node.outs else node.model)
    raise DataError(
        f"{name!r} is no recipe, no stage that has run, no file or folder that one made{choices(name, _near(graph, path))}"
    )


def _near(graph: Graph, name: str) -> list[str]:
    """What could have been meant: stages of that recipe, files of that folder, or else recipes."""
    folder, slash, _ = name.rpartition("/")
    files = [path for node in graph.nodes.values() for path in node.outs if path.rpartition("/")[0] == folder]
    main = [path for path in files if not path.endswith((".trail.parquet", ".dropped.parquet", ".manifest.json"))]
    return main or [node.address for node in graph.nodes.values() if slash and node.recipe == folder] or graph.recipes


def _for(graph: Graph, recipe: str) -> list[Node]:
    if found := graph.datasets(recipe):
        return found
    own = [node for node in graph.nodes.values() if node.recipe == recipe and node.base]
    if not own:
        raise DataError(f"recipe {recipe!r}: no stage of it that makes records has run; run `drp run {recipe}`")
    return own[-1:]


def _relative(graph: Graph, name: str) -> str:
    """A path as the graph names it: from the root of the project, however it was given."""
    plain = name.rstrip("/").removeprefix("./")
    full = Path(os.path.abspath(name))  # `..` goes, links stay: a folder of data may be one
    root = graph.snapshot.root.absolute()
    given = full.relative_to(root).as_posix() if full.is_relative_to(root) else plain
    return plain if graph.maker(plain) else given
