"""Undeclared reads: while its op works, a stage may open its inputs and what is drp's own; any other file ends it (exit 66)."""

import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from drp import fence, landlock
from drp.errors import InputsChanged, UndeclaredRead
from drp.fence import Fence
from drp.pipeline.yamlfile import mapping
from drp.project import Project
from drp.recipe.stages import Stage

LOADS = ("transformers", "vllm")
"""Backends that load a model into the stage's own process: their libraries read and make files anywhere."""
PLAIN = ("params.yaml", "recipes", "prompts", "ops", ".git", ".dvc")
"""What drp reads of a project after the op has worked, and what is never anybody's data."""


DATA = ("data", "models")
"""Folders of a project that are not looked through for code."""
PACKED = (".egg-info", ".dist-info")


class Reads:
    """A context in which the stage is held to its inputs.

    Python's own ways to open a file are refused by an audit hook where they happen. Readers that are not written in Python
    (Arrow, DuckDB, safetensors) raise no such event: those the kernel refuses, where it has Landlock and the stage loads no
    model. What an error says of such a file becomes an UndeclaredRead; so does a read whose error the op swallowed.
    """

    def __init__(self, project: Project, stage: Stage, inputs: Iterable[str], part: Path, resume: Path) -> None:
        self.project, self.stage = project, stage
        root = project.root
        self.fence = Fence(
            stage=f"{stage.ref.recipe}/{stage.ref.slug}", root=str(root),
            declared=tuple(str(root / path) for path in inputs), work=(str(part), str(resume)),
            own=tuple(str(p) for p in (root / ".dvc", project.dvc_cache, project.cache, project.params, project.ops_lock)),
            code=tuple(_code_of(stage)), system=fence.system(),
        )  # fmt: skip
        self._temporary: str | None = None

    def __enter__(self) -> "Reads":
        if landlock.available() and not loads(self.project, self.stage):
            self._lock()
        fence.begin(self.fence)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        said = fence.found(error)
        replaced = None if said else self.fence.replaced(error)
        fence.end()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)
            tempfile.tempdir = os.environ["TMPDIR"] = os.path.dirname(self._temporary)
        if isinstance(error, UndeclaredRead) or (error is not None and not isinstance(error, Exception)):
            return
        if said:
            raise UndeclaredRead(said) from error
        if replaced:
            raise InputsChanged(f"replaced while the stage ran: {replaced}. Nothing was published; run it again") from error

    def _lock(self) -> None:
        """Ask the kernel too. What is made later, right in a folder above the project, could not be read: if that is where
        temporary files are made, they are made in a folder there that is made now."""
        here = tempfile.gettempdir()
        if Path(here).resolve() in self.project.root.resolve().parents:
            self._temporary = tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="drp-")
        for cache in map(Path, fence.caches()):
            self._make(cache)
        with suppress(landlock.Unfit):
            landlock.restrict([*landlock.around(self.project.root), *self._readable()])

    def _readable(self) -> Iterator[str]:
        """What of the project may be read: inputs, drp's own, code, temporary files."""
        root = self.project.root
        yield from (*self.fence.declared, *self.fence.work, *self.fence.own)
        yield from (str(root / name) for name in PLAIN)
        yield from (p for p in (*sys.path, sys.prefix, sys.base_prefix, tempfile.gettempdir()) if root in Path(p).parents)
        yield from (p for p in fence.caches() if {root, root.resolve()} & {*Path(p).parents, *Path(p).resolve().parents})
        yield from code_in(root)

    def _make(self, cache: Path) -> None:
        """Make a cache's folder where it would not be found later: in the project, or right in a folder above it."""
        roots = (self.project.root, self.project.root.resolve())
        with suppress(OSError):
            there = next(p for p in (cache, *cache.parents) if p.exists())
            if there != cache and any(there == root or there in root.parents or root in there.parents for root in roots):
                cache.mkdir(parents=True, exist_ok=True)


def loads(project: Project, stage: Stage) -> bool:
    """Whether the stage's own process loads or makes a model, or fetches data: libraries then read and make files anywhere."""
    run: dict[str, Any] = mapping(project.params).get("run") or {}
    if stage.op.makes_model or any(use.stage or run.get(use.role, {}).get("backend") in LOADS for use in stage.uses()):
        return True
    sources = [value.data for value in stage.sources()]
    return any(source.startswith("hf://") or (project.root / source).is_dir() for source in sources)


def _code_of(stage: Stage) -> Iterator[str]:
    """The folder of a verifier `module:function`, wherever it is."""
    verifier = stage.options().get("verifier")
    if isinstance(verifier, str) and ":" in verifier:
        spec = find_spec(verifier.partition(":")[0].partition(".")[0])
        if spec and spec.origin:
            yield os.path.dirname(spec.origin) if spec.submodule_search_locations else spec.origin


def code_in(root: Path) -> Iterator[str]:
    """The project's code: files of its root, of data and of models, and each other folder, at any depth, that holds code.
    Unfit where too much is to be looked through; what is below data, models, hidden folders and node_modules is not."""
    for folder in (root, *(root / name for name in DATA)):
        if folder.is_dir():
            yield from (str(entry) for entry in folder.iterdir() if _is_code(entry.name) and not entry.is_dir())
    folders, seen = deque(entry for entry in root.iterdir() if entry.name not in DATA), 0
    while folders:
        folder = folders.popleft()
        try:
            with os.scandir(folder) as found:
                entries = list(found)
        except OSError:  # no folder, or not ours to list
            continue
        seen += len(entries)
        if seen > landlock.MOST:
            raise landlock.Unfit(f"{root}: more than {landlock.MOST} names")
        if folder.suffix in PACKED or any(e.name == "pyvenv.cfg" or _is_code(e.name) for e in entries):
            yield str(folder)
        elif not folder.name.startswith(".") and folder.name != "node_modules":
            folders.extend(Path(e.path) for e in entries if e.is_dir(follow_symlinks=False))


def _is_code(name: str) -> bool:
    return name.endswith(fence.CODE) or ".so." in name
