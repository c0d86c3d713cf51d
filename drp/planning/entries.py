"""The stages of all pipelines as `drp compile` would write them now, each with its lock; hand-written ones beside them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from drp.pipeline import oplock
from drp.pipeline.compile import counts_entry, resolve_all, resolved, stage_entry, used_ops
from drp.pipeline.yamlfile import mapping
from drp.planning.locked import Lock, Place
from drp.project import Project
from drp.recipe.resolve import Recipe, Stage, resolved_file


class Absent:
    """In the place of a value that is not there."""

    def __repr__(self) -> str:
        return "(nothing)"


ABSENT = Absent()


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
        parts: list[str] = []
        for part in PurePosixPath(self.folder, path).parts:
            if part == ".." and parts:
                parts.pop()
            elif part != ".":
                parts.append(part)
        return "/".join(parts)


class Entries:
    """Every stage of the project, and the values that their parameters have now.

    `stale` names the generated files that are not what the recipes say; the entries are as if they were.
    `unread` names hand-written stages that are made by `foreach` or `matrix`.
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
        locks = mapping(self.project.root / f"recipes/{recipe.name}/dvc.lock").get("stages") or {}
        ours = {stage.ref.slug: stage_entry(self.project, stage) for stage in recipe.own()}
        if any(not stage.op.reports for stage in recipe.own()):
            ours["counts"] = counts_entry(recipe)
        for name, entry in ours.items():
            if name in there and "frozen" not in there[name]:
                entry.pop("frozen", None)  # thawed
        theirs = {name: e for name, e in there.items() if not ("meta" in e and "drp" in (e["meta"] or {}))}
        if {**ours, **theirs} != there:
            self.stale.append(file)
        for name, entry in {**ours, **theirs}.items():
            if "foreach" in entry or "matrix" in entry or not entry.get("cmd"):
                self.unread.append(f"{file}:{name}")
            else:
                yield self._entry(recipe, name, entry, locks.get(name))

    def _entry(self, recipe: Recipe, name: str, plain: Mapping[str, Any], lock: Any) -> Entry:
        base = PurePosixPath("recipes", recipe.name, plain.get("wdir", "."))
        folder = "" if plain.get("wdir") == "../.." else str(base)
        files = [v for v in plain.get("vars") or [] if isinstance(v, str)]

        def filled(text: Any) -> Any:
            return self._filled(text, files) if isinstance(text, str) else text

        params: list[Place] = []
        for item in plain.get("params") or []:
            groups = item.items() if isinstance(item, dict) else [("params.yaml", [item])]
            params += [(filled(file), key) for file, keys in groups for key in keys or [""]]
        outs: dict[str, bool] = {}
        for out in [*plain.get("outs", []), *plain.get("metrics", []), *plain.get("plots", [])]:
            path, how = next(iter(out.items())) if isinstance(out, dict) else (out, {})
            outs[filled(path)] = bool((how or {}).get("cache", True))
        return Entry(
            recipe.name, name, (plain.get("meta") or {}).get("drp", {}).get("op", ""), filled(plain["cmd"]), folder,
            tuple(map(filled, plain.get("deps") or [])), tuple(params), outs, bool(plain.get("frozen")),
            bool(plain.get("always_changed")), Lock.of(lock) if lock else None, recipe.stages.get(name),
        )  # fmt: skip

    def _filled(self, text: str, files: list[str]) -> str:
        """DVC's `${…}`, from the files of `vars`."""

        def found(match: re.Match[str]) -> str:
            values = [self.value(file, match[1].strip()) for file in [*files, "params.yaml"]]
            return next((str(v) for v in values if v is not ABSENT), match[0])

        return re.sub(r"(?<!\\)\$\{([^}]+)\}", found, text)
