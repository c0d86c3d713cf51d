"""Whether stages were made from what is here now: inputs and values by the locks, and what the manifests say of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drp.auditing.finding import Check, Kind, Why
from drp.auditing.sums import AGAIN, Entry, Sums
from drp.fingerprint import canonical, of_path
from drp.lineage.graph import MANIFEST, Node
from drp.pipeline.compile import stage_entry
from drp.pipeline.locked import Made

OPS = "recipes/ops.lock.yaml"


def remakeable(sums: Sums, entry: Entry) -> tuple[Kind, Why] | None:
    """Why a stage cannot be made anew as it was: what it was made from is not what is here (out of date), or is not here
    (skipped); None where it can be."""
    if why := next(changed(sums, entry), None):
        return "out of date", why
    for path, made in entry.lock.deps.items():
        here = sums.files.md5(path)
        if here != made.md5:
            if here is None:
                return "skipped", Why(f"its input {path} is not here", "what it is made from is not here")
            return "out of date", Why(f"its input {path} is not what its lock names")
    return None


def changed(sums: Sums, entry: Entry) -> Iterator[Why]:
    """What differs from when a stage was made, files apart, each with its cure: code, and values that are others now, or did
    not count then, or count no more."""
    for file, key in entry.lock.params:
        if file == OPS and (why := sums.code(key.removesuffix(".fingerprint"))):
            yield why
    yield from (Why(f"{words}; {AGAIN}") for words in values(sums, entry))


def values(sums: Sums, entry: Entry) -> Iterator[str]:
    """Values that are not what they were when a stage was made, or did not count then, or count no more."""
    for (file, key), value in entry.lock.params.items():
        now = value_at(sums.values(file), key)
        if differ(value, now):
            yield f"{file}: {key}: was {short(value)}, {'it is gone' if now is ABSENT else f'{short(now)} now'}"
    if stage := sums.stages.get(entry.address):
        groups = stage_entry(sums.project, stage)["params"]
        tracked = {(file, key) for group in groups for file, keys in group.items() for key in keys}
        yield from (f"{file}: {key}: was not there" for file, key in sorted(tracked - entry.lock.params.keys()))
        yield from (f"{file}: {key}: counts no more" for file, key in sorted(entry.lock.params.keys() - tracked))


def inputs(sums: Sums) -> Check:
    """Every input in a lock is the out of the stage that made it, or the file as it is now; every value is as it is now."""
    check = Check("inputs", "inputs and values as they are now")
    for entry in sums.scope:
        manifest = sums.manifest(entry.node) if entry.node else {}
        for path, made in entry.lock.deps.items():
            check.looked += 1
            _input(sums, check, entry, path, made, (manifest.get("inputs") or {}).get(path))
        check.looked += len(entry.lock.params)
        if not any(differ(_said(manifest, entry, key), value) for (_, key), value in entry.lock.params.items()):
            for why in changed(sums, entry):  # (where lock and manifest contradict each other, `manifests` says so)
                check.stale(entry.address, *why)
    return check


def _input(sums: Sums, check: Check, entry: Entry, path: str, made: Made, said: str | None) -> None:
    maker = sums.makers.get(path)
    here = sums.files.md5(path)
    if here is None and maker is None:
        pull = f"`{sums.project.pull}` or " if sums.project.pull else ""
        check.skip(path, f"an input of {entry.address} is not here; {pull}`git checkout` brings it")
    elif made.md5 not in (here, maker[1].md5 if maker else here):
        if said is not None and here is not None and of_path(sums.root / path) == said:
            check.fault(
                f"{entry.file}: {entry.slug}", f"the lock was altered: its input {path} has md5 {made.md5}, but what it was "
                f"made from, as its manifest says, has {here}; `git checkout {entry.file}` brings it back"
            )  # fmt: skip
        elif entry.address in sums.away:
            check.note(entry.address, f"{path} has changed since it was made; what is published was made from it as it was then")
        else:
            check.stale(entry.address, f"{path} has changed since it was made; {AGAIN}")


def manifests(sums: Sums) -> Check:
    """Each manifest names its stage, the lock's fingerprint and options, and the hashes of the lock's inputs."""
    check = Check(
        "manifests", "manifests that agree with their locks and inputs", "manifests disagree with their locks or inputs"
    )
    for entry in sums.scope:
        if entry.node is None or entry.node.base is None or entry.recipe in sums.unpulled:
            continue
        place = f"{entry.node.base}{MANIFEST}"
        if manifest := sums.manifest(entry.node):
            check.looked += 1
            cure = f"; `{sums.back(entry, place)}` and `git checkout {entry.file}` bring both back"
            check.faults(place, _contradictions(sums, entry, entry.node, manifest), cure)
        elif entry.address not in sums.away:
            check.skip(place, "not looked at: it is not here as the lock names it")
    return check


def _contradictions(sums: Sums, entry: Entry, node: Node, manifest: dict[str, Any]) -> Iterator[str]:
    for key, value in (("recipe", node.recipe), ("stage", node.slug), ("op", node.op)):
        if manifest.get(key) != value:
            yield f"its {key} is {manifest.get(key)!r}, not {value!r}"
    locked = node.params.get((OPS, f"{node.op}.fingerprint"))
    if manifest.get("fingerprint") != locked:
        yield f"its fingerprint is {manifest.get('fingerprint')}, the lock's is {locked}"
    for (_, key), value in node.params.items():
        if differ(said := _said(manifest, entry, key), value):
            yield f"its option {key.rpartition('.')[2]} is {short(said)}, the lock's is {short(value)}"
    said_inputs: dict[str, str] = manifest.get("inputs") or {}
    for path in sorted({*said_inputs, *node.deps}):
        if path not in said_inputs or path not in node.deps:
            yield f"its input {path} stands only in the {'manifest' if path in said_inputs else 'lock'}"
        elif (bytes_ := _bytes(sums, path, node.deps[path])) and (there := of_path(bytes_)) != said_inputs[path]:
            yield f"its input {path} has sha256 {said_inputs[path]}, but what the lock names has {there}"


def _bytes(sums: Sums, path: str, made: Made) -> Path | None:
    """Where the very bytes of an input are."""
    if sums.files.md5(path) == made.md5:
        return sums.root / path
    there = sums.files.object(made.md5)
    return there if made.md5 and not made.md5.endswith(".dir") and there.exists() else None


class _Absent:
    """In the place of a value that is not there."""


ABSENT = _Absent()


def value_at(data: Any, key: str) -> Any:
    """The value of a dotted key, whose parts may have dots themselves; ABSENT where there is none."""
    if not key:
        return data
    parts = key.split(".")
    for end in range(1, len(parts) + 1):
        name, rest = ".".join(parts[:end]), ".".join(parts[end:])
        if isinstance(data, dict) and name in data and (found := value_at(data[name], rest)) is not ABSENT:
            return found
        if isinstance(data, list) and name.isdigit() and int(name) < len(data):
            return value_at(data[int(name)], rest)
    return ABSENT


def _said(manifest: Mapping[str, Any], entry: Entry, key: str) -> Any:
    """What the manifest says of an option that stands in the lock under this dotted key; ABSENT where it says nothing."""
    head, _, option = key.rpartition(".")
    name = entry.slug.partition("--")[0]
    options = manifest.get("options") or {}
    return options.get(option, ABSENT) if head.endswith(f"stages.{name}") else ABSENT


def differ(one: Any, other: Any) -> bool:
    """Whether two values are there, and not the same as JSON."""
    if one is ABSENT:
        return False
    if other is ABSENT:
        return True
    try:
        return canonical(one) != canonical(other)
    except (TypeError, ValueError):  # a date, NaN
        return repr(one) != repr(other)


def short(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}…"
