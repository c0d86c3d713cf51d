"""Runs other frameworks against the loopback server, each in a venv of its own, and prints one Markdown table.

    python -m benchmarks.peers [names …] [--runs 3] [--venvs ~/.cache/drp-peers]

A peer is a module of this folder with a requirements file of the same name. The runs of different peers take turns, each
with a server and an empty home folder of its own. What fails to install or to run is named below the table.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loopback import Stats, serving

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
OURS = "drp"
"""Runs in the environment that this driver runs in."""
NAMES = [OURS, *sorted(file.stem for file in (HERE / "requirements").glob("*.txt"))]
INSTALL_SECONDS = 1800
LAST_LINES = 12
Command = list[str | Path]
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TELEMETRY_ENABLED": "false",  # curator
    "CURATOR_VIEWER": "false",
    "NEMO_TELEMETRY_ENABLED": "false",  # datadesigner
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # curator, sdg_hub
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}
"""Nothing is fetched, nothing is told to anyone."""


class Failed(Exception):
    """A peer that could not be installed or run; the text says why, with the last lines that it printed."""


@dataclass(frozen=True)
class Run:
    """One run of one peer: what it said of itself, what the server saw, what the whole process took."""

    version: str
    requests: int
    seconds: float
    rss_mb: int
    worker_rss_mb: int
    wall: float
    served: Stats


def main() -> None:
    """Install what is missing, run all in turn, print the table; the exit code says whether anything failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="names", help=f"of {', '.join(NAMES)}; all, if none is given")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--requests", type=int, default=2000, help="of each run")
    parser.add_argument("--delay", type=float, default=0.02, help="seconds that the server takes to answer")
    parser.add_argument("--limit", type=float, default=180, help="seconds after which a run is given up")
    parser.add_argument("--venvs", type=Path, default=Path("~/.cache/drp-peers"), help="the folder of the venvs")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no peer is called {', '.join(sorted(unknown))} (there are {', '.join(NAMES)})")
    names = options.names or NAMES
    venvs: Path = options.venvs.expanduser().resolve()
    runs: dict[str, list[Run]] = {name: [] for name in names}
    failures: dict[str, str] = {}
    for name in names:
        try:
            install(name, venvs / name)
        except Failed as failed:
            failures[name] = str(failed)
    for number in range(options.runs):
        for name in names:
            if name in failures:
                continue
            print(f"{name}: run {number + 1} of {options.runs}", file=sys.stderr, flush=True)
            try:
                runs[name].append(run(name, venvs / name, options.requests, options.delay, options.limit))
            except Failed as failed:
                failures[name] = str(failed)
    if any(runs.values()):
        print(table(runs))
    for name, failure in failures.items():
        print(f"\n{name} failed: {failure}")
    sys.exit(bool(failures))


def install(name: str, venv: Path) -> None:
    """Make a peer's venv anew, unless it holds what the requirements file asks for."""
    if name == OURS:
        return
    wanted = HERE / "requirements" / f"{name}.txt"
    stamp = venv / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted.read_text():
        return
    print(f"{name}: installing into {venv}", file=sys.stderr, flush=True)
    make: Command = [sys.executable, "-m", "venv", "--clear", venv]
    fill: Command = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", wanted]
    for command in (make, fill):  # without dependencies, as the files are complete
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except subprocess.CalledProcessError as error:
            raise Failed(f"its venv could not be made\n{last_lines(error.stderr)}") from error
        except subprocess.TimeoutExpired as error:
            raise Failed(f"its venv was not made in {INSTALL_SECONDS} s") from error
    stamp.write_text(wanted.read_text())


def run(name: str, venv: Path, requests: int, delay: float, limit: float) -> Run:
    """One run of a peer in a fresh folder, against a fresh server."""
    with tempfile.TemporaryDirectory(prefix=f"drp-peer-{name}-") as folder, serving(delay) as server:
        home, out, log = Path(folder) / "home", Path(folder) / "out", Path(folder) / "log"
        home.mkdir()
        out.mkdir()
        python = sys.executable if name == OURS else venv / "bin/python"
        command: Command = [python, "-m", f"benchmarks.peers.{name}", server.url, str(requests), out]
        started = time.perf_counter()
        try:
            end = finish(command, environment(venv, home), log, limit)
        except subprocess.TimeoutExpired as error:
            seen = server.stats().requests
            printed = last_lines(log.read_text(errors="replace"))
            raise Failed(f"not done in {limit:g} s; the server saw {seen} requests\n{printed}") from error
        wall = time.perf_counter() - started
        printed = log.read_text(errors="replace")
        lines = [line for line in printed.splitlines() if line.startswith('{"framework": ')]
        if end or not lines:
            raise Failed(f"exit code {end}\n{last_lines(printed)}")
        said = json.loads(lines[-1])
        del said["framework"]
        return Run(**said, wall=wall, served=server.stats())


def finish(command: Command, env: dict[str, str], log: Path, limit: float) -> int:
    """Run a command to its end, or to the limit, and return its exit code; what it started and left behind is killed."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
        try:
            return process.wait(limit)
        finally:
            with suppress(ProcessLookupError):  # nothing of it is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def environment(venv: Path, home: Path) -> dict[str, str]:
    """The variables of a run: offline, and with a home of its own, so that no cache of an earlier run answers."""
    env = os.environ | OFFLINE | {"HOME": str(home)}
    for encodings in venv.glob("lib/python*/site-packages/litellm/litellm_core_utils/tokenizers"):
        env["TIKTOKEN_CACHE_DIR"] = str(encodings)  # else tiktoken downloads the file that litellm bundles
    return env


def last_lines(text: str) -> str:
    """The last lines of an output, without pip's warnings."""
    lines = [line.rstrip()[:300] for line in text.splitlines() if line.strip() and not line.startswith("WARNING: ")]
    return "\n".join(f"    {line}" for line in lines[-LAST_LINES:])


def table(runs: dict[str, list[Run]]) -> str:
    """The results as Markdown: medians, with the least and the most in brackets where there was more than one run."""
    head = [
        "framework", "version", "seconds", "whole process, s", "requests/s", "max RSS, MB", "largest child, MB",
        "requests seen", "most in flight",
    ]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for name, done in sorted(runs.items(), key=lambda pair: statistics.median([run.seconds for run in pair[1]] or [0.0])):
        if not done:
            continue
        seconds = [run.seconds for run in done]
        rows.append([
            name,
            done[0].version,
            spread(seconds),
            spread([run.wall for run in done]),
            f"{done[0].requests / statistics.median(seconds):.0f}",
            str(max(run.rss_mb for run in done)),
            str(max(run.worker_rss_mb for run in done)),
            ", ".join(sorted({seen(run) for run in done})),
            str(max(run.served.most_in_flight for run in done)),
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def spread(values: Iterable[float]) -> str:
    """A median, and the range it comes from."""
    known = list(values)
    median = f"{statistics.median(known):.1f}"
    return median if len(known) == 1 else f"{median} ({min(known):.1f}–{max(known):.1f})"


def seen(run: Run) -> str:
    """What the server was asked in a run, as a cell of the table."""
    refused = f" ({run.served.refused} refused)" if run.served.refused else ""
    return f"{run.served.requests}{refused}"


if __name__ == "__main__":
    main()
