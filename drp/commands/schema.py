"""Print the JSON Schema of recipes (for editors)."""

import argparse
import json
import sys
from pathlib import Path

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--write", metavar="FILE", type=Path, help="write it to FILE instead")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.pipeline.yamlfile import write
    from drp.recipe.schema import schema

    text = json.dumps(schema(Project.here()), indent=1, ensure_ascii=False) + "\n"
    if given.write:
        write(given.write, text)
    else:
        sys.stdout.write(text)
