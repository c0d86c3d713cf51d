"""Show what was cut from a record or a data set, by skill and reason, and what vanished without a decision."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from drp.errors import ConfigError
from drp.project import Project

if TYPE_CHECKING:
    from drp.lineage.graph import Node
    from drp.lineage.subject import Lineage


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("target", nargs="?", metavar="TARGET",
                        help="a record's id, a recipe, a stage or a data file (default: every recipe's data set)")  # fmt: skip
    parser.add_argument("--in", dest="within", metavar="STAGE", help="a record as it is in this stage (default: in the data set)")
    parser.add_argument("--by", choices=["skill", "reason", "action"], help="one table by this (default: skill and action)")
    parser.add_argument("--skill", help="list the steps of this skill that were cut, with their texts")
    parser.add_argument("--reason", help="list those that were cut for this reason")
    parser.add_argument(
        "--action", choices=["keep", "delete", "rewrite", "merge", "vanished"], help="list those with this action"
    )
    parser.add_argument("-n", type=int, metavar="N", help="how many steps or reasons are shown (default: 10; with --json all)")
    parser.add_argument(
        "--at", metavar="REV", help="as it was at a revision, or in an experiment of DVC's (default: as it is here)"
    )
    parser.add_argument("--json", action="store_true", help="everything, for programs")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.lineage.altered import owning
    from drp.lineage.deleted import datasets
    from drp.lineage.subject import Lineage

    if given.n is not None and given.n < 1:
        raise ConfigError(f"-n {given.n}: at least 1")
    lineage = Lineage(Project.here(), given.at)
    try:
        with owning(lineage.graph):
            subject = lineage.subject(given.target, within=given.within) if given.target else None
            if subject and subject.kind == "record":
                _record(lineage, subject.name, given)
            else:
                _datasets(lineage, datasets(lineage, given.target), given)
    finally:
        lineage.close()


def _record(lineage: "Lineage", record: str, given: argparse.Namespace) -> None:
    from drp.lineage import marks
    from drp.lineage.altered import beside
    from drp.lineage.deleted import Wish, dropped, only, thoughts

    if given.by:
        raise ConfigError(f"--by {given.by}: a table is of a data set, and {record} is a record")
    wish = Wish(given.skill, given.reason, given.action)
    found, lost = only(thoughts(lineage, record, given.within), wish, given.n), dropped(lineage, record)
    checked = beside(lineage.graph)
    if given.json:
        _print({"record": record, "thoughts": found, "dropped": lost, **checked.plain()})
        return
    print(checked, end="")
    for each in found:
        print(*marks.thought(each, sys.stdout.isatty()), sep="\n", end="\n\n" if each is not found[-1] else "\n")
        if wish.any and not each["steps"]:
            print("  no step of it is so")
    print(*marks.lost(lost), sep="\n", end="\n" if lost else "")
    if not found and not lost:
        print(f"{record}: nothing was decided about its steps, and nothing dropped it")


def _datasets(lineage: "Lineage", nodes: "list[Node]", given: argparse.Namespace) -> None:
    from drp.lineage import marks
    from drp.lineage.altered import beside
    from drp.lineage.deleted import Cuts, Wish, parted, refuse_unknown

    wish, most = Wish(given.skill, given.reason, given.action), given.n or 10
    here, gone = parted(lineage, nodes)
    all_cuts = [Cuts(lineage, node) for node in here]
    read = [cuts.files() for cuts in all_cuts]  # all of them, before the first line is printed
    checked = beside(lineage.graph)
    refuse_unknown(all_cuts, wish)
    if given.json:
        told: list[dict[str, Any]] = [
            {"stage": c.node.address, "steps": list(c.steps(wish, given.n))} if wish.any else c.plain(given.by) for c in all_cuts
        ]
        for each, files in zip(told, read, strict=True):
            each["altered"] = [path for path in files if path in checked.altered]
        _print([*told, *({"stage": node.address, "steps" if wish.any else "records": None} for node in gone)])
        return
    print(checked, end="")
    for number, cuts in enumerate(all_cuts):
        print(end="\n" if number else "")
        lines: Iterator[str] = marks.tables(cuts, given.by, most)
        if wish.any:
            lines = marks.steps(cuts, wish, most, sys.stdout.isatty())
        for line in lines:
            print(line)
    for line in marks.absent(lineage.tables, gone):
        print(line)


def _print(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
