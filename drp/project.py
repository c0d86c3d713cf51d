"""The project: the folder with recipes, prompts and params.yaml, where drp is run."""

import configparser
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from drp.errors import ConfigError, choices

if TYPE_CHECKING:
    from drp.prompts import Prompt


@dataclass(frozen=True)
class Project:
    """Paths of a project; every path that drp writes is under `root` (or in DVC's cache)."""

    root: Path

    @classmethod
    def here(cls) -> "Project":
        """The project around the current folder: the nearest one above that has `recipes/`."""
        for folder in (Path.cwd(), *Path.cwd().parents):
            if (folder / "recipes").is_dir():
                return cls(folder)
        raise ConfigError(f"{Path.cwd()}: not in a drp project (no folder `recipes` here or above)")

    @property
    def params(self) -> Path:
        """params.yaml."""
        return self.root / "params.yaml"

    @property
    def ops_lock(self) -> Path:
        """The generated file of op fingerprints, tracked by DVC key by key."""
        return self.root / "recipes" / "ops.lock.yaml"

    @property
    def ops_root(self) -> Path | None:
        """Where the project's own ops are looked for; None where it has none."""
        return self.root if (self.root / "ops").is_dir() else None

    def recipes(self) -> list[str]:
        """The names of all recipes."""
        return sorted(p.parent.name for p in (self.root / "recipes").glob("*/recipe.yaml"))

    def recipe(self, name: str) -> Path:
        """The file of a recipe; ConfigError with the choices where there is none."""
        path = self.root / "recipes" / name / "recipe.yaml"
        if not path.exists():
            raise ConfigError(f"no recipe {name!r}{choices(name, self.recipes())}")
        return path

    def prompt(self, name: str) -> "Prompt":
        """A prompt by its name (it may not exist yet)."""
        from drp.prompts import Prompt

        return Prompt(self.root / "prompts", name)

    def prompts(self) -> list[str]:
        """The names of all prompts (files whose name begins with `_` are only included)."""
        return sorted(p.stem for p in (self.root / "prompts").glob("*.j2") if not p.name.startswith("_"))

    @cached_property
    def dvc_cache(self) -> Path:
        """The folder of DVC's cache, as its config files say, because asking `dvc` costs a second."""
        for config, relative_to in self._dvc_config:
            if where := config.get("cache", "dir", fallback=""):
                return (relative_to / Path(where).expanduser()).resolve()
        return self.root / ".dvc" / "cache"

    @cached_property
    def _dvc_config(self) -> list[tuple[configparser.ConfigParser, Path]]:
        """DVC's config files, those that win first, each with the folder that its paths are relative to."""
        dvc, system = self.root / ".dvc", os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").partition(os.pathsep)[0]
        people = Path(os.environ.get("XDG_CONFIG_HOME", "~/.config")).expanduser() / "dvc"
        base = Path(os.environ.get("DVC_GLOBAL_CONFIG_DIR", people))
        everyone = Path(os.environ.get("DVC_SYSTEM_CONFIG_DIR", f"{system}/dvc"))
        files = ((dvc / "config.local", dvc), (dvc / "config", dvc), (base / "config", base), (everyone / "config", everyone))
        found = []
        for file, relative_to in files:
            found.append((configparser.ConfigParser(interpolation=None, strict=False), relative_to))
            found[-1][0].read(file)
        return found

    @cached_property
    def pull(self) -> str | None:
        """The command that brings data from DVC's remote; None where no remote is configured."""
        if any(config.get("core", "remote", fallback="") for config, _ in self._dvc_config):
            return "dvc pull"
        sections = (name.strip("'") for config, _ in self._dvc_config for name in config.sections())
        named = next((name for name in sections if name.startswith("remote ")), None)
        return f"dvc pull -r {named.removeprefix('remote ').strip(chr(34))}" if named else None

    def brings(self, it: str = "it", recipe: str = "NAME") -> str:
        """The cure for data that are not here: from DVC's remote, or made again by their recipe."""
        return f"`{self.pull}` brings {it}" if self.pull else f"no DVC remote is configured; `drp run {recipe}` makes {it}"

    @property
    def cache(self) -> Path:
        """drp's folder beside DVC's cache: `$DRP_CACHE`, or `<dvc cache dir>/drp`. Shared by experiments and, through
        `dvc cache dir`, by people."""
        folder = os.environ.get("DRP_CACHE")
        return Path(folder) if folder else self.dvc_cache / "drp"

    @property
    def store(self) -> Path:
        """The completion store."""
        return self.cache / "completions.sqlite"

    @property
    def scratch(self) -> Path:
        """Locks, progress and resumable work of running stages; never versioned."""
        return self.root / ".dvc" / "tmp" / "drp"
