"""DVC in a process of its own that imports nothing: forked from one that has imported it, which is most of what DVC takes here.

Only DVC, which is not what is tested. What a DVC starts, such as `drp stage`, starts as it always does.
"""

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

ROOT = Path(__file__).parents[1]
MODULES = (
    "dvc.cli.parser", "dvc.repo.index", "dvc.repo.reproduce", "dvc.repo.stage", "dvc.repo.params", "dvc.repo.metrics",
    "dvc.repo.plots", "dvc.repo.artifacts", "dvc.repo.datasets", "dvc.repo.graph", "dvc.repo.trie", "dvc.cachemgr",
    "dvc.data_cloud", "dvc.lock", "dvc.rwlock", "dvc.utils.strictyaml", "dvc.repo.open_repo", "dvc._debug", "dvc_render.vega",
    "dvc_data.hashfile.db.local", "fsspec.implementations.memory", "networkx", "scmrepo.git", "dulwich.worktree",
    "dulwich.ignore", "dulwich.trailers", "ruamel.yaml", "platformdirs", "configobj",
)  # fmt: skip
"""What a `dvc repro` imports."""
LONGEST = 1800
"""Seconds, after which a DVC is ended."""
_TURN = Lock()


def dvc(arguments: tuple[str, ...], folder: Path, environment: dict[str, str]) -> tuple[str, int]:
    """What it prints, and its exit code."""
    with TemporaryDirectory() as scratch, _TURN:
        out, server = Path(scratch) / "out", _server()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps([arguments, str(folder), environment, str(out)]) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return out.read_text(encoding="utf-8"), code


@cache
def _server() -> "subprocess.Popen[str]":
    """The one that forks; it ends with its standard input."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.forked"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for pytest
    )


def _serve() -> None:
    for name in MODULES:
        with suppress(ModuleNotFoundError):  # of another version of DVC: what is not imported now, each imports by itself
            importlib.import_module(name)
    gc.freeze()
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                arguments, folder, environment, out = json.loads(line)
                _become(folder, environment, out)
                from dvc.cli import main

                sys.argv = ["dvc", *arguments]
                code = main(arguments)
            finally:
                sys.stdout.flush()
                os._exit(code)  # never back into the loop; what was imported for all need not be torn down by each
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become(folder: str, environment: dict[str, str], out: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path, mode in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)):
        file = os.open(path, mode)
        os.dup2(file, number)
        os.close(file)
    os.dup2(1, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(LONGEST)


if __name__ == "__main__":
    _serve()
