"""What would run and why, what it would ask and cost; nothing runs."""

import argparse
import json
import os

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="a recipe, with all that it is made from (default: every recipe)")
    parser.add_argument("--full", action="store_true", help="every stage, every reason, whole diffs of prompts")
    parser.add_argument("--json", action="store_true", help="everything, for programs")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.planning.plan import plan
    from drp.planning.telling import lines

    project = Project.here()
    os.chdir(project.root)
    made = plan(project, given.name)
    if given.json:
        print(json.dumps(made.plain(), indent=1, ensure_ascii=False, default=str))
    else:
        print(*lines(made, given.full), sep="\n")
