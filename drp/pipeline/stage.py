"""Runs one stage: hash its inputs, let its op work, hash again, publish everything or nothing."""

import csv
import importlib.metadata
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from drp.errors import BackendError, ConfigError, DataError, StaleCompile, choices
from drp.fingerprint import of_path, of_value
from drp.models import Endpoint, Model, Sampling
from drp.mortality import die_with_parent
from drp.op import Report
from drp.pipeline import oplock
from drp.pipeline.compile import OUTPUTS, model_paths, resolve_all, resolved, stage_entry
from drp.pipeline.guard import Inputs, exit_on_sigterm, only_copy
from drp.pipeline.work import Progress, StageWork, model_identity, write_json
from drp.pipeline.yamlfile import mapping
from drp.project import Project
from drp.recipe.binding import model as bind
from drp.recipe.resolve import Ref, RoleUse, Stage, resolved_file
from drp.records import DroppedRow, Kept, Outcome, Record, TrailRow, Writer, as_json, count, read, schema_at, schema_of
from drp.sorting import in_order
from drp.store import Owner
from drp.weights import resolve

PACKAGES = (
    "drp",
    "pyarrow",
    "jinja2",
    "datasets",
    "math-verify",
    "reasoning-gym",
    "openai",
    "torch",
    "transformers",
    "peft",
    "vllm",
)
"""Packages whose versions stand in the manifest where they are installed."""


UNANSWERED = ("no-completion", "no-reply")
"""Reasons that say nothing of a record, only that its request failed."""


class Rows:
    """The records of a stage's output; every loop reads the file anew."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Record]:
        return read(self.path)


def find(project: Project, recipe: str, slug: str) -> Stage:
    """The stage as the recipe says it now; ConfigError with the choices where there is none."""
    project.recipe(recipe)
    stages = resolve_all(project, [recipe])[recipe].stages
    if slug not in stages or stages[slug].ref.recipe != recipe:
        own = [s for s, stage in stages.items() if stage.ref.recipe == recipe]
        if slug in stages:
            raise ConfigError(f"stage {slug!r} is recipe {stages[slug].ref.recipe!r}'s, which {recipe!r} extends")
        raise ConfigError(f"recipe {recipe!r} has no stage {slug!r}{choices(slug, own)}")
    return stages[slug]


def run(project: Project, recipe: str, slug: str) -> None:
    """What dvc runs as `drp stage RECIPE STAGE`."""
    die_with_parent()
    exit_on_sigterm()
    os.chdir(project.root)
    with only_copy(project.scratch / "locks", f"{recipe}.{slug}"):
        stage = find(project, recipe, slug)
        _compiled(project, stage)
        Run(project, stage).run()


def _compiled(project: Project, stage: Stage) -> None:
    """StaleCompile where dvc.yaml's stage is not what the recipe compiles to now (a structural edit or `-S`)."""
    path = project.root / "recipes" / stage.ref.recipe / "dvc.yaml"
    known = mapping(path)
    there, here = known.get("stages", {}).get(stage.ref.slug), stage_entry(project, stage)
    if there is None or any(there.get(k) != here.get(k) for k in {*there, *here} - {"desc", "meta", "frozen"}):
        raise StaleCompile(
            f"{path.relative_to(project.root)}: {stage.ref.slug}: the recipe changed its shape since `drp compile`; "
            "run `drp compile`, then again"
        )
    generated = project.root / resolved_file(stage.ref.recipe)
    there = mapping(generated)
    if there != resolved(resolve_all(project, [stage.ref.recipe])[stage.ref.recipe]):
        raise StaleCompile(
            f"{generated.relative_to(project.root)} is not what the recipe says now; run `drp compile`, then again"
        )
    for name in (stage.op.name, *oplock.custom(stage.options())):
        oplock.current(project, name)


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


class Run:
    """One run of one stage."""

    def __init__(self, project: Project, stage: Stage) -> None:
        self.project, self.stage, self.ref = project, stage, stage.ref
        self.part = (project.root / self.ref.data).with_name(f".{self.ref.name}.part")
        self.inputs = Inputs(project.root, self._paths(), self._values(stage))
        self.counts: Counter[str] = Counter()
        self.read = 0

    def _paths(self) -> list[str]:
        refs = [*self.stage.inputs, *(r for rs in self.stage.named.values() for r in rs)]
        uses = [u for us in self.stage.models.values() for u in us.values()]
        prompts = [p for name in self.stage.prompts.values() for p in self.project.prompt(name).closure]
        sources = [
            v.data for k, v in self.stage.values.items()
            if k in self.stage.op.options and self.stage.op.options[k].kind == "source" and "://" not in v.data
        ]  # fmt: skip
        paths = [f"{r.data}.parquet" for r in refs] + [p for u in uses for p in model_paths(self.project, u)] + sources
        return list(dict.fromkeys([*paths, *(p.relative_to(self.project.root).as_posix() for p in prompts)]))

    def _values(self, stage: Stage) -> dict[str, object]:
        """Everything but files that the outcome depends on, as DVC tracks it."""
        params = mapping(self.project.params)
        values: dict[str, object] = {f"{stage.ref.slug}.{k}": v.data for k, v in stage.values.items()}
        for use in (u for us in stage.models.values() for u in us.values()):
            here: RoleUse | None = use
            while here:
                values[f"models.{here.role}"] = params.get("models", {}).get(here.role)
                here = here.base
        return values

    def run(self) -> None:
        """Work and publish; nothing is left behind when anything goes wrong."""
        params = mapping(self.project.params)
        fingerprint = oplock.current(self.project, self.stage.op.name)
        shutil.rmtree(self.part, ignore_errors=True)
        self.part.mkdir(parents=True)
        identity = of_value([self.inputs.hashes, self.inputs.values, fingerprint])
        resume = self.project.scratch / "resume" / identity[:32]
        progress = Progress(f"{self.ref.recipe}/{self.ref.slug}", self._total())
        owner = Owner(self.ref.recipe, self.ref.slug)
        work = StageWork(self.part / "model", resume, self.project.store, progress, owner)
        try:
            result = self._call(params, work)
            if isinstance(result, Report):
                self._report(result)
            else:
                self._write(result, progress)
                work.close()
                self._manifest(params, fingerprint, work)
            self.inputs.hold(self._values(find(self.project, self.ref.recipe, self.ref.slug)))
            self._publish()
            shutil.rmtree(resume, ignore_errors=True)
            progress.end()
        finally:
            shutil.rmtree(self.part, ignore_errors=True)

    def _total(self) -> int | None:
        if self.stage.op.takes != "one" or not self.stage.inputs:
            return None
        path = self.project.root / f"{self.stage.inputs[0].data}.parquet"
        return count(path) if path.exists() and not self.stage.op.makes_records else None

    # -- calling -------------------------------------------------------------------------------------------------------

    def _call(self, params: dict[str, Any], work: StageWork) -> Iterable[Outcome] | Report:
        op = self.stage.op
        first: list[Any] = []
        if op.takes == "one":
            first = [self._counted(self._rows(self.stage.inputs[0]))]
        elif op.takes == "several":
            first = [{label: self._counted(rows) for label, rows in self._labelled(self.stage.inputs).items()}]
        result: Iterable[Outcome] | Report = op.function(*first, work, **self._options(params))
        return result

    def _counted(self, rows: Iterable[Record]) -> Iterator[Record]:
        for record in rows:
            self.read += 1
            yield record

    def _rows(self, ref: Ref) -> Rows:
        return Rows(self.project.root / f"{ref.data}.parquet")

    def _labelled(self, refs: tuple[Ref, ...]) -> dict[str, Rows]:
        for named in (lambda r: r.name, lambda r: r.label, lambda r: r.slug, lambda r: f"{r.recipe}/{r.slug}"):
            found = {named(r): self._rows(r) for r in refs}
            if len(found) == len(refs):
                return found
        raise DataError(f"{self.ref.slug}: an input is named twice: {', '.join(r.slug for r in refs)}")

    def _options(self, params: dict[str, Any]) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for key, value in self.stage.options().items():
            kind = self.stage.op.options[key].kind
            if kind in ("model", "models"):
                built = {label: build_model(self.project, params, use) for label, use in self.stage.models.get(key, {}).items()}
                options[key] = built if kind == "models" else built.get("")
            elif kind == "prompt":
                options[key] = None if value is None else self.project.prompt(value)
            elif kind == "inputs":
                options[key] = self._labelled(self.stage.named[key])
            else:
                options[key] = value
        return options

    # -- writing -------------------------------------------------------------------------------------------------------

    def _write(self, outcomes: Iterable[Outcome], progress: Progress) -> None:
        op, name, detail = self.stage.op, self.ref.name, ""
        if op.takes == "none":  # made here, in any order
            outcomes = in_order(outcomes, lambda o: str(o.record["id"]), self.part)
        with (
            Writer(self.part / f"{name}.parquet", self._schema()) as kept,
            Writer(self.part / f"{name}.dropped.parquet", schema_of(DroppedRow), unique=False) as dropped,
            Writer(self.part / f"{name}.trail.parquet", schema_of(TrailRow), key="record", unique=False) as trail,
        ):
            for outcome in outcomes:
                progress.step(not isinstance(outcome, Kept))
                if isinstance(outcome, Kept):
                    kept.add(outcome.record)
                    for row in outcome.trail:
                        trail.add(row)
                    continue
                self.counts[outcome.reason] += 1
                detail = outcome.detail
                dropped.add(
                    DroppedRow(id=outcome.record["id"], stage=self.ref.slug, reason=outcome.reason, detail=outcome.detail,
                               reply=outcome.reply, record=as_json(outcome.record))
                )  # fmt: skip
        self.counts["kept"] = kept.rows
        if dropped.rows and not kept.rows and set(self.counts) <= {"kept", *UNANSWERED}:
            raise BackendError(
                f"{self.ref.slug}: not one of {dropped.rows} requests was answered; nothing was published. The last one: {detail}"
            )
        if not op.makes_records and self.read != kept.rows + dropped.rows:
            raise DataError(
                f"{self.ref.slug}: read {self.read} records, kept {kept.rows} and dropped {dropped.rows}: some vanished"
            )

    def _schema(self) -> Any:
        op = self.stage.op
        if op.takes == "none" or op.replaces or not self.stage.inputs:
            return schema_of(op.adds)
        schemas = [schema_at(self.project.root / f"{r.data}.parquet") for r in self.stage.inputs]
        base = schemas[0]
        for other in schemas[1:]:
            for column in other:
                if column.name not in base.names:
                    base = base.append(column)
        return schema_of(op.adds, base) if op.adds else base

    def _manifest(self, params: dict[str, Any], fingerprint: str, work: StageWork) -> None:
        reasons = {k: v for k, v in sorted(self.counts.items()) if k != "kept"}
        models = {
            f"{key}.{label}".rstrip("."): model_identity(build_model(self.project, params, use))
            for key, uses in self.stage.models.items() for label, use in uses.items()
        }  # fmt: skip
        write_json(
            self.part / f"{self.ref.name}.manifest.json",
            {
                "recipe": self.ref.recipe, "stage": self.ref.slug, "op": self.stage.op.name, "fingerprint": fingerprint,
                "options": self.stage.options(), "models": models,
                "prompts": {name: self.project.prompt(name).fingerprint() for name in self.stage.prompts.values()},
                "inputs": self.inputs.hashes,
                "counts": {"read": self.read, "kept": self.counts["kept"], "dropped": reasons},
                "usage": work.usage(), "packages": _versions(),
            },
        )  # fmt: skip

    def _report(self, report: Report) -> None:
        name = self.ref.name
        write_json(self.part / f"{name}.json", report.metrics)
        (self.part / f"{name}.md").write_text(report.table.rstrip() + "\n", encoding="utf-8")
        with (self.part / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            columns = list(dict.fromkeys(k for row in report.rows for k in row))
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(report.rows)
        sys.stdout.write(report.table.rstrip() + "\n")

    def _publish(self) -> None:
        root, name = self.project.root, self.ref.name
        ends = (".json", ".md", ".csv") if self.stage.op.reports else OUTPUTS
        base = self.ref.report if self.stage.op.reports else self.stage.data
        if self.stage.op.makes_model:
            target = root / self.stage.model_path
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.part / "model", target)
        for end in ends:
            (root / base).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.part / f"{name}{end}", root / f"{base}{end}")


def _versions() -> dict[str, str]:
    found: dict[str, str] = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
