"""Refuse a faulty recipe: every problem at once, with file, line and column."""

import argparse

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipes (default: all)")


def run(given: argparse.Namespace) -> int:
    """Do it."""
    from drp.recipe.resolve import resolve_all

    project = Project.here()
    for name in given.names:
        project.recipe(name)
    recipes = resolve_all(project, given.names)
    for name, recipe in recipes.items():
        print(f"{name}: {len(recipe.own())} stages, {len(recipe.stages) - len(recipe.own())} taken over")
    return 0
