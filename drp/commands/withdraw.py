"""Take a question out of everything: write its exclusion into the recipes, and say what must be made anew."""

import argparse
import json
import sys

from drp.errors import ConfigError
from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="a question's id, or that of a record made of it")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; it stands in the recipe and in the dropped records")
    parser.add_argument(
        "--source", metavar="SOURCE", help="with --row: the row of a source, as hf://org/name, gym://task or a file"
    )
    parser.add_argument("--row", metavar="KEY", help="the row's key in the source (its number, where the recipe names no key)")
    parser.add_argument(
        "--in", dest="within", metavar="STAGE", help="the stage that loads the row, where several load that source"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the edit, and write nothing")
    parser.add_argument("--full", action="store_true", help="every command that is left to do")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.lineage.subject import Lineage
    from drp.lineage.telling import tell
    from drp.withdrawing.aftermath import aftermath
    from drp.withdrawing.withdraw import apply, edits, find, find_row

    if bool(given.source) != bool(given.row) or not (given.ids or given.source):
        raise ConfigError("say what to withdraw: an ID, or --source SOURCE with --row KEY")
    if not given.reason.strip() or "${" in given.reason or "\n" in given.reason:
        raise ConfigError("--reason: a line of text, without '${' (which is DVC's templating)")
    project = Project.here()
    lineage = Lineage(project)
    try:
        rows = [find_row(lineage, given.source, given.row, given.within)] if given.source else []
        found = list({one.id: one for one in (*rows, *(find(lineage, name) for name in given.ids))}.values())
        made = edits(lineage, found, given.reason.strip())
        told = aftermath(lineage, found, made, written=not given.dry_run)
    finally:
        lineage.close()
    if not given.dry_run:
        apply(project, made, {one.id: one.nodes for one in found})
    if given.json:
        sys.stdout.write(json.dumps(told.plain(), indent=1, ensure_ascii=False) + "\n")
        return
    if given.dry_run:
        sys.stdout.write("".join(edit.diff() for edit in made))
    sys.stdout.write(tell(told, given.full))
