"""Calls an op: its function, with the records and the options of its stage."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from drp.errors import ConfigError, DataError, choices
from drp.fingerprint import of_path
from drp.models import Endpoint, Model, Sampling
from drp.op import Report, Work
from drp.pipeline import oplock
from drp.pipeline.compile import model_paths
from drp.pipeline.yamlfile import mapping
from drp.project import Project
from drp.recipe.binding import model as bind
from drp.recipe.stages import Ref, RoleUse, Stage
from drp.records import Outcome, Record, read
from drp.weights import resolve


class Rows:
    """The records of a stage's output; every loop reads the file anew."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Record]:
        return read(self.path)


class Call:
    """One call of a stage's op; `read` counts the records of its input, `ids` adds up the hashes of their ids."""

    def __init__(self, project: Project, stage: Stage, params: dict[str, Any]) -> None:
        self.project, self.stage, self.params = project, stage, params
        self.read = self.ids = 0

    def __call__(self, work: Work) -> Iterable[Outcome] | Report:
        """What the op makes: outcomes, as they come, or a report."""
        op = self.stage.op
        first: list[Any] = []
        if op.takes == "one":
            first = [self._counted(self.rows(self.stage.inputs[0]))]
        elif op.takes == "several":
            first = [{label: self._counted(rows) for label, rows in self._labelled(self.stage.inputs).items()}]
        result: Iterable[Outcome] | Report = op.function(*first, work, **self._options())
        return result

    def rows(self, ref: Ref) -> Iterable[Record]:
        """The records of a stage."""
        return Rows(self.project.root / f"{ref.data}.parquet")

    def model(self, use: RoleUse) -> Model:
        """The model that a role means here."""
        return build_model(self.project, self.params, use)

    def _counted(self, rows: Iterable[Record]) -> Iterator[Record]:
        for record in rows:
            self.read += 1
            self.ids += hash(record["id"])
            yield record

    def _labelled(self, refs: tuple[Ref, ...]) -> dict[str, Iterable[Record]]:
        for named in (lambda r: r.name, lambda r: r.label, lambda r: r.slug, lambda r: f"{r.recipe}/{r.slug}"):
            found = {named(r): self.rows(r) for r in refs}
            if len(found) == len(refs):
                return found
        raise DataError(f"{self.stage.ref.slug}: an input is named twice: {', '.join(r.slug for r in refs)}")

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for key, value in self.stage.options().items():
            kind = self.stage.op.options[key].kind
            if kind in ("model", "models"):
                built = {label: self.model(use) for label, use in self.stage.models.get(key, {}).items()}
                options[key] = built if kind == "models" else built.get("")
            elif kind == "prompt":
                options[key] = None if value is None else self.project.prompt(value)
            elif kind == "inputs":
                options[key] = self._labelled(self.stage.named[key])
            else:
                options[key] = value
        return options


def build_model(project: Project, params: dict[str, Any], use: RoleUse) -> Model:
    """The model that a role means here, identified by content where it is a folder of this project."""
    if use.stage is None:
        entry = params.get("models", {}).get(use.role, {})
        if entry.get("name") == oplock.RULES:
            return bind(params, use.role, oplock.current(project, oplock.RULES))
        return bind(params, use.role, _content(project, entry, model_paths(project, use)))
    folder = project.root / use.folder
    if use.base is None:
        return Model(use.role, use.folder, Sampling(), Endpoint("transformers"), content=of_path(folder))
    base = build_model(project, params, use.base)
    if base.adapter:
        raise ConfigError(
            f"{use.role}: an adapter on top of an adapter ({base.adapter}) cannot be loaded; train it on the base model"
        )
    return replace(base, role=use.role, adapter=str(folder), adapter_hash=of_path(folder))


def _content(project: Project, entry: dict[str, Any], paths: list[str]) -> str | None:
    """What identifies weights that lie here: a folder of the project, or a package's files; None for a hub id."""
    if paths:
        return of_path(project.root / paths[0])
    if str(entry.get("name")).startswith("pkg://"):
        return of_path(Path(resolve(entry["name"])) / entry.get("file", ""))
    return None


def model_of(project: Project, role: str) -> Model:
    """A model of params.yaml by its name; ConfigError with the choices where there is none."""
    params = mapping(project.params)
    known = params.get("models", {})
    if role not in known:
        raise ConfigError(f"params.yaml: models: no {role!r}{choices(role, known)}")
    return build_model(project, params, RoleUse(role))
