"""What was edited in the workspace and has not run yet, and which stages are still made of what was there before."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from drp.errors import DrpError
from drp.pipeline.locked import Files
from drp.planning.entries import Entries, Entry
from drp.planning.forecast import Fate, Forecast
from drp.planning.why import Code, Command, Input, New, Output, Param, Prompt, Upstream
from drp.project import Project


@dataclass(frozen=True)
class Unrun:
    """`edited` says of each file, value or op the stages that were made of it as it was; `stale` are stages that were made of
    what other stages made before, `never` those that never ran; all by their addresses. `unread`: why nothing is known."""

    edited: tuple[tuple[str, tuple[str, ...]], ...] = ()
    stale: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    unread: str = ""

    def __bool__(self) -> bool:
        return bool(self.edited or self.stale or self.never or self.unread)

    @property
    def recipes(self) -> list[str]:
        """The recipes of these stages."""
        stages = [*(stage for _, those in self.edited for stage in those), *self.stale, *self.never]
        return list(dict.fromkeys(stage.partition("/")[0] for stage in stages))

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        edited = [{"what": what, "stages": list(stages)} for what, stages in self.edited]
        return {"edited": edited, "out of date": list(self.stale), "never run": list(self.never), "unread": self.unread}


NOTHING = Unrun()


def unrun(project: Project, recipes: Iterable[str]) -> Unrun:
    """Of these recipes, with all that they are made from up to what is published; data that are not here tell nothing."""
    try:
        forecast = Forecast(entries := Entries(project), Files(project), None)
        fates = [fate for name in dict.fromkeys(recipes) for fate in forecast.of(name)]
    except DrpError as error:  # the recipes, as they lie here, say nothing; what was made is compared all the same
        return Unrun(unread=str(error).splitlines()[0])
    edited: dict[str, list[str]] = {}
    stale, never, behind = list[str](), list[str](), _behind_published(entries)
    for fate in {fate.entry.address: fate for fate in fates}.values():
        address = fate.entry.address
        if fate.entry.stage is None or fate.state in ("up to date", "frozen"):
            continue
        if address in behind and any(isinstance(reason, Output) and reason.fate == "missing" for reason in fate.reasons):
            continue
        if any(isinstance(reason, New) for reason in fate.reasons):
            never.append(address)
        elif known := [what for reason in fate.reasons if (what := _edited(entries, fate.entry, reason))]:
            for each in dict.fromkeys(known):
                edited.setdefault(each, []).append(address)
        elif _outrun(entries, fate, {*stale, *never, *(name for those in edited.values() for name in those)}):
            stale.append(address)
    return Unrun(tuple((what, tuple(those)) for what, those in edited.items()), tuple(stale), tuple(never))


def _edited(entries: Entries, entry: Entry, reason: object) -> str | None:
    """What somebody edited, where that is the reason; None where a stage made it so, or something was lost."""
    match reason:
        case Param(file=file, key=key):
            return f"{entry.at(file)}: {key}"
        case Code(op=op):
            return f"code of {op}"
        case Prompt(path=path):
            return path
        case Input(path=path, new=new) if new is not None and not entries.makers_of(path):
            return path
        case Command():
            return f"recipes/{entry.recipe}/dvc.yaml"
    return None


def _behind_published(entries: Entries) -> set[str]:
    """The stages that only what is published was made from: they need not be here."""
    users: dict[str, list[Entry]] = {}
    for entry in entries.all.values():
        for up in (up for path in entry.deps if entry.stage for up in entries.makers_of(entry.at(path))):
            users.setdefault(up.address, []).append(entry)
    found, before = set[str](), -1
    while len(found) > before:
        before = len(found)
        found |= {name for name, those in users.items() if all(user.frozen or user.address in found for user in those)}
    return found


def _outrun(entries: Entries, fate: Fate, before: set[str]) -> bool:
    """Whether a stage was made of what others made otherwise since, or will."""
    remade = any(isinstance(r, Input) and r.new is not None and entries.makers_of(r.path) for r in fate.reasons)
    return remade or any(isinstance(r, Upstream) and before & set(r.stages) for r in fate.reasons)
