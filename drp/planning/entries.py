"""The stages of all pipelines as `drp compile` would write them now, each with its lock; hand-written ones beside them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from drp.errors import ConfigError
from drp.pipeline import oplock
from drp.pipeline.compile import counts_entry, resolved, stage_entry, used_ops
from drp.pipeline.locked import Lock, Place
from drp.pipeline.yamlfile import locked, mapping
from drp.project import Project
from drp.recipe.resolve import resolve_all
from drp.recipe.stages import Recipe, Stage, resolved_file


class Absent:
    """In the place of a value that is not there."""

    def __repr__(self) -> str:
        return "(nothing)"


ABSENT = Absent()
OTHER = (".json", ".toml", ".py")
"""Files of parameters that DVC does not read as YAML."""


class Unread(Exception):
    """A hand-written stage says more than is understood here."""


@dataclass(frozen=True)
class Entry:
    """A stage as DVC sees it. Paths are relative to `folder`, parameters with an empty key are a whole file.

    `outs` says of each whether DVC's cache keeps it; `stage` is None where it is hand-written (or `counts`).
    """

    recipe: str
    name: str
    op: str
    cmd: Any
    folder: str
    deps: tuple[str, ...]
    params: tuple[Place, ...]
    outs: dict[str, bool]
    frozen: bool
    always: bool
    lock: Lock | None
    stage: Stage | None = None

    @property
    def address(self) -> str:
        """As a person names it."""
        return f"{self.recipe}/{self.name}"

    def at(self, path: str) -> str:
        """A path of this stage, from the project's root."""
        return _joined(self.folder, path)


class Entries:
    """Every stage of the project, and the values that their parameters have now.

    `stale` names the generated files that are not what the recipes say; the entries are as if they were.
    `unread` names hand-written stages that only DVC can read: `foreach`, `matrix`, `vars` that are not files, whatever else
    of its templates is not plain, parameters in files that are not YAML, addresses.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.recipes = resolve_all(project)
        self.ops = oplock.renew(project, used_ops(project, self.recipes.values()))
        self.stale: list[str] = []
        self.unread: list[str] = []
        self._files: dict[str, Any] = {}
        self._generated("recipes/ops.lock.yaml", {name: entry.plain() for name, entry in self.ops.items()})
        for name, recipe in self.recipes.items():
            self._generated(resolved_file(name), resolved(recipe))
        self.all = {entry.address: entry for recipe in self.recipes.values() for entry in self._pipeline(recipe)}

    @cached_property
    def makers(self) -> dict[str, Entry]:
        """The stage that makes each output, by its path."""
        return {entry.at(out): entry for entry in self.all.values() for out in entry.outs}

    def maker(self, path: str) -> Entry | None:
        """The stage that makes this path, or the folder that it is in."""
        for here in (path, *map(str, PurePosixPath(path).parents)):
            if here in self.makers:
                return self.makers[here]
        return None

    def makers_of(self, path: str) -> list[Entry]:
        """The stages that make this path, the folder that it is in, or what is in it."""
        above = self.maker(path)
        return list({e.address: e for e in [*([above] if above else []), *self._inside.get(path, [])]}.values())

    @cached_property
    def _inside(self) -> dict[str, list[Entry]]:
        """Who makes something in a folder."""
        found: dict[str, list[Entry]] = {}
        for out, entry in self.makers.items():
            for folder in PurePosixPath(out).parents:
                found.setdefault("" if str(folder) == "." else str(folder), []).append(entry)
        return found

    def value(self, file: str, key: str) -> Any:
        """What a parameter is now; ABSENT where the file has no such key."""
        here = self._file(file)
        for part in key.split("."):
            if isinstance(here, list) and part.isdigit() and int(part) < len(here):
                here = here[int(part)]
            elif isinstance(here, dict) and part in here:
                here = here[part]
            else:
                return ABSENT
        return here

    def values(self, entry: Entry) -> dict[Place, Any]:
        """Every parameter that a stage tracks."""
        found: dict[Place, Any] = {}
        for file, key in entry.params:
            keys = [key] if key else [*self._file(file)]
            found.update({(file, k): self.value(entry.at(file), k) for k in keys})
        return found

    def _file(self, file: str) -> Any:
        if file not in self._files:
            self._files[file] = mapping(self.project.root / file)
        return self._files[file]

    def _generated(self, file: str, data: Any) -> None:
        if mapping(self.project.root / file) != data:
            self.stale.append(file)
        self._files[file] = data

    def _pipeline(self, recipe: Recipe) -> Iterator[Entry]:
        file = f"recipes/{recipe.name}/dvc.yaml"
        there: dict[str, Any] = self._file(file).get("stages") or {}
        locks = locked(self.project.root / f"recipes/{recipe.name}/dvc.lock").get("stages") or {}
        ours = {stage.ref.slug: stage_entry(self.project, stage) for stage in recipe.own()}
        if any(not stage.op.reports for stage in recipe.own()):
            ours["counts"] = counts_entry(recipe)
        for name, entry in ours.items():
            if name in there and "frozen" not in (there[name] or {}):
                entry.pop("frozen", None)  # thawed
        theirs = {name: e for name, e in there.items() if not (isinstance(e, dict) and "drp" in (e.get("meta") or {}))}
        if {**ours, **theirs} != there:
            self.stale.append(file)
        for name, entry in {**ours, **theirs}.items():
            try:
                yield self._entry(recipe, name, entry, locks.get(name))
            except Unread:
                self.unread.append(f"{file}:{name}")

    def _entry(self, recipe: Recipe, name: str, plain: Mapping[str, Any], lock: Any) -> Entry:
        if not isinstance(plain, dict) or "foreach" in plain or "matrix" in plain or not plain.get("cmd"):
            raise Unread
        home, wdir = f"recipes/{recipe.name}", plain.get("wdir") or "."
        if "${" in str(wdir):
            raise Unread
        folder = _joined("", f"{home}/{wdir}")
        files = [_joined(home, "params.yaml")]
        for base, names in ((home, self._file(f"{home}/dvc.yaml").get("vars")), (folder, plain.get("vars"))):
            files += [_joined(base, v) if isinstance(v, str) and not v.endswith(OTHER) else "" for v in names or []]

        def filled(text: Any) -> Any:
            return [self._filled(t, files) for t in text] if isinstance(text, list) else self._filled(text, files)

        def path(text: Any) -> str:
            found = self._filled(text, files)
            if "://" in found:
                raise Unread
            return found

        params: list[Place] = []
        for item in plain.get("params") or []:
            groups = item.items() if isinstance(item, dict) else [("params.yaml", [item])]
            params += [(path(file), self._filled(key, files)) for file, keys in groups for key in keys or [""]]
        outs: dict[str, bool] = {}
        for out in [*plain.get("outs", []), *plain.get("metrics", []), *plain.get("plots", [])]:
            made, how = next(iter(out.items())) if isinstance(out, dict) else (out, {})
            outs[path(made)] = bool((how or {}).get("cache", True))
        for file, _ in params:
            self._readable(_joined(folder, file))
        return Entry(
            recipe.name, name, (plain.get("meta") or {}).get("drp", {}).get("op", ""), filled(plain["cmd"]), folder,
            tuple(map(path, plain.get("deps") or [])), tuple(params), outs, bool(plain.get("frozen")),
            bool(plain.get("always_changed")), Lock.of(lock) if lock else None, recipe.stages.get(name),
        )  # fmt: skip

    def _readable(self, file: str) -> None:
        """Unread where parameters cannot be looked up in it."""
        if file.endswith(OTHER):
            raise Unread
        try:
            self._file(file)
        except ConfigError as error:
            raise Unread from error

    def _filled(self, text: Any, files: list[str]) -> str:
        """DVC's `${…}`, from the files of `vars` ("" stands for one that is not understood); Unread where it is not plain."""
        if not isinstance(text, str):
            raise Unread

        def found(match: re.Match[str]) -> str:
            if "" in files:
                raise Unread
            for file in files:
                self._readable(file)
            for value in (self.value(file, match[1].strip()) for file in files):
                if isinstance(value, bool):
                    return "true" if value else "false"
                if isinstance(value, str | int | float):
                    return str(value)
            raise Unread

        filled = re.sub(r"\$\{([^}]*)\}", found, text)
        if "${" in text and "\\${" in text:  # escaped
            raise Unread
        return filled


def _joined(folder: str, path: str) -> str:
    """A path in a folder, from the project's root."""
    parts: list[str] = []
    for part in PurePosixPath(folder, path).parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
