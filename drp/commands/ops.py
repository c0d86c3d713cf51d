"""The ops and their options."""

import argparse
import sys

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("name", nargs="?", metavar="OP", help="one op, in full")
    parser.add_argument("--markdown", action="store_true", help="the whole reference, as in docs/recipe.md")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.recipe.reference import listing, reference

    if given.markdown:
        sys.stdout.write(reference(given.name))
    else:
        sys.stdout.write(listing(given.name, Project.here().ops_root))
