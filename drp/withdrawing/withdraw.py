"""Withdrawals: the exclusion of records from the stages that load them, and all that must be made anew without them."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drp.errors import ConfigError, DataError, DrpError, choices
from drp.lineage.graph import Node
from drp.lineage.subject import Lineage
from drp.lineage.tables import unglobbed
from drp.pipeline.door import compile_recipes
from drp.pipeline.yamlfile import write
from drp.project import Project
from drp.recipe.read import Path_
from drp.recipe.resolve import resolve_all
from drp.recipe.stages import Stage
from drp.withdrawing.exclusion import put
from drp.withdrawing.wording import root

OPTION = "withdrawn"
SAME = ("source", "config", "split")
"""Options of `load` that say which rows there are to choose from."""
FEW = 20_000
"""Ids among which one that is like an unknown one is looked for."""


@dataclass(frozen=True)
class Found:
    """A question to be taken out: the id that was asked for, the question's, and the stages that load it."""

    asked: str
    id: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Edit:
    """A recipe file as it is and as it will be; `places` are the ids that are put in, each at its path of keys."""

    path: str
    before: str
    after: str
    places: tuple[Path_, ...]

    def diff(self) -> str:
        """As `diff -u` tells it."""
        before, after = (text.splitlines(keepends=True) for text in (self.before, self.after))
        return "".join(difflib.unified_diff(before, after, f"a/{self.path}", f"b/{self.path}", n=1))


# -- which records -----------------------------------------------------------------------------------------------------------


def find(lineage: Lineage, target: str) -> Found:
    """The question that an id means, or that the record of that id was made of; DataError with ids that are like it."""
    try:
        subject = lineage.subject(target, "record")
    except DataError as error:
        near = ", ".join(_near(lineage, target))
        raise DataError(f"{error}{f'; near it: {near}' if near else ''}") from error
    name = root(lineage, subject)
    nodes = tuple(node for node in _loads(lineage) if _loaded(lineage, node, name))
    if not nodes:
        absent = [node for node in lineage.tables.absent() if node.op == "load"]
        names = ", ".join(node.address for node in absent)
        cure = f"the records of {names} are not here: {lineage.tables.brings('them', absent)}, then again" if absent else (
            f"it comes from {subject.node.address} (op {subject.node.op}): take it out there, or out of its source")  # fmt: skip
        raise DataError(f"{name}: no stage that loads it is known; {cure}")
    return Found(target, name, nodes)


def find_row(lineage: Lineage, source: str, row: str, within: str | None) -> Found:
    """The question of a row of a source; DataError where several stages load another one as that row."""
    nodes = [node for node in _loads(lineage) if node.option("source") == source and within in (None, node.address, node.slug)]
    if not nodes:
        known = sorted({str(node.option("source")) for node in _loads(lineage)})
        raise DataError(f"no stage that is here loads {source!r}{choices(source, known)}")
    ids = {node.address: name for node in nodes if (name := _of_row(lineage, node, row))}
    if not ids:
        raise DataError(f"{source}: row {row!r} is in none of {', '.join(node.address for node in nodes)}")
    if len(set(ids.values())) > 1:
        which = ", ".join(f"--in {address} ({name})" for address, name in ids.items())
        raise DataError(f"{source}: row {row!r} is another record in each of the stages that load it: say which, by {which}")
    return find(lineage, next(iter(ids.values())))


def _of_row(lineage: Lineage, node: Node, row: str) -> str | None:
    """The id of a row that a stage loaded; also of one that asks what another row asks."""
    tables = lineage.tables
    found = tables.query("select id from read_parquet(?) where row = ?", [unglobbed(tables.file(node)), row])
    if not found and tables.present(node, ".dropped"):
        found = tables.query(
            "select id from read_parquet(?) where reason in ('duplicate', 'withdrawn') and contains(record, ?)",
            [unglobbed(tables.file(node, ".dropped")), f'"row": "{row}"'],
        )
    return found[0]["id"] if found else None


def _loads(lineage: Lineage) -> list[Node]:
    """The stages that load records, and whose records are here."""
    return [node for node in lineage.graph.nodes.values() if node.op == "load" and lineage.tables.present(node)]


def _loaded(lineage: Lineage, node: Node, name: str) -> bool:
    """Whether a stage has a record, or had it before it was withdrawn."""
    dropped = lineage.tables.row(node, name, "reason", part=".dropped") if lineage.tables.present(node, ".dropped") else None
    return bool(lineage.tables.row(node, name, "id") or (dropped and dropped["reason"] == OPTION))


def _near(lineage: Lineage, target: str) -> list[str]:
    nodes = _loads(lineage)
    for length in range(len(target) - 1, 3, -1):
        if found := {name for node in nodes for name in lineage.tables.beginning(node, target[:length])}:
            return sorted(found)[:3]
    if sum(map(lineage.tables.count, nodes)) > FEW:
        return []
    every = {
        row["id"]
        for node in nodes
        for row in lineage.tables.query("select id from read_parquet(?)", [unglobbed(lineage.tables.file(node))])
    }
    return difflib.get_close_matches(target, every, n=3)


# -- the edit ----------------------------------------------------------------------------------------------------------------


def edits(lineage: Lineage, found: Sequence[Found], reason: str) -> list[Edit]:
    """What to write into which recipes; nothing for what stands there already.

    Also into stages that never ran, where they load from the same source: what they will bring is not known.
    """
    project = lineage.project
    recipes = resolve_all(project)
    own = {(name, slug): stage for name, recipe in recipes.items() for slug, stage in recipe.stages.items()
           if stage.ref.recipe == name and stage.op.name == "load"}  # fmt: skip
    texts: dict[str, str] = {}
    before: dict[str, str] = {}
    places: dict[str, list[Path_]] = {}
    for one in found:
        holders = [own[key] for node in one.nodes if (key := (node.recipe, node.slug)) in own]
        if not holders:
            which = ", ".join(node.address for node in one.nodes)
            raise DataError(
                f"{one.id}: no recipe has the stages any more that loaded it ({which}): there is nothing to exclude it from"
            )
        alike = [stage for key, stage in own.items() if "/".join(key) not in lineage.graph.nodes and _same(stage, holders)]
        for stage in _writers([*holders, *alike]):
            path, place = _place(stage)
            if path not in texts:
                texts[path] = before[path] = (project.root / path).read_bytes().decode("utf-8")
            for name, words in {**(stage.options().get(OPTION) or {}), one.id: reason}.items():
                if name == one.id and name in (stage.options().get(OPTION) or {}):
                    continue  # withdrawn before: the reason that was given then stays
                if (*place, name) not in places.setdefault(path, []) and not _stands(stage, path, name):
                    texts[path] = put(texts[path], (*place, name), words, path)
                    places[path].append((*place, name))
    return [Edit(path, before[path], texts[path], tuple(places[path])) for path in texts if texts[path] != before[path]]


def _same(stage: Stage, holders: Iterable[Stage]) -> bool:
    options = [{key: each.options().get(key) for key in SAME} for each in (stage, *holders)]
    return options[0] in options[1:]


def _writers(stages: Iterable[Stage]) -> Iterator[Stage]:
    """Those of the stages that do not take the option over from another one of them."""
    every = list(stages)
    known = {(stage.ref.recipe, stage.ref.name) for stage in every}
    for stage in every:
        value = stage.values.get(OPTION) or stage.values["op"]
        writer = value.document.file.split("/")[1]
        if writer == stage.ref.recipe or (writer, stage.ref.name) not in known:
            yield stage


def _place(stage: Stage) -> tuple[str, Path_]:
    """The recipe file that owns a stage, and where in it the option belongs."""
    path = f"recipes/{stage.ref.recipe}/recipe.yaml"
    value = stage.values.get(OPTION)
    if value is not None and value.document.file == path:
        return path, value.place
    return path, ("stages", stage.ref.name, OPTION)


def _stands(stage: Stage, path: str, name: str) -> bool:
    """Whether the file itself has the exclusion (a stage that takes others over must repeat them)."""
    value = stage.values.get(OPTION)
    return value is not None and value.document.file == path and name in (value.data or {})


def apply(project: Project, made: Sequence[Edit], ids: Mapping[str, Iterable[Node]]) -> list[Path]:
    """Write the edits, see that the recipes resolve to them, and compile; what was written is taken back where they do not."""
    try:
        for edit in made:
            write(project.root / edit.path, edit.after)
        recipes = resolve_all(project)
        for name, nodes in ids.items():
            for node in nodes:
                stage = recipes[node.recipe].stages.get(node.slug) if node.recipe in recipes else None
                if stage and name not in (stage.options().get(OPTION) or {}):
                    raise ConfigError(
                        f"recipes/{node.recipe}/recipe.yaml: stages.{node.name}: write `{OPTION}: {{{name}: …}}` by hand"
                    )
        return compile_recipes(project)
    except DrpError:
        for edit in made:
            write(project.root / edit.path, edit.before)
        raise
