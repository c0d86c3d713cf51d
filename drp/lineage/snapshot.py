"""The files of a project as they lie here, or as they were at a revision: text by git, data by the workspace or DVC's cache."""

import json
import os
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from drp.errors import ConfigError, DataError, choices
from drp.pipeline.locked import Made
from drp.pipeline.yamlfile import locked, mapping
from drp.project import Project
from drp.recipe.read import load


def git(root: Path, *arguments: str) -> bytes | None:
    """What git prints; None where it refuses (no repository, no such thing)."""
    done = subprocess.run(("git", "-C", str(root), *arguments), capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def resolve(root: Path, name: str) -> str:
    """The commit that a revision, or an experiment of DVC's by its name, means; ConfigError with the choices."""
    for spelled in (name, _experiments(root).get(name, name)):
        found = git(root, "rev-parse", "--verify", "--quiet", f"{spelled}^{{commit}}")
        if found is not None:
            return found.decode().strip()
    if git(root, "rev-parse", "--git-dir") is None:
        raise ConfigError(f"{root}: not in a git repository, so there is no revision {name!r}")
    listed = git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes") or b""
    raise ConfigError(f"no revision or experiment {name!r}{choices(name, [*listed.decode().split(), *_experiments(root)])}")


def _experiments(root: Path) -> dict[str, str]:
    """DVC's experiments: their names, and the commits that they are."""
    listed = (git(root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps") or b"").decode().splitlines()
    found = dict(line.split(" ") for line in listed)
    return {ref.rpartition("/")[2]: commit for ref, commit in found.items() if not ref.startswith("refs/exps/exec/")}


class Snapshot:
    """One state of a project; `at` is a revision, an experiment, or None: as the files lie here."""

    def __init__(self, project: Project, at: str | None = None) -> None:
        self.project, self.root, self.at = project, project.root, at
        self.commit = None if at is None else resolve(project.root, at)
        self.read: dict[str, Made] = {}
        """The files of the workspace that were read as data, and what their locks name."""

    @property
    def name(self) -> str:
        """How messages call it."""
        return "the workspace" if self.at is None else self.at

    # -- what git has ----------------------------------------------------------------------------------------------------

    def text(self, path: str) -> str | None:
        """A text file; None where there is none."""
        found = self.bytes(path)
        try:
            return None if found is None else found.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} in {self.name}: not text in UTF-8: {error}") from error

    def json(self, path: str, made: Made) -> Any:
        """What a JSON file among the outs says; DataError with the cure where it is none."""
        file = self.data(path, made)
        try:
            return json.loads(file.read_bytes())
        except ValueError as error:
            cure = f"`dvc checkout {path}` or `git checkout {path}` brings back what the lock names"
            raise DataError(f"{path} in {self.name}: not JSON ({error}); {cure}") from error

    def bytes(self, path: str) -> bytes | None:
        """A file that git has, or that lies here; None where there is none."""
        if self.commit is None:
            full = self.root / path
            return full.read_bytes() if full.is_file() else None
        return git(self.root, "show", f"{self.commit}:{self._prefix}{path}")

    def mapping(self, path: str) -> dict[str, Any]:
        """The mapping in a YAML file, {} where there is none."""
        if self.commit is None:
            full = self.root / path
            found: dict[str, Any] = locked(full) if full.name == "dvc.lock" else mapping(full)
            return found
        try:
            data = load(self.text(path) or "")
        except YAMLError as error:
            raise ConfigError(f"{path} at {self.at}: not YAML: {error}") from error
        if not isinstance(data, dict | None):
            raise ConfigError(f"{path} at {self.at}: not a mapping")
        return data or {}

    @cached_property
    def files(self) -> frozenset[str]:
        """The files of the project that git has at the revision; of the workspace, those under recipes/ and prompts/."""
        if self.commit is None:
            folders = (self.root / "recipes", self.root / "prompts")
            return frozenset(p.relative_to(self.root).as_posix() for f in folders for p in f.rglob("*") if p.is_file())
        listed = os.fsdecode(git(self.root, "ls-tree", "-r", "-z", "--name-only", self.commit) or b"").split("\0")
        return frozenset(filter(None, listed))

    @cached_property
    def _prefix(self) -> str:
        """Where the project lies in its repository."""
        return (git(self.root, "rev-parse", "--show-prefix") or b"").decode().strip()

    # -- what DVC has ----------------------------------------------------------------------------------------------------

    def data(self, path: str, made: Made) -> Path:
        """Where the bytes of an out can be read: here, or in DVC's cache; DataError with the cure where they are nowhere."""
        if found := self.find(path, made):
            if found == self.root / path and self.commit is None:
                self.read[path] = made
            return found
        raise DataError(
            f"{path}: neither here nor in DVC's cache, as {self.name} has it (md5 {made.md5}); {self.brings('it', path)}"
        )

    def brings(self, it: str, *paths: str) -> str:
        """The cure for outs that are neither here nor in DVC's cache."""
        recipes = {path.split("/")[1] for path in paths if path.count("/")}
        recipe = recipes.pop() if len(recipes) == 1 else "NAME"
        if self.commit is None:
            return self.project.brings(it, recipe)
        if pull := self.project.pull:
            return f"`dvc fetch --all-commits` (or `{pull}` at that revision) brings {it}"
        return f"no DVC remote is configured; `git checkout {self.at}` and `drp run {recipe}` make {it}"

    def find(self, path: str, made: Made) -> Path | None:
        """As `data`; None where the bytes are nowhere."""
        here = self.root / path
        if self.commit is None and here.exists():
            return here
        cached = self.object(made.md5)
        if made.md5 and cached.exists() and not made.md5.endswith(".dir"):
            return cached
        if self.commit is None:
            return None
        if path in self.files:
            return self._thawed(path)
        same = here.is_file() and self._present.get(path) == made.md5 and here.stat().st_size == made.size
        return here if same else None  # not run again since: what lies here is what lay there

    def inside(self, path: str, made: Made) -> dict[str, Path]:
        """The files of a folder that is an out, by their relative names; {} where it is nowhere."""
        here = self.root / path
        if here.is_dir() and (self.commit is None or self._present.get(path) == made.md5):
            return {p.relative_to(here).as_posix(): p for p in sorted(here.rglob("*")) if p.is_file()}
        listing = self.object(made.md5)
        if not made.md5 or not listing.exists():
            return {}
        return {entry["relpath"]: self.object(entry["md5"]) for entry in json.loads(listing.read_bytes())}

    def object(self, md5: str) -> Path:
        """Where DVC's cache keeps a file by its md5."""
        return self.project.dvc_cache / "files" / "md5" / md5[:2] / md5[2:]

    @cached_property
    def _present(self) -> dict[str, str]:
        """The md5 of every out as the locks say that lie here now."""
        found: dict[str, str] = {}
        for path in self.root.glob("recipes/*/dvc.lock"):
            for entry in (locked(path).get("stages") or {}).values():
                found.update({out["path"]: str(out.get("md5", "")) for out in entry.get("outs") or []})
        return found

    def _thawed(self, path: str) -> Path | None:
        """A data file that git keeps, written out of it: DuckDB reads files."""
        blob = (git(self.root, "rev-parse", f"{self.commit}:{self._prefix}{path}") or b"").decode().strip()
        if not blob:
            return None
        out = self.project.scratch / "git" / f"{blob}{Path(path).suffix}"
        if not out.exists():
            out.parent.mkdir(parents=True, exist_ok=True)
            part = out.with_name(f"{out.name}.{os.getpid()}.part")
            part.write_bytes(git(self.root, "cat-file", "blob", blob) or b"")
            os.replace(part, out)
        return out
