"""Say where a record, a sentence, a file, a model or a metric comes from."""

import argparse
import sys

from drp.errors import ConfigError
from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    what = "a record's id, a piece of text, a file, a stage, a model, a model of params.yaml, a metric, a completion's key"
    parser.add_argument("target", metavar="TARGET", help=what)
    parser.add_argument("--at", metavar="REV", help="as it was at a revision or in an experiment (default: as it is here)")
    kinds = "take TARGET for a file, model, stage, recipe, metric, role (a model of params.yaml), record, completion or text"
    parser.add_argument("--as", dest="kind", metavar="KIND", help=kinds)
    parser.add_argument("--in", dest="within", metavar="STAGE", help="look for the record or text in this stage's records")
    parser.add_argument("-n", type=int, default=1, help="how many records are told of where a text stands in (default: 1)")
    parser.add_argument("--full", action="store_true", help="everything: prompts, replies, values, packages, commits")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.lineage.altered import beside, owning
    from drp.lineage.subject import Lineage
    from drp.lineage.telling import answer
    from drp.lineage.why import why

    if given.n < 1:
        raise ConfigError(f"-n {given.n}: at least 1")
    lineage = Lineage(Project.here(), given.at)
    try:
        with owning(lineage.graph):
            subject = lineage.subject(given.target, given.kind, given.within)
            found = why(lineage, subject, given.n)
        sys.stdout.write(answer(found, beside(lineage.graph), given.full, given.json))
    finally:
        lineage.close()
