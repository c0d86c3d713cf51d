"""The files of the workspace that an answer was read from, beside what their locks name."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drp.errors import DataError
from drp.lineage.graph import Graph
from drp.pipeline.locked import Made
from drp.pipeline.stamps import Stamps

MOST = 64 << 20
"""Bytes that are hashed for one answer, a tenth of a second's work; what is known by its stamp costs nothing."""
TAIL = 64 << 10
"""Bytes at the end of a larger file (of Parquet: all or most of its footer) that are held beside those of DVC's cached copy."""


@dataclass(frozen=True)
class Beside:
    """What was found: the files that are not what their locks name, with the file that names them, and those too large to say."""

    altered: dict[str, str]
    unchecked: tuple[str, ...]
    cures: dict[str, str]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"altered": [{"path": path, "lock": lock} for path, lock in self.altered.items()],
                "unchecked": list(self.unchecked)}  # fmt: skip

    def __str__(self) -> str:
        """A line a file; nothing where nothing is altered."""
        return "".join(
            f"ALTERED: {path} is not what {lock} names, and this answer was read from it: `drp verify` says more; "
            f"{self.cures[path]}\n" for path, lock in self.altered.items()
        )  # fmt: skip


def beside(graph: Graph) -> Beside:
    """What a graph's files that were read so far are; of a revision, nothing is altered: it is read by its hashes."""
    snapshot = graph.snapshot
    stamps, altered, unchecked = Stamps(snapshot.project), dict[str, str](), list[str]()
    left, cures = MOST, dict[str, str]()
    sizes = {path: (snapshot.root / path).stat().st_size for path in snapshot.read if (snapshot.root / path).is_file()}
    for path in sorted(sizes, key=lambda path: (sizes[path], path)):
        made, here = snapshot.read[path], snapshot.root / path
        kept = snapshot.object(made.md5)
        if not made.md5 or (kept.exists() and kept.samefile(here)):  # a link that DVC made: what it names is what lies there
            continue
        known = stamps.known(path)
        if made.size not in (None, sizes[path]):
            same: bool | None = False
        elif known is not None or sizes[path] <= left:
            left -= 0 if known else sizes[path]
            same = (known or stamps.md5(path)) == made.md5
        else:
            same = False if kept.exists() and _tail(kept) != _tail(here) else None
        if same is None:
            unchecked.append(path)
        elif not same:
            maker = graph.maker(path)
            altered[path] = f"recipes/{maker.recipe}/dvc.lock" if maker else f"{path}.dvc"
            cures[path] = _cure(graph, path, made)
    stamps.keep()
    return Beside(dict(sorted(altered.items())), tuple(sorted(unchecked)), cures)


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read()


def _cure(graph: Graph, path: str, made: Made) -> str:
    snapshot, maker = graph.snapshot, graph.maker(path)
    if maker and (path.startswith("recipes/") or maker.frozen):  # reports, and what is published, are git's
        return f"`git checkout {path}` brings it back"
    pull = "" if snapshot.object(made.md5).exists() else f" (DVC's cache lacks it: {snapshot.brings('it', path)})"
    return f"`dvc checkout --force {path}` brings it back{pull}"


@contextmanager
def owning(graph: Graph) -> Iterator[None]:
    """An answer that is an error names the altered files that it was read from, as every other answer does."""
    try:
        yield
    except DataError as error:
        if told := str(beside(graph)):
            raise DataError(f"{told}{error}") from error
        raise
