"""What was cut, as a person reads it: a thought with marks, or the tables of a data set."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from drp.lineage.branch import short
from drp.lineage.deleted import VANISHED, Cuts, Wish
from drp.lineage.graph import Node
from drp.lineage.tables import Tables

WIDTH = 128
STRUCK, DIM, GREEN, AMBER, PLAIN = "\x1b[9;31m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
ACTIONS = ("keep", "delete", "rewrite", "merge")
LIVED = {"keep": "kept", "rewrite": "rewritten", "merge": "merged"}


# -- a record ----------------------------------------------------------------------------------------------------------------


def thought(found: dict[str, Any], colour: bool = False) -> Iterator[str]:
    """The thought in order: what is kept plain, what is deleted with `-` (struck on a terminal), what is rewritten or merged with
    `~` before and `+` after it, what vanished with `!`."""
    size = found["characters"]
    parts = [
        f"{size['keep']:,} kept",
        f"{size['delete']:,} deleted",
        f"{size['rewrite']:,} rewritten",
        f"{size['merge']:,} merged",
    ]
    written = f" ({size['text']:,} written in their place)" if size["text"] else ""
    yield f"{found['id']} in {found['stage']}: {size['thought']:,} characters of thought = {' + '.join(parts)}{written}"
    if size["pruned"]:
        gone = f"; {size[VANISHED]:,} characters vanished: no sentence comes from them" if size[VANISHED] else ""
        yield f"{size['pruned']:,} characters pruned{gone}"
    for step in found["steps"]:
        yield from _step(step, colour)
        if step["text"].count("\n", len(step["text"].rstrip())) > 1:
            yield ""


def _step(step: dict[str, Any], colour: bool) -> Iterator[str]:
    note = _note(step)
    match step["action"]:
        case "delete":
            yield from _block("- ", step["text"], note, STRUCK if colour else "", colour)
        case "rewrite" | "merge":
            yield from _block("~ ", step["text"], note, STRUCK if colour else "", colour)
            if step["new"]:
                yield from _block("+ ", step["new"], "", GREEN if colour else "", colour)
        case "vanished":
            yield from _block("! ", step["text"], note, AMBER if colour else "", colour)
            if step["new"]:
                yield from _block("! → ", step["new"], "", AMBER if colour else "", colour)
        case _:
            yield from _block("  ", step["text"], "", "", colour)


def _note(step: dict[str, Any]) -> str:
    reason = f": {step['reason']}" if step["reason"] else ""
    if step["action"] == VANISHED:
        return (
            f"[step {step['step']} {step['skill']}, {LIVED.get(step['decided'], step['decided'])}, but no sentence comes from it]"
        )
    into = f" into step {step['into']}" if step["into"] not in (None, step["step"]) else ""
    by = f"; {step['completion'][:12]}" if step["completion"] else ""
    return f"[step {step['step']} {step['skill']}, {step['action']}{into}{reason}{by}]"


def _block(mark: str, text: str, note: str, style: str, colour: bool) -> Iterator[str]:
    lines = textwrap.wrap(" ".join(text.split()), WIDTH - len(mark), break_long_words=False, break_on_hyphens=False) or [""]
    for line in lines:
        yield f"{mark}{style}{line}{PLAIN if style else ''}"
    if note:
        yield f"    {DIM if colour else ''}{note}{PLAIN if colour else ''}"


def lost(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Where records were dropped."""
    for row in rows:
        yield f"{row['id']} was dropped by {row['stage']}: {row['reason']}" + (
            f" ({short(row['detail'])})" if row["detail"] else ""
        )


# -- a data set --------------------------------------------------------------------------------------------------------------


def tables(cuts: Cuts, by: str | None, most: int) -> Iterator[str]:
    """Characters, steps by skill and action (or by one of skill, reason, action), reasons, and records that were dropped."""
    yield f"{cuts.node.address}: {cuts.tables.count(cuts.node):,} records"
    if cuts.decided:
        yield from _characters(cuts.characters(), cuts.reassembled)
        yield ""
        yield from _table(cuts.table(by), by, most) if by else _by_skill(cuts.table("skill", "action"), cuts.reassembled)
        if by != "reason":
            yield ""
            yield from _reasons(cuts.reasons(most))
    else:
        yield "  nothing was decided about its steps: no stage of op edit comes before it, or it does not carry `actions`"
    yield from _dropped(cuts)


def _characters(size: dict[str, int], reassembled: bool) -> Iterator[str]:
    whole = size["thought"] or 1
    words = [f"{size[action]:,} {word} ({size[action] / whole:.1%})" for action, word in zip(
        ACTIONS, ("kept", "deleted", "rewritten", "merged"), strict=True)]  # fmt: skip
    yield f"  {size['thought']:,} characters of thought = {' + '.join(words)}"
    written = f"{size['text']:,} were written in the place of what was rewritten or merged"
    yield f"  {written}; {size['pruned']:,} are left after reassembly" if reassembled else f"  {written}"
    if reassembled:
        share = f"{size[VANISHED] / whole:.1%}"
        yield f"  {size[VANISHED]:,} vanished ({share}): kept, rewritten or merged, but no sentence comes from them"


def _by_skill(rows: Sequence[dict[str, Any]], reassembled: bool) -> Iterator[str]:
    """A line a skill; of each action the steps, and their share of the skill's steps."""
    skills: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        skills.setdefault(row["skill"], {})[row["action"]] = row
    body = [_skill(name, list(found.values()), reassembled) for name, found in skills.items()]
    body.sort(key=lambda cells: -int(cells[1].replace(",", "")))
    if len(body) > 1:
        body.append(_skill("all", list(rows), reassembled))
    yield "  steps by skill and action, with their share of the skill's steps"
    yield from _aligned([["skill", "steps", *ACTIONS, *([VANISHED] if reassembled else [])], *body])


def _skill(name: str, rows: Sequence[dict[str, Any]], reassembled: bool) -> list[str]:
    whole = sum(row["steps"] for row in rows)

    def cell(steps: int) -> str:
        return f"{steps:,} {steps / (whole or 1):>4.0%}" if steps else "–"

    cells = [name, f"{whole:,}"]
    cells += [cell(sum(row["steps"] for row in rows if row["action"] == action)) for action in ACTIONS]
    return [*cells, cell(sum(row["vanished"] for row in rows))] if reassembled else cells


def _table(rows: Sequence[dict[str, Any]], by: str, most: int) -> Iterator[str]:
    head = [by, "steps", "characters", "% of characters", f"{VANISHED} steps"]
    body = [
        [short(row[by], 60), f"{row['steps']:,}", f"{row['characters']:,}", f"{row['share']:.1%}", f"{row['vanished']:,}"]
        for row in rows[:most]
    ]
    yield from _aligned([head, *body])
    if len(rows) > most:
        yield f"  and {len(rows) - most} more (-n {len(rows)})"


def _reasons(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    if rows:
        yield "  the most frequent reasons, each with its first step"
    for row in rows:
        words = f": {row['reason']}" if row["reason"] else ""
        yield f"  {row['steps']:>7,}  {row['action']}{words}"
        yield f"           “{short(row['example']['text'], 90)}” ({row['example']['id']}, step {row['example']['step']})"


def _dropped(cuts: Cuts) -> Iterator[str]:
    rows = cuts.dropped()
    yield ""
    yield "  records that were dropped on the way" if rows else "  no record was dropped on the way"
    cells = [[row["stage"], f"{row['records']:,}", row["reason"], row["example"]] for row in rows]
    yield from _aligned([["stage", "records", "reason", "the first"], *cells], left=(0, 2, 3)) if rows else ()
    if cuts.absent:
        cure = cuts.tables.brings("it", [cuts.lineage.graph.nodes[at] for at in cuts.absent])
        yield f"  not here ({cure}): what was dropped by {', '.join(cuts.absent)}"


def absent(tables: Tables, nodes: Sequence[Node]) -> Iterator[str]:
    """The data sets that cannot be read here."""
    if nodes:
        yield ""
        yield f"not here ({tables.brings('them', nodes)}): {', '.join(node.address for node in nodes)}"


def steps(cuts: Cuts, wish: Wish, most: int, colour: bool = False) -> Iterator[str]:
    """The steps that were asked for, each with its marks."""
    named, count = ((w, getattr(wish, w)) for w in ("skill", "reason", "action")), cuts.count(wish)
    of = f"{cuts.total(wish):,} {wish.skill} steps" if wish.skill else f"{cuts.total(wish):,} steps"
    yield f"{cuts.node.address}: {count:,} of {of} ({', '.join(f'{name} {value!r}' for name, value in named if value)})"
    for row in cuts.steps(wish, most):
        yield row["id"]
        yield from _step(row, colour)
    if count > most:
        yield f"and {count - most:,} more (-n {count})"


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (f"{c:<{w}}" if k in left else f"{c:>{w}}" for k, (c, w) in enumerate(zip(row, widths, strict=True)))
        yield ("  " + "  ".join(cells)).rstrip()
