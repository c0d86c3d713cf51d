"""A difference as a person reads it: counts first, then what made it so, metrics side by side, and a few records in full."""

from collections.abc import Iterable, Iterator
from typing import Any

from drp.comparing.alone import Alone
from drp.comparing.comparison import BY_HAND, FATES, NOT_LOADED, NOT_MADE, Comparison
from drp.comparing.contrast import painted
from drp.comparing.contrast import told as contrasted
from drp.comparing.difference import Difference, Metric
from drp.comparing.unrun import Unrun
from drp.lineage.branch import short
from drp.planning.telling import told
from drp.planning.why import Code, Reason

ROWS = 12
"""Kinds of changed actions that are shown; all of them with `--full`."""
SKILLS = 4
WHAT = {"words": "other words", "group": "another group", "reason": "another reason"}
LOST = {
    ("gone", NOT_LOADED): "not loaded any more", ("gone", NOT_MADE): "not made any more",
    ("added", NOT_LOADED): "was not loaded", ("added", NOT_MADE): "was not made",
    ("gone", BY_HAND): "not in the file any more, which was changed by hand", ("added", BY_HAND): "was not in the file",
}  # fmt: skip


def lines(found: Difference, most: int, full: bool = False, colour: bool = False) -> Iterator[str]:
    """The whole text; `most` records of each fate."""
    yield from _files(found)
    yield from _alone(found.alone, full)
    yield from _same(found, full)
    differing = [comparison for comparison in found.comparisons if not comparison.same]
    for comparison in differing:
        yield from _summary(comparison, full)
        if comparison.record:
            yield from _records(comparison, most, full, colour)
    yield from _causes(found, full)
    yield from _metrics(found.metrics, full)
    for comparison in differing:
        if not comparison.record:
            yield from _records(comparison, most, full, colour)
    yield from _unrun(found.unrun)


def _same(found: Difference, full: bool) -> Iterator[str]:
    """Data sets that are the same; those that are not here are so by their locks, which agree."""
    words = "the same in" if not found.none else "no outcome differs between" if found.unrun else "nothing differs between"
    same = [comparison for comparison in found.comparisons if comparison.same]
    lacking = [c for c in same if any(each.fate == "missing" for each in c.faults)]
    named = [(c, f"{c.record} in {_called(c)}" if c.record else _called(c)) for c in same]
    here, away = ([name for c, name in named if (c in lacking) is there] for there in (False, True))
    told = [f"{_listed(here, full)}, the same bytes"] if here else []
    told += [f"{_listed(away, full)}, by their locks ({'they are' if len(away) > 1 else 'it is'} not here)"] if away else []
    if told:
        yield f"{words} {found.old} and {found.new}: {'; '.join(told)}"


def _unrun(left: Unrun) -> Iterator[str]:
    """What the workspace has that was not run: what was edited, and what was made of what was there before."""

    def called(stages: Iterable[str]) -> str:
        alone = f"{left.recipes[0]}/" if len(left.recipes) == 1 else ""
        return ", ".join(stage.removeprefix(alone) for stage in stages)

    told = [f"{what} → {called(stages)}" for what, stages in left.edited]
    parts = [f"edited, not yet run: {', '.join(told)}"] if told else []
    parts += [f"out of date: {called(left.stale)}"] if left.stale else []
    parts += [f"never run: {called(left.never)}"] if left.never else []
    if left.unread:
        yield f"what was edited and not yet run is not known: {left.unread}"
    elif parts:
        yield f"{'; '.join(parts)} (`drp plan{f' {left.recipes[0]}' if len(left.recipes) == 1 else ''}`)"


def _files(found: Difference) -> Iterator[str]:
    for file in found.files:
        if file.fate != "missing":
            yield f"{file.path} is not what its lock names (`dvc status`): compared is what lies there"


def _alone(found: Iterable[Alone], full: bool) -> Iterator[str]:
    for each in found:
        inside = [_held(dataset) for dataset in each.datasets]
        match each.kind:
            case "recipe":
                words = f"recipe {each.name}" + (f": {_listed(inside, full)}" if inside else " (it has made no records)")
            case "report":
                words = f"report {each.name}"
            case _:
                words = _held(each)
        yield f"only in {each.state}: {words}"


def _held(dataset: Alone) -> str:
    twin = f"; the same bytes as {dataset.twin}" if dataset.twin else ""
    return f"{dataset.name} ({'not here' if dataset.records is None else f'{dataset.records:,} records'}{twin})"


def _called(comparison: Comparison) -> str:
    old, new = comparison.old.node.address, comparison.new.node.address
    return old if old == new else f"{old} and {new}"


# -- counts ----------------------------------------------------------------------------------------------------------------


def _summary(comparison: Comparison, full: bool) -> Iterator[str]:
    counts = comparison.counts
    old, new = comparison.old, comparison.new
    title = f"{old.node.address}: {old.name} → {new.name}" if old.node.address == new.node.address else _called(comparison)
    if comparison.record:
        yield title + (f": {counts['same']} of {comparison.record} the same" if counts["same"] else "")
        return
    yield title
    yield (
        f"  {counts['old']:,} → {counts['new']:,} records: {counts['same']:,} the same, {counts['changed']:,} changed, "
        f"{counts['gone']:,} gone, {counts['added']:,} added"
    )
    if comparison.characters:
        yield "  characters: " + "; ".join(f"{name} {_change(*both)}" for name, both in comparison.characters.items())
    for side, names in comparison.alone.items():
        if names:
            yield f"  columns of {(old if side == 'old' else new).name} alone: {', '.join(names)}"
    yield from _listing(
        "changed first at stage, in records (and of these in columns)",
        ((r["stage"], r["records"], _counted(r["columns"])) for r in comparison.first),
    )
    yield from _actions(comparison, full)
    for fate in FATES[1:]:
        rows = comparison.lost("gone" if fate == "gone" else "added")
        words = "gone at" if fate == "gone" else f"added; in {old.name} lost at"
        yield from _listing(words, ((r["stage"], r["records"], LOST.get((fate, r["reason"]), r["reason"])) for r in rows))


def _actions(comparison: Comparison, full: bool) -> Iterator[str]:
    """Changed actions by kind, each with the skills that it befell most."""
    kinds: dict[str, dict[str, int]] = {}
    for row in comparison.actions:
        kind = f"{row['old']} → {row['new']}" if row["what"] == "action" else f"{row['old']}, {WHAT[row['what']]}"
        kinds.setdefault(kind, {})[row["skill"]] = row["steps"]
    ordered = sorted(kinds.items(), key=lambda item: (" → " not in item[0], -sum(item[1].values())))
    shown = ordered if full else ordered[:ROWS]
    yield from _listing("steps of changed records", ((kind, sum(n.values()), _counted(n, full)) for kind, n in shown))
    if len(ordered) > len(shown):
        yield f"    and {len(ordered) - len(shown)} kinds more (--full)"
    cut = comparison.cut
    if cut["old"] or cut["new"]:
        yield f"    cut otherwise: {cut['old']:,} steps of the old state are {cut['new']:,} of the new one"


def _listing(title: str, rows: Iterable[tuple[str, int, str]]) -> Iterator[str]:
    known = list(rows)
    if known:
        yield f"  {title}"
        width, digits = max(len(name) for name, *_ in known), max(len(f"{count:,}") for _, count, _ in known)
        yield from (f"    {name:<{width}}  {count:>{digits},}  {words}".rstrip() for name, count, words in known)


def _counted(counts: dict[str, int], full: bool = False) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    some = ordered if full else ordered[:SKILLS]
    more = f" and {len(ordered) - len(some)} more" if len(ordered) > len(some) else ""
    return ", ".join(f"{name} {count:,}" for name, count in some) + more


def _change(old: int, new: int) -> str:
    share = f" ({(new - old) / old:+.1%})" if old and new != old else ""
    return f"{old:,} → {new:,}{share}"


# -- what made it so, and what came of it ------------------------------------------------------------------------------------


def _causes(found: Difference, full: bool) -> Iterator[str]:
    if found.causes:
        yield "made otherwise"
    elif any(not comparison.same for comparison in found.comparisons):
        yield "made of the same values, prompts, code and sources, by the locks of both"
    for stage, reasons in found.causes:
        yield f"  {stage}"
        for reason in reasons:
            yield from (f"    {line}" for line in _reason(reason, full))


def _reason(reason: Reason, full: bool) -> Iterator[str]:
    if isinstance(reason, Code):
        yield f"op {reason.op}: {reason.old} → {reason.new}" + (" (its code, not its version)" if reason.what == "code" else "")
    else:
        yield from told(reason, full)


def _metrics(metrics: Iterable[Metric], full: bool) -> Iterator[str]:
    shown = [m for m in metrics if full or m.old != m.new]
    rows = [(f"{m.stage}: {m.name}", _number(m.old), _number(m.new), _signed(m)) for m in shown]
    if rows:
        yield "metrics"
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for name, *values in rows:
            yield "  ".join([f"  {name:<{widths[0]}}", *(f"{v:>{w}}" for v, w in zip(values, widths[1:], strict=True))]).rstrip()


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else f"{value}"


def _signed(metric: Metric) -> str:
    return f"{metric.difference:+.4g}" if metric.difference else ""


# -- records -----------------------------------------------------------------------------------------------------------------


def _records(comparison: Comparison, most: int, full: bool, colour: bool) -> Iterator[str]:
    for number, record in enumerate(comparison.records("changed", most)):
        yield from [""] * (number > 0 or comparison.record is None)
        yield from _changed(record, full, colour)
    for fate in FATES:
        rows = [] if fate == "changed" else list(comparison.records(fate, most))
        yield from [""] * (bool(rows) and comparison.record is None)
        yield from (_lost(record, colour) for record in rows)
        if not comparison.record and most and (left := comparison.counts[fate] - most) > 0:
            yield f"and {left:,} more {fate} (-n {comparison.counts[fate]})"


def _lost(record: dict[str, Any], colour: bool) -> str:
    reason = LOST.get((record["state"], record["reason"]), record["reason"])
    detail = f" ({short(record['detail'])})" if record["detail"] else ""
    gone = record["state"] == "gone"
    return painted("-" if gone else "+", f"{record['state']} {record['id']}{'' if gone else ', before'}: "
                   f"{record['stage']}: {reason}{detail}", colour)  # fmt: skip


def _changed(record: dict[str, Any], full: bool, colour: bool) -> Iterator[str]:
    stages = {record["stage"]: record["columns"], **record["then"]}
    told = (f"stage {stage} changed column{'s' * (len(names) > 1)} {', '.join(names)}" for stage, names in stages.items())
    yield f"changed {record['id']}: {'; '.join(told)}"
    for name, sides in record["values"].items():
        yield f"  {name}: {_number(sides['old'])} → {_number(sides['new'])}"
    acted = [a for a in record["actions"] if full or a["what"] not in ("reason", "cut")]
    for action in acted:
        yield from (f"  {line}" for line in _action(action, colour))
    if len(acted) < len(record["actions"]):
        yield f"  and {len(record['actions']) - len(acted)} steps with another reason, or cut otherwise (--full)"
    for name, sides in record["texts"].items():
        yield f"  {name}"
        around = len(f"{sides['old']}{sides['new']}") if full else 1
        yield from (f"    {line}" for line in contrasted(sides["old"] or "", sides["new"] or "", colour, around))


def _action(action: dict[str, Any], colour: bool) -> Iterator[str]:
    text = short(action["text"])
    if action["what"] == "cut":
        yield f"step {action['step']} {action['skill']}, only in the {action['side']} state: “{text}”"
        return
    old, new = action["old"], action["new"]
    kind = f"{old['action']} → {new['action']}" if action["what"] == "action" else f"{old['action']}, {WHAT[action['what']]}"
    reason = f" ({new['reason']})" if new["reason"] else ""
    yield f"step {action['step']} {action['skill']}: {kind}{reason}: “{text}”"
    if old["text"] != new["text"]:
        yield from (painted("-", f"  - {short(old['text'])}", colour) for _ in (1,) if old["text"])
        yield from (painted("+", f"  + {short(new['text'])}", colour) for _ in (1,) if new["text"])


def _listed(names: Iterable[str], full: bool) -> str:
    known = list(names)
    more = "" if full or len(known) <= 5 else f" and {len(known) - 5} more"
    return ", ".join(known if full else known[:5]) + more
