"""Every benchmark of the engine and of lineage, one table.

    python -m benchmarks [--quick] [--peers]

About 25 minutes on 2 cores (`--quick`: 6), and 4 GB of disk for a while; `--peers` adds the other frameworks, in their own
virtual environments.
"""

import argparse
import itertools
import subprocess
import sys

from benchmarks import engine, idle, kills, lineage, memory, recording, segmentation_tokens, staleness
from benchmarks.table import show


def main() -> None:
    """Run them one after the other, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer runs")
    parser.add_argument("--peers", action="store_true", help="the other frameworks too (installs them)")
    given = parser.parse_args()
    quick: bool = given.quick
    found = itertools.chain(
        engine.rows((2000,), 3) if quick else engine.rows(),
        idle.rows(3 if quick else 7),
        kills.rows(5 if quick else 100),
        staleness.rows(20 if quick else 100),
        memory.rows((20_000,)) if quick else memory.rows(),
        segmentation_tokens.rows(),
        recording.rows(1000) if quick else recording.rows(),
        lineage.rows(20_000) if quick else lineage.rows(),
    )
    show(found)
    if given.peers:
        subprocess.run([sys.executable, "-m", "benchmarks.peers"], check=False)


if __name__ == "__main__":
    main()
