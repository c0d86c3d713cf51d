"""Whether locks name what is compiled: inputs, outs and commands as in dvc.yaml, and dvc.yaml as the recipes say."""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drp.auditing.current import ABSENT, OPS, value_at, values
from drp.auditing.finding import Check
from drp.auditing.sums import AGAIN, Entry, Sums, entries
from drp.errors import ConfigError
from drp.lineage.graph import MANIFEST
from drp.lineage.snapshot import Snapshot
from drp.pipeline.compile import counts_entry, stage_entry
from drp.pipeline.locked import Lock
from drp.recipe.stages import Recipe


@dataclass(frozen=True)
class Compiled:
    """A stage as dvc.yaml has it, paths from the project's root; `ours` where drp wrote it."""

    recipe: str
    slug: str
    cmd: Any
    deps: frozenset[str]
    outs: frozenset[str]
    ours: bool

    @property
    def address(self) -> str:
        """`<recipe>/<stage>`."""
        return f"{self.recipe}/{self.slug}"


def named(sums: Sums, recipes: Mapping[str, Recipe]) -> Check:
    """Every lock entry beside the stage of dvc.yaml, every stage of dvc.yaml beside the recipe's; stages that have been made,
    and that no lock names."""
    check = Check("locks", "stages whose locks name what is compiled", "stages have locks that do not name what is compiled")
    compiled = {c.address: c for name in _pipelines(sums) for c in _compiled(sums, name)}
    for name in sorted(sums.asked or _pipelines(sums)):
        for slug in _unlike(sums, name, recipes.get(name)):
            words = "is not what the recipe compiles to now; `drp compile` writes it, then `dvc repro`"
            check.stale(f"recipes/{name}/dvc.yaml: {slug}", words)
    for entry in sums.scope:
        if found := compiled.get(entry.address):
            check.looked += 1
            _held(sums, check, entry, found)
        elif not _spread(sums, entry):
            words = "stands in the lock, but dvc.yaml has no such stage now; `drp compile` takes it away, if it is drp's"
            check.stale(f"{entry.file}: {entry.slug}", words)
    known = entries(sums.graph)
    read = {path: entry.address for entry in sums.scope if not entry.frozen for path in entry.lock.deps}
    for address, stage in compiled.items():
        if address not in known:
            _unlocked(sums, check, stage, read)
    return check


def _held(sums: Sums, check: Check, entry: Entry, stage: Compiled) -> None:
    """A lock entry beside its stage: a fault where nothing that has changed since explains what differs."""
    altered, since = list[str](), list[str]()
    if _words(entry.lock.cmd) != _words(stage.cmd):
        altered.append(f"it ran {entry.lock.cmd!r}, dvc.yaml says {stage.cmd!r}")
    now = sums.stages.get(entry.address)
    for kind, locked, there in (("input", entry.lock.deps, stage.deps), ("out", entry.lock.outs, stage.outs)):
        names = frozenset(map(posixpath.normpath, locked))
        lacking, more = there - names, names - there
        if kind == "out" and now and (lacking | more) == {now.model_path}:  # its op trains now, or does no more
            explained = sums.code(now.op.name) is not None
        else:  # one path in the place of another: what it reads was published, or is no more
            explained = bool(lacking and more) or (kind == "input" and _edited(sums, entry))
        words = [f"its lock does not name the {kind} {path}, dvc.yaml does" for path in sorted(lacking)]
        words += [f"its lock names the {kind} {path}, dvc.yaml does not" for path in sorted(more)]
        (since if explained else altered).extend(words)
    place = f"{entry.file}: {entry.slug}"
    if not stage.ours:
        since, altered = [*altered, *since], []
    cure = f": the lock was altered; `git checkout {entry.file}` brings it back, or `dvc repro` makes the stage anew"
    check.faults(place, altered, cure)
    check.faults(place, since, f"; {AGAIN}", "out of date")


def _edited(sums: Sums, entry: Entry) -> bool:
    """Whether a stage's values, or its files (a prompt that includes another now), are others than when it was made."""
    files = any(sums.files.md5(path) not in (None, made.md5) for path, made in entry.lock.deps.items())
    return files or any(True for _ in values(sums, entry))


def _unlocked(sums: Sums, check: Check, stage: Compiled, read: Mapping[str, str]) -> None:
    """A stage that no lock names: it has never run, or its entry was taken away."""
    asked = stage.recipe in sums.asked or not sums.asked
    here = sorted(path for path in stage.outs if asked and (sums.root / path).exists())
    reader = next((f"{read[path]} was made from {path}" for path in sorted(stage.outs) if path in read), None)
    file = f"recipes/{stage.recipe}/dvc.lock"
    if not here and reader is None:
        return
    there = f"{here[0]} lies here" if here else reader
    if not stage.ours or _otherwise(sums, stage):
        check.stale(f"{file}: {stage.slug}", f"the lock does not name this stage any more, and {there}; {AGAIN}")
    else:
        check.fault(
            f"{file}: {stage.slug}", f"the lock does not name this stage, but {there}: its entry was taken away; "
            f"`git checkout {file}` brings it back, or `dvc repro` makes the stage anew"
        )  # fmt: skip


def _otherwise(sums: Sums, stage: Compiled) -> bool:
    """Whether what a stage made was made by another recipe than there is now: then `drp compile` takes its entry away."""
    now = sums.stages.get(stage.address)
    if now is None:
        return False
    tracked = {(file, key) for group in stage_entry(sums.project, now)["params"] for file, keys in group.items() for key in keys}
    try:
        before = Snapshot(sums.project, "HEAD").mapping(f"recipes/{stage.recipe}/dvc.lock").get("stages") or {}
    except ConfigError:  # no repository, or no commit
        before = {}
    if stage.slug in before:
        return bool(Lock.of(before[stage.slug]).params.keys() - tracked)
    manifest = sums.root / f"{now.data}{MANIFEST}"
    try:
        said: Any = json.loads(manifest.read_bytes()) if manifest.exists() and not now.op.reports else {}
    except ValueError:
        return False
    options = said.get("options", {})
    return bool(options.keys() - now.options().keys()) or (
        bool(said) and said.get("fingerprint") != value_at(sums.values(OPS), f"{now.op.name}.fingerprint")
    )


# -- dvc.yaml ------------------------------------------------------------------------------------------------------------------


def _pipelines(sums: Sums) -> list[str]:
    return sorted(m[1] for path in sums.snapshot.files if (m := re.fullmatch(r"recipes/([^/]+)/dvc\.yaml", path)))


def _unlike(sums: Sums, name: str, recipe: Recipe | None) -> Iterator[str]:
    """The stages of drp's in which a dvc.yaml differs from what the recipe compiles to; one that is thawed does not."""
    plain = sums.values(f"recipes/{name}/dvc.yaml").get("stages") or {}
    there = {slug: entry for slug, entry in plain.items() if isinstance(entry, dict) and "drp" in (entry.get("meta") or {})}
    own = list(recipe.own()) if recipe else []
    here = {stage.ref.slug: stage_entry(sums.project, stage) for stage in own}
    if recipe and any(not stage.op.reports for stage in own):
        here["counts"] = counts_entry(recipe)
    for slug in sorted({*there, *here}):
        one, other = there.get(slug), here.get(slug)
        if one is None or other is None:
            yield slug
            continue
        passed = {"desc"} if "frozen" in one else {"desc", "frozen"}
        if any(one.get(key) != other.get(key) for key in {*one, *other} - passed):
            yield slug


def _spread(sums: Sums, entry: Entry) -> bool:
    """Whether a stage is in dvc.yaml, but written so that DVC alone can read it: `foreach`, `matrix`, templates."""
    return entry.slug.partition("@")[0] in (sums.values(f"recipes/{entry.recipe}/dvc.yaml").get("stages") or {})


def _compiled(sums: Sums, name: str) -> Iterator[Compiled]:
    """The stages of a dvc.yaml that are plain, their `${…}` filled in from the files of `vars`."""
    home = f"recipes/{name}"
    document = sums.values(f"{home}/dvc.yaml")
    for slug, plain in (document.get("stages") or {}).items():
        if not isinstance(plain, dict) or "foreach" in plain or "matrix" in plain or not plain.get("cmd"):
            continue
        folder = _at(home, str(plain.get("wdir") or "."))
        given = [_at(home, "params.yaml"), *(_at(home, v) for v in document.get("vars") or [] if isinstance(v, str))]
        files = [*given, *(_at(folder, v) for v in plain.get("vars") or [] if isinstance(v, str))]
        made = [*plain.get("outs", []), *plain.get("metrics", []), *plain.get("plots", [])]
        outs = [next(iter(out)) if isinstance(out, dict) else out for out in made]
        cmd, *paths = (_filled(sums, text, files) for text in (_words(plain["cmd"]), *(plain.get("deps") or []), *outs))
        if any(text is None for text in (cmd, *paths)):
            continue
        put = [_at(folder, str(path)) for path in paths]
        count = len(plain.get("deps") or [])
        yield Compiled(name, slug, cmd, frozenset(put[:count]), frozenset(put[count:]), "drp" in (plain.get("meta") or {}))


def _filled(sums: Sums, text: Any, files: list[str]) -> str | None:
    """A text of dvc.yaml with its values; None where they are not plainly there."""

    def value(match: re.Match[str]) -> str:
        found = (value_at(sums.values(file), match[1].strip()) for file in files if file.endswith((".yaml", ".yml")))
        return next((str(v) for v in found if v is not ABSENT and isinstance(v, str | int | float)), "${")

    filled = re.sub(r"\$\{([^}]*)\}", value, str(text))
    return None if "${" in filled or "://" in filled else filled


def _words(cmd: Any) -> str:
    return "\n".join(map(str, cmd)) if isinstance(cmd, list) else str(cmd)


def _at(folder: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(folder, path))
