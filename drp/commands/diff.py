"""Say record by record what differs between two revisions, experiments, recipes or stages, and what made it so."""

import argparse
import json
import sys

from drp.project import Project


def arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("old", nargs="?", default="HEAD", metavar="A",
                        help="a revision, an experiment of DVC's, a recipe or a stage (default: HEAD)")  # fmt: skip
    parser.add_argument("new", nargs="?", metavar="B", help="the other one, of the same kind (default: the workspace)")
    parser.add_argument("--recipe", metavar="NAME", help="only this recipe (default: all that both have)")
    parser.add_argument("--stage", metavar="NAME", help="the records of this stage (default: what the models are trained on)")
    parser.add_argument("--record", metavar="ID", help="only this record, in full (the beginning of its id is enough)")
    parser.add_argument("-n", type=int, metavar="N",
                        help="how many records of each kind are shown (default: 5; with --json all)")  # fmt: skip
    parser.add_argument(
        "--full", action="store_true", help="all metrics (else those that differ), whole diffs of prompts, every sentence"
    )
    parser.add_argument("--json", action="store_true", help="everything, for programs")


def run(given: argparse.Namespace) -> None:
    """Do it."""
    from drp.comparing.difference import difference, records, summary
    from drp.comparing.differing import lines

    found = difference(Project.here(), given.old, given.new, recipe=given.recipe, stage=given.stage, record=given.record)
    most = None if given.n is None else max(0, given.n)
    try:
        if not given.json:
            for line in lines(found, 5 if most is None else most, given.full, sys.stdout.isatty()):
                print(line)
            return
        head = json.dumps(found.head(given.full), indent=1, ensure_ascii=False, default=str)
        print(head.removesuffix("\n}"), '"datasets": [', sep=",\n ")
        for number, comparison in enumerate(found.comparisons):
            above = json.dumps(summary(comparison), ensure_ascii=False)
            print(f'{"," * (number > 0)}  {above.removesuffix("}")}, "records": [')
            for place, record in enumerate(records(comparison, most)):
                print(f"{',' * (place > 0)}  {json.dumps(record, ensure_ascii=False)}")
            print("  ]}")
        print(" ]\n}")
    finally:
        found.close()
