"""Collect the counts of a recipe's stages (what dvc calls)."""

import argparse

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("recipe", metavar="NAME")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.pipeline.counts import write

    write(Project.here(), given.recipe)
