"""Whether what stages made is what the locks name: every out, by its md5."""

import functools
import hashlib
import json
import posixpath
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from drp.auditing.another import Another
from drp.auditing.finding import Check, Why
from drp.errors import DrpError
from drp.lineage.graph import MANIFEST, Graph, Node
from drp.lineage.snapshot import Snapshot
from drp.pipeline import oplock
from drp.pipeline.locked import Files, Lock, Made
from drp.project import Project
from drp.recipe.stages import Stage

COUNTS = "counts"
"""The stage of each recipe that reads manifests alone."""
AGAIN = "`dvc repro` makes it anew (`drp plan` says what that costs)"


@dataclass(frozen=True)
class Entry:
    """A stage of a dvc.lock, also one that is not drp's (then `node` is None); paths are from the project's root."""

    recipe: str
    slug: str
    lock: Lock
    node: Node | None

    @property
    def address(self) -> str:
        """`<recipe>/<stage>`."""
        return f"{self.recipe}/{self.slug}"

    @property
    def file(self) -> str:
        """The lock that it stands in."""
        return f"recipes/{self.recipe}/dvc.lock"

    @property
    def frozen(self) -> bool:
        """Whether its outcome is published."""
        return self.node is not None and self.node.frozen

    def of_git(self, path: str) -> bool:
        """Whether an out is git's: reports, and what is published."""
        return path.startswith("recipes/") or self.frozen


def entries(graph: Graph) -> dict[str, Entry]:
    """All stages of all locks by address: those that run ops each behind those that it reads from, then the others."""
    found = {node.address: Entry(node.recipe, node.slug, node.lock, node) for node in graph.nodes.values()}
    for recipe in graph.recipes:
        compiled = graph.snapshot.mapping(f"recipes/{recipe}/dvc.yaml").get("stages") or {}
        for slug, plain in (graph.snapshot.mapping(f"recipes/{recipe}/dvc.lock").get("stages") or {}).items():
            if f"{recipe}/{slug}" not in found:
                folder = posixpath.join("recipes", recipe, (compiled.get(slug.partition("@")[0]) or {}).get("wdir", "."))
                found[f"{recipe}/{slug}"] = Entry(recipe, slug, _moved(Lock.of(plain), folder), None)
    return found


def _moved(lock: Lock, folder: str) -> Lock:
    def at(path: str) -> str:
        return posixpath.normpath(posixpath.join(folder, path))

    return Lock(
        lock.cmd, {at(p): m for p, m in lock.deps.items()}, {(at(f), k): v for (f, k), v in lock.params.items()},
        {at(p): m for p, m in lock.outs.items()},
    )  # fmt: skip


class Sums:
    """The files of a project beside what its locks say of them. `stages` are the recipes' stages as they are now, by address;
    `asked` are the recipes that were named (none: all are looked at)."""

    def __init__(
        self, project: Project, graph: Graph, scope: Iterable[Entry], stages: Mapping[str, Stage], asked: Collection[str] = ()
    ) -> None:
        self.project, self.root, self.graph, self.scope, self.stages = project, project.root, graph, list(scope), stages
        self.asked = frozenset(asked)
        self.code = functools.cache(self._code)
        self.files = Files(project)
        self.values = functools.cache(self.snapshot.mapping)  # of YAML files, each read once
        self.makers = {path: (entry, made) for entry in entries(graph).values() for path, made in entry.lock.outs.items()}

    @property
    def snapshot(self) -> Snapshot:
        """The files."""
        return self.graph.snapshot

    def _code(self, name: str) -> Why | None:
        """Why the fingerprint of an op (or of the rules, or of a verifier) is not that of its code now, with the cure; None
        where it is."""
        path = sys.path[:]
        try:
            oplock.current(self.project, name)
        except DrpError as error:
            return self._another.why(name) or Why(str(error))
        finally:
            sys.path[:] = path
        return None

    @cached_property
    def _another(self) -> Another:
        manifests = [self.manifest(entry.node) for entry in self.scope if entry.node]
        return Another(self.project, (m["packages"]["drp"] for m in manifests if "drp" in (m.get("packages") or {})))

    @cached_property
    def away(self) -> dict[str, str]:
        """The stages of which not all is here, and need not be: only what is published was made from them. By address; the
        published stage that was."""
        behind: dict[str, str] = {}
        everything = entries(self.graph).values()
        others = {path for entry in everything if entry.node is None and entry.slug != COUNTS for path in entry.lock.deps}
        for node in reversed(self.graph.nodes.values()):  # users first
            made = [user.address if user.frozen else behind.get(user.address) for user in self.graph.users(node)]
            if made and made[0] and all(made) and not node.frozen and not node.outs.keys() & others:
                behind[node.address] = made[0]
        return {
            entry.address: behind[entry.address] for entry in everything if entry.address in behind
            and any(self.files.md5(path) is None and not self.files.cached(made.md5) for path, made in entry.lock.outs.items())
        }  # fmt: skip

    @cached_property
    def unpulled(self) -> list[str]:
        """The recipes, none of them asked for by name, of which nothing is here but what git has."""
        here: dict[str, bool] = {}
        for entry in () if self.asked else self.scope:
            for path, made in entry.lock.outs.items():
                if not entry.of_git(path) and entry.address not in self.away:
                    there = (self.root / path).exists() or self.files.object(made.md5).is_file()
                    here[entry.recipe] = here.get(entry.recipe, False) or there
        return sorted(recipe for recipe, there in here.items() if not there)

    @cached_property
    def altered(self) -> dict[str, tuple[Made, str]]:
        """Outs that lie here with other bytes than the lock names: what it names, and the md5 that they have."""
        found: dict[str, tuple[Made, str]] = {}
        for entry in self.scope:
            for path, made in entry.lock.outs.items():
                here = self.files.md5(path)
                if here is not None and here != made.md5:
                    found[path] = made, here
        return found

    @cached_property
    def unreadable(self) -> dict[str, str]:
        """Parquet files and manifests that are as their lock names them, and are none: why not."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        found: dict[str, str] = {}
        for entry in self.scope:
            for path, made in entry.lock.outs.items():
                file = None if path in self.altered else self.snapshot.find(path, made)
                try:
                    if file and path.endswith(".parquet"):
                        pq.read_schema(file)
                    elif file and path.endswith(MANIFEST):
                        json.loads(file.read_bytes())
                except (pa.ArrowException, OSError, ValueError) as error:
                    found[path] = str(error)
        return found

    def cached(self, md5: str) -> bool | None:
        """Whether DVC's cache has these bytes (None: nothing of that name; False: something of that name that is damaged)."""
        if not self.files.cached(md5):
            return None
        inner = [md5]
        if md5.endswith(".dir"):
            inner += [entry["md5"] for entry in json.loads(self.files.object(md5).read_bytes())]
        return all(_md5(self.files.object(one)) == one.removesuffix(".dir") for one in inner)

    def sound(self, node: Node) -> bool:
        """Whether all that a stage made is as its lock names it, and can be read."""
        return not any(path in self.altered or path in self.unreadable for path in node.outs)

    def renewed(self, node: Node, path: str) -> bool:
        """Whether an input of a stage is other bytes, by the lock of the stage that made it, than the stage was made from."""
        maker = self.graph.maker(path)
        return maker is not None and path in node.deps and node.deps[path].md5 != maker.outs[path].md5

    def fed(self, node: Node) -> list[Node] | None:
        """The stages whose records the op went through, record by record, if the recipe still says so and none of them was made
        anew since; None otherwise."""
        stage = self.stages.get(node.address)
        if stage is None or stage.op.name != node.op:
            return None
        now = {f"{ref.data}.parquet" for ref in stage.refs()}
        if now != {path for path in node.deps if path.endswith(".parquet") and self.graph.maker(path)}:
            return None
        if any(self.renewed(node, path) for path in now):
            return None
        return [other for ref in stage.inputs if (other := self.graph.maker(f"{ref.data}.parquet"))]

    # -- outs ----------------------------------------------------------------------------------------------------------------

    def outs(self, remade: Mapping[str, str]) -> Check:
        """Every out has the md5 of the lock, here or in DVC's cache. `remade` are md5s of what a rebuild made, by path: where
        file and lock differ, they tell which of the two was altered."""
        check = Check("outputs", "files and folders as dvc.lock names them", "files and folders are not as dvc.lock names them")
        self._away(check)
        for entry in self.scope:
            for path, made in entry.lock.outs.items():
                check.looked += 1
                if path in self.altered:
                    check.fault(path, self._which(entry, path, remade.get(path)))
                elif path in self.unreadable:
                    back = f"`git checkout {entry.file}` and `{self.back(entry, path)}` bring back what was made"
                    check.fault(path, f"{entry.file} names it, but it cannot be read: {self.unreadable[path]}; {back}")
                elif entry.recipe in self.unpulled and not entry.of_git(path):
                    check.looked -= 1
                elif self.files.md5(path) is None and (kept := self.cached(made.md5)) is not True:
                    if entry.address in self.away and kept is None:
                        check.looked -= 1
                        continue
                    brings = self.snapshot.brings("it", path)
                    cure = f"`git checkout {path}` brings it" if entry.of_git(path) else brings
                    what = "is not here, and neither is it in DVC's cache" if kept is None else "is damaged in DVC's cache"
                    check.fault(path, f"{what} (md5 {made.md5}, {entry.file}: {entry.slug}); {cure}")
        return check

    def _away(self, check: Check) -> None:
        """A line a recipe of which something is not here that need not be."""
        found: dict[str, dict[str, str]] = {}
        for entry in self.scope:
            if entry.address in self.away:
                found.setdefault(entry.recipe, {})[entry.slug] = self.away[entry.address]
        for recipe, stages in found.items():
            published = " and ".join(dict.fromkeys(stages.values()))
            check.skip(
                f"recipes/{recipe}",
                f"{len(stages)} of its stages are not here, and need not be: {published}, made from them, is published "
                f"({', '.join(stages)})",
            )  # fmt: skip

    def _which(self, entry: Entry, path: str, remade: str | None) -> str:
        made, here = self.altered[path]
        both = f"has md5 {here}, but {entry.file} says {made.md5} ({entry.slug})"
        back = self.back(entry, path)
        lacks = (
            "" if entry.of_git(path) or self.cached(made.md5) else f" (DVC's cache lacks it: {self.snapshot.brings('it', path)})"
        )
        of_file = f"the file was altered: `{back}` brings back what was made{lacks}"
        of_lock = f"the lock was altered: `git checkout {entry.file}` brings it back"
        if remade in (here, made.md5):
            return f"{both}; made anew, it has {remade}: {of_lock if remade == here else of_file}"
        if self.cached(made.md5):
            return f"{both}, which DVC's cache has: {of_file}"
        if self.cached(here):
            return f"{both}; DVC's cache has what lies here, and not what the lock says: {of_lock}"
        if remade is not None:
            return f"{both}; made anew, it has {remade}: neither is what its inputs give; {AGAIN}"
        return f"{both}; `{back}` brings back what the lock says{lacks}"

    def back(self, entry: Entry, path: str) -> str:
        """The command that brings back an out: reports and what is published are git's. DVC asks a person before it replaces a
        file that it has not, and refuses where there is none."""
        return f"git checkout {path}" if entry.of_git(path) else f"dvc checkout --force {path}"

    def manifest(self, node: Node) -> dict[str, Any]:
        """What a stage wrote of its run, where that is here and as the lock names it; {} otherwise."""
        path = f"{node.base}{MANIFEST}"
        if node.base is None or path in {**self.altered, **self.unreadable} or self.snapshot.find(path, node.outs[path]) is None:
            return {}
        return self.graph.manifest(node)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
