"""Runs one stage: hash its inputs, let its op work, hash again, publish everything or nothing."""

import csv
import importlib.metadata
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drp.errors import BackendError, ConfigError, DataError, InputsChanged, StaleCompile, choices
from drp.fingerprint import canonical, of_value
from drp.mortality import die_with_dvc
from drp.op import Report
from drp.pipeline import door, oplock, texts
from drp.pipeline.calling import Call, build_model
from drp.pipeline.compile import OUTPUTS, model_paths, resolved, stage_entry
from drp.pipeline.guard import Inputs, exit_on_sigterm, only_copy
from drp.pipeline.progress import Progress
from drp.pipeline.reads import Reads
from drp.pipeline.work import CountedWork, StageWork, model_identity, write_json
from drp.pipeline.yamlfile import mapping
from drp.project import Project
from drp.recipe.binding import price
from drp.recipe.resolve import resolve_all
from drp.recipe.stages import Recipe, RoleUse, Stage, resolved_file
from drp.records import DroppedRow, Kept, Outcome, TrailWriter, Writer, as_json, count, schema_at, schema_of
from drp.sorting import in_order
from drp.store.completions import Owner, Store

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


REPORTS = (".json", ".md", ".csv")
"""The endings of a report's files."""
UNANSWERED = ("no-completion", "no-reply")
"""Reasons that say nothing of a record, only that its request failed."""


def find(project: Project, recipe: str, slug: str) -> tuple[Recipe, Stage]:
    """The recipe and its stage as they are written now; ConfigError with the choices where there is none."""
    project.recipe(recipe)
    found = resolve_all(project, [recipe])[recipe]
    stages = found.stages
    if slug not in stages or stages[slug].ref.recipe != recipe:
        own = [s for s, stage in stages.items() if stage.ref.recipe == recipe]
        if slug in stages:
            raise ConfigError(f"stage {slug!r} is recipe {stages[slug].ref.recipe!r}'s, which {recipe!r} extends")
        raise ConfigError(f"recipe {recipe!r} has no stage {slug!r}{choices(slug, own)}")
    return found, stages[slug]


def run(project: Project, recipe: str, slug: str) -> None:
    """What dvc runs as `drp stage RECIPE STAGE`."""
    die_with_dvc()
    exit_on_sigterm()
    os.chdir(project.root)
    running = Progress(project.scratch / "progress", recipe, slug)
    with only_copy(project.scratch / "locks", f"{recipe}.{slug}"), running as progress:
        found, stage = find(project, recipe, slug)
        if not door.fresh(project, locks=False):
            _compiled(project, found, stage)
        Run(project, stage).run(progress)


def _compiled(project: Project, recipe: Recipe, stage: Stage) -> None:
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
    if there != resolved(recipe):
        raise StaleCompile(
            f"{generated.relative_to(project.root)} is not what the recipe says now; run `drp compile`, then again"
        )
    for name in (stage.op.name, *oplock.custom(stage.options())):
        oplock.current(project, name)


class Run:
    """One run of one stage, whose files are made in `part`; publishing them is another matter."""

    def __init__(self, project: Project, stage: Stage, part: Path | None = None) -> None:
        self.project, self.stage, self.ref = project, stage, stage.ref
        self.part = part or (project.root / self.ref.data).with_name(f".{self.ref.name}.part")
        self.paths = self._paths()
        self.inputs = Inputs(project.root, self.paths, self._values(stage))
        self.params: dict[str, Any] = mapping(project.params)
        self.counts: Counter[str] = Counter()
        self.call = Call(project, stage, self.params)
        self.fingerprint = oplock.read(project)[stage.op.name].fingerprint  # it is current: see `run`

    def _paths(self) -> list[str]:
        inputs = [f"{ref.data}.parquet" for ref in self.stage.refs()]
        models = [path for use in self.stage.uses() for path in model_paths(self.project, use)]
        sources = [value.data for value in self.stage.sources() if "://" not in value.data]
        prompts = [path.relative_to(self.project.root).as_posix() for path in self._prompts()]
        return list(dict.fromkeys([*inputs, *models, *sources, *prompts]))

    def _prompts(self) -> list[Path]:
        return [p for name in self.stage.prompts.values() for p in self.project.prompt(name).closure]

    def _values(self, stage: Stage) -> dict[str, object]:
        """Everything but files that the outcome depends on, as DVC tracks it."""
        params: dict[str, Any] = mapping(self.project.params)
        values: dict[str, object] = {f"{stage.ref.slug}.{k}": v.data for k, v in stage.values.items()}
        for use in stage.uses():
            here: RoleUse | None = use
            while here:
                values[f"models.{here.role}"] = params.get("models", {}).get(here.role)
                here = here.base
        return values

    def run(self, progress: Progress) -> None:
        """Work and publish; nothing is left behind when anything goes wrong."""
        shutil.rmtree(self.part, ignore_errors=True)
        self.part.mkdir(parents=True)
        identity = of_value([self.inputs.hashes, self.inputs.values, self.fingerprint])
        resume = self.project.scratch / "resume" / identity[:32]
        op = self.stage.op
        progress.expect(op.name, self._total(), several=op.makes_records and op.takes == "one")
        if self.stage.models:
            Store(self.project.store).close()  # made now, if at all: a folder that is new later may be closed by `Reads`
        texts.keep(self.project.store, self._prompts())
        owner = Owner(self.ref.recipe, self.ref.slug)
        roles = {use.role for use in self.stage.uses() if use.stage is None}
        prices = {role: known for role in roles if (known := price(self.params, role))}
        work = StageWork(self.part / "model", resume, self.project.store, progress, owner, prices, self.stage.limits)
        try:
            report = self.make(work, resume, progress.step)
            work.close()
            if report:
                sys.stdout.write(report.table.rstrip() + "\n")
            self._hold()
            self._publish()
            shutil.rmtree(resume, ignore_errors=True)
        finally:
            shutil.rmtree(self.part, ignore_errors=True)

    def make(self, work: CountedWork, resume: Path, step: Callable[[Outcome], None]) -> Report | None:
        """Let the op work, held to the stage's inputs, and write all that the stage makes; the report, of an op that reports."""
        with Reads(self.project, self.stage, self.paths, self.part, resume):
            result = self.call(work)
            if isinstance(result, Report):
                self._report(result)
            else:
                with _closing(result):
                    self._write(result, step)
        if isinstance(result, Report):
            return result
        self._manifest(work)
        return None

    def outputs(self) -> dict[str, Path]:
        """Where each thing that `make` made belongs, from the project's root; a model is a folder."""
        reports = self.stage.op.reports
        base, ends = (self.ref.report, REPORTS) if reports else (self.stage.data, OUTPUTS)
        model = {self.stage.model_path: self.part / "model"} if self.stage.op.makes_model else {}
        return {**model, **{f"{base}{end}": self.part / f"{self.ref.name}{end}" for end in ends}}

    def _hold(self) -> None:
        """InputsChanged where an input or a value is not what it was; also where it cannot be read any more, being a new file
        at a place that was closed to this process (see `Reads`)."""
        try:
            self.inputs.hold(self._values(find(self.project, self.ref.recipe, self.ref.slug)[1]))
        except PermissionError as error:
            raise InputsChanged(f"replaced while the stage ran: {error.filename}. Nothing was published; run it again") from error

    def _total(self) -> int | None:
        """Records of the input, where the op goes through them one after the other."""
        op = self.stage.op
        paths = [self.project.root / f"{ref.data}.parquet" for ref in self.stage.inputs]
        if not paths or op.reports or (op.makes_records and op.takes != "one") or not all(map(Path.exists, paths)):
            return None
        return sum(map(count, paths))

    # -- writing -------------------------------------------------------------------------------------------------------

    def _write(self, outcomes: Iterable[Outcome], step: Callable[[Outcome], None]) -> None:
        op, name, detail, ids = self.stage.op, self.ref.name, "", 0
        if op.takes == "none":  # made here, in any order
            outcomes = in_order(outcomes, lambda o: str(o.record["id"]), self.part)
        with (
            Writer(self.part / f"{name}.parquet", self._schema()) as kept,
            Writer(self.part / f"{name}.dropped.parquet", schema_of(DroppedRow), unique=False) as dropped,
            TrailWriter(self.part / f"{name}.trail.parquet", self._told()) as trail,
        ):
            for outcome in outcomes:
                step(outcome)
                ids += hash(outcome.record["id"])
                if isinstance(outcome, Kept):
                    kept.add(outcome.record)
                    trail.extend(outcome.trail)
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
        if not op.makes_records and self.call.read != kept.rows + dropped.rows:
            raise DataError(
                f"{self.ref.slug}: read {self.call.read} records, kept {kept.rows} and dropped {dropped.rows}: some vanished"
            )
        if not op.makes_records and self.call.ids != ids:
            raise DataError(
                f"{self.ref.slug}: kept and dropped records of other ids than it read; op {op.name!r} must keep them, or say "
                "`MAKES_RECORDS = True` and make ids that extend those of its input (`<id>/…`), or name `parents` in its trail"
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

    def _told(self) -> dict[str, str]:
        """What is the same in all rows of the trail."""
        prompts = {name: self.project.prompt(name).fingerprint() for name in self.stage.prompts.values()}
        return {"op": self.stage.op.name, "fingerprint": self.fingerprint, "prompts": canonical(prompts)}

    def _manifest(self, work: CountedWork) -> None:
        reasons = {k: v for k, v in sorted(self.counts.items()) if k != "kept"}
        models = {
            f"{key}.{label}".rstrip("."): model_identity(build_model(self.project, self.params, use))
            for key, uses in self.stage.models.items() for label, use in uses.items()
        }  # fmt: skip
        write_json(
            self.part / f"{self.ref.name}.manifest.json",
            {
                "recipe": self.ref.recipe, "stage": self.ref.slug, "op": self.stage.op.name, "fingerprint": self.fingerprint,
                "options": self.stage.options(), "models": models,
                "prompts": {name: self.project.prompt(name).fingerprint() for name in self.stage.prompts.values()},
                "inputs": self.inputs.hashes,
                "counts": {"read": self.call.read, "kept": self.counts["kept"], "dropped": reasons},
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

    def _publish(self) -> None:
        for path, made in self.outputs().items():
            target = self.project.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if made.is_dir():
                shutil.rmtree(target, ignore_errors=True)
            os.replace(made, target)


@contextmanager
def _closing(outcomes: Iterable[Outcome]) -> Iterator[None]:
    """Whatever goes wrong, what asks is closed before the stage's lock is let go: connections, money set aside."""
    try:
        yield
    finally:
        if isinstance(outcomes, Generator):
            outcomes.close()


def _versions() -> dict[str, str]:
    found: dict[str, str] = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
