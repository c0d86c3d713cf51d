"""Write recipes/<name>/dvc.yaml for every recipe, where it changed."""

import argparse

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--check", action="store_true", help="write nothing; exit 64 if anything would be written")
    parser.add_argument("--thaw", metavar="NAME", help="unfreeze this recipe's published models until the next compile")


def run(given: argparse.Namespace) -> int:
    """Do it."""
    from drp.pipeline.door import compile_recipes

    project = Project.here()
    if given.thaw:
        project.recipe(given.thaw)
    stale = compile_recipes(project, check=given.check, thaw=given.thaw)
    for path in stale:
        print(f"{'stale' if given.check else 'wrote'}: {path.relative_to(project.root)}")
    return 64 if stale and given.check else 0
