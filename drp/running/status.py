"""The status of stages while they run and after: read from what they say, what the kernel knows, and never through DVC."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from drp.pipeline.progress import Snapshot, line, load
from drp.processes import alive, command, lockers
from drp.project import Project


class Holder(NamedTuple):
    """A process that holds a stage's lock."""

    stage: str
    pid: int
    command: str


def stages(project: Project, names: Sequence[str] = ()) -> list[Snapshot]:
    """Every stage of these recipes (default: of all) that runs or ran, as it is now, in the order in which they began."""
    found = [seen for path in (project.scratch / "progress").glob("*.json") if (seen := load(path))]
    mine = [seen for seen in found if (not names or seen.recipe in names) and _declared(project, seen)]
    return sorted(map(as_it_is, mine), key=lambda seen: (seen.started, seen.name))


def as_it_is(seen: Snapshot) -> Snapshot:
    """As it is: a process that was killed had no time to say so."""
    return replace(seen, state="killed", sent=0) if seen.state == "running" and not alive(seen.pid, seen.born) else seen


def _declared(project: Project, seen: Snapshot) -> bool:
    """Whether the stage is still one of its recipe."""
    try:
        text = (project.root / "recipes" / seen.recipe / "dvc.yaml").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return f"cmd: drp stage {seen.recipe} {seen.stage}\n" in text


def holders(project: Project, names: Sequence[str] = ()) -> list[Holder]:
    """Who holds which stage's lock, of these recipes (default: of all)."""
    found = [(path.stem.rpartition("."), path) for path in sorted((project.scratch / "locks").glob("*.lock"))]
    mine = [(f"{recipe}/{stage}", path) for (recipe, _, stage), path in found if not names or recipe in names]
    return [Holder(name, pid, command(pid)) for name, path in mine for pid in lockers(path)]


def lines(now: float, seen: Sequence[Snapshot], held: Sequence[Holder]) -> list[str]:
    """One line a stage; and one for each lock that is not held by the stage's own process, as these lines know it."""
    width = max((len(one.name) for one in seen), default=0)
    shown = [f"{one.name:{width}}  {one.state:11}  {line(now, one)}{_more(one)}" for one in seen]
    known = {(one.name, one.pid) for one in seen if one.state == "running"}
    return shown + [f"{h.stage}: its lock is held by pid {h.pid} ({h.command})" for h in held if (h.stage, h.pid) not in known]


def _more(seen: Snapshot) -> str:
    parts = [f"; asked {asked}, served by {', '.join(names)}" for asked, names in seen.served.items()]
    if seen.state == "running":
        parts.append(f"; pid {seen.pid}")
    if seen.state == "failed":
        parts.append(f"; exit {seen.exit_code}: {seen.message}")
    return "".join(parts)


def plain(now: float, seen: Sequence[Snapshot], held: Sequence[Holder]) -> dict[str, Any]:
    """The same for programs: `seconds` and `left` worked out."""
    return {
        "stages": [{**asdict(one), "seconds": round(one.seconds(now), 3), "left": one.left(now)} for one in seen],
        "locks": [holder._asdict() for holder in held],
    }
