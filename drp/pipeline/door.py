"""The door of a run: whether what is compiled is what the recipes say, remembered until a file that it was read from changes."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import drp
from drp.errors import StaleCompile
from drp.project import Project

Stamp = tuple[int, ...] | None
"""A file's times of change, size and inode; None where there is none."""


def check(project: Project) -> None:
    """StaleCompile where `drp compile` would write anything; RecipeError where a recipe is faulty."""
    if fresh(project):
        return
    if stale := compile_recipes(project, check=True):
        names = ", ".join(p.relative_to(project.root).as_posix() for p in stale)
        raise StaleCompile(f"stale: {names}; run `drp compile`, then again")


def compile_recipes(project: Project, *, check: bool = False, thaw: str | None = None) -> list[Path]:
    """`drp.pipeline.compile.compile_all`, and its result remembered where all is compiled as it should be.

    It takes a second, so `.dvc/tmp/drp/compiled.json` keeps the stamp of every file that was opened for it, and of all of
    drp's code; the next check, and every stage that starts, looks at the stamps.
    """
    from drp.pipeline.compile import compile_all

    locks = (str(recipe.with_name("dvc.lock")) for recipe in project.root.glob("recipes/*/recipe.yaml"))
    stamps = {path: _stamp(path) for path in (*_code(), *locks)}
    path = sys.path[:]
    with _opened(project.root, stamps):
        stale = compile_all(project, check=check, thaw=thaw)
    sys.path[:] = path  # the project's own modules are for its ops
    if thaw or (stale and check):
        (project.scratch / "compiled.json").unlink(missing_ok=True)
    else:
        written = {str(path): _stamp(str(path)) for path in stale}
        _keep(project, {"root": str(project.root), "listing": _listing(project), "files": {**stamps, **written}})
    return stale


def fresh(project: Project, *, locks: bool = True) -> bool:
    """Whether all is known to be compiled; without `locks`, whatever DVC has written into its lock files since."""
    known = _known(project)
    files: dict[str, Any] = known.get("files", {})
    if known.get("root") != str(project.root):  # the stamps are of the project that this one was copied from
        return False
    if not files or known["listing"] != _listing(project) or not files.keys() >= set(_code()):
        return False
    return all(
        _stamp(path) == (tuple(stamp) if stamp else None)
        for path, stamp in files.items()
        if locks or not path.endswith("dvc.lock")
    )


def renew(project: Project) -> None:
    """After a run: DVC wrote lock files, and names nothing in them that was not compiled."""
    known = _known(project)
    if known:
        locks = {str(path): _stamp(str(path)) for path in project.root.glob("recipes/*/dvc.lock")}
        _keep(project, {**known, "files": {**known["files"], **locks}})


def _known(project: Project) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads((project.scratch / "compiled.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return known


def _keep(project: Project, found: dict[str, Any]) -> None:
    if not (project.root / ".dvc").is_dir():  # `dvc init` wants to make that folder itself
        return
    path = project.scratch / "compiled.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(found), encoding="utf-8")
    os.replace(part, path)


def _listing(project: Project) -> list[str]:
    """What there is to compile: a file that is new was never opened."""
    patterns = ("recipes/*/recipe.yaml", "prompts/*.j2", "ops/*.py")
    return sorted(path.relative_to(project.root).as_posix() for pattern in patterns for path in project.root.glob(pattern))


def _code() -> list[str]:
    """The files of drp itself."""
    return [str(path) for path in Path(str(drp.__file__)).parent.rglob("*.py")]


@contextmanager
def _opened(root: Path, stamps: dict[str, Stamp]) -> Iterator[None]:
    """Note the stamp of each file when it is opened for the first time: later changes then show.

    Files under `root`, and source anywhere: a verifier's code may lie in a package of its own.
    """
    listening = True

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if not listening or event != "open" or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if path not in stamps and (path.endswith(".py") or (path.startswith(f"{root}{os.sep}") and not path.endswith(".pyc"))):
            stamps[path] = _stamp(path)

    sys.addaudithook(heard)  # for good: Python has no way to take one off
    try:
        yield
    finally:
        listening = False


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
