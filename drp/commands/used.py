"""Say what was made of a record, a completion, a prompt, a file, a stage or a model."""

import argparse
import sys

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    what = "a record's id, a completion's key, a prompt or other file, a model of params.yaml, a stage, a model, a recipe"
    parser.add_argument("target", metavar="TARGET", help=what)
    parser.add_argument("--at", metavar="REV", help="as it was at a revision or in an experiment (default: as it is here)")
    kinds = "take TARGET for a file, model, stage, recipe, metric, role (a model of params.yaml), record or completion"
    parser.add_argument("--as", dest="kind", metavar="KIND", help=kinds)
    parser.add_argument("--in", dest="within", metavar="STAGE", help="look for the record in this stage's records")
    parser.add_argument("--history", action="store_true", help="of a record: also the checkpoints of all commits and experiments")
    parser.add_argument("--full", action="store_true", help="every record and every answer")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.lineage.altered import beside, owning
    from drp.lineage.subject import Lineage
    from drp.lineage.telling import answer
    from drp.lineage.used import used

    lineage = Lineage(Project.here(), given.at)
    try:
        with owning(lineage.graph):
            subject = lineage.subject(given.target, given.kind, given.within)
            found = used(lineage, subject, given.history)
        sys.stdout.write(answer(found, beside(lineage.graph), given.full, given.json))
    finally:
        lineage.close()
