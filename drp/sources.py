"""Sources: the rows of a data set, from the hub, a file, a folder, or a reasoning-gym task, as a stream of columns to values."""

import csv
import dataclasses
import importlib.metadata
import json
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from drp.errors import DataError, MissingPackage, choices
from drp.fingerprint import seed_of
from drp.records import read as read_parquet

Row = dict[str, Any]
Setting = int | float | str | bool

REACH = 5.0
"""Seconds to wait for the hub to accept a connection."""


@dataclass(frozen=True)
class Opened:
    """The rows in the source's own order, and what pins them: a commit of the hub, a version of a generator, or None."""

    rows: Iterator[Row]
    revision: str | None = None


def scheme_of(source: str) -> str:
    """`hf`, `gym`, another scheme, or `path` for a file or folder."""
    return source.partition("://")[0] if "://" in source else "path"


def open_path(path: Path, config: str | None = None, split: str | None = None) -> Opened:
    """A `.jsonl`, `.json`, `.csv` or `.parquet` file, or a folder that `datasets` can load; DataError for anything else."""
    if path.is_dir():
        return Opened(_folder(path, config, split, str(path)))
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": read_parquet}
    if path.suffix not in readers:
        raise DataError(f"{path}: {path.suffix or 'a file without an ending'!r} cannot be read{choices(path.suffix, readers)}")
    if not path.exists():
        raise DataError(f"{path}: no such file; a hub data set begins with hf://")
    return Opened(readers[path.suffix](path))


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _object(line, f"{path}:{number}")


def _object(text: str, place: str) -> Row:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{place}: not an object but {type(value).__name__}")
    return value


def _json(path: Path) -> Iterator[Row]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg}); one object a line is .jsonl") from error
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise DataError(f"{path}: not a list of objects")
    yield from rows


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, strict=True)


def open_hub(name: str, config: str | None, split: str | None, revision: str) -> Opened:
    """A data set of the hub at a commit, branch or tag; what is recorded is always the commit.

    The repository is fetched at that commit into the hub's cache (so that a later run needs no network) and read from
    there by `datasets`. DataError within seconds where the hub cannot be reached and the cache does not have it.
    """
    try:
        from huggingface_hub import constants, snapshot_download
    except ImportError as error:
        raise MissingPackage(f"hf://{name} needs the hub's client ({error}): pip install 'drp[hub]'") from error
    there = reachable(constants.ENDPOINT)
    try:
        folder = snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=not there)
    except (OSError, ValueError) as error:
        why = "the hub refused it" if there else f"{constants.ENDPOINT} cannot be reached and the cache does not have it"
        raise DataError(f"hf://{name} at {revision}: {why}: {str(error).splitlines()[0]}") from error
    return Opened(_folder(Path(folder), config, split, f"hf://{name}"), Path(folder).name)


def reachable(url: str) -> bool:
    """Whether a server accepts connections (or a proxy stands between): the hub's client alone would retry for 25 seconds."""
    parts = urlsplit(url)
    if parts.scheme in urllib.request.getproxies():
        return True
    try:
        socket.create_connection((parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)), REACH).close()
    except OSError:
        return False
    return True


def _folder(path: Path, config: str | None, split: str | None, shown: str) -> Iterator[Row]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingPackage(f"{shown} needs `datasets` ({error}): pip install 'drp[hub]'") from error
    try:
        yield from load_dataset(str(path), name=config, split=split or "train", streaming=True)
    except (ValueError, OSError) as error:
        asked = f"config {config!r}, split {split or 'train'!r}"
        raise DataError(f"{shown}: `datasets` cannot read it with {asked}: {error}") from error


def open_gym(task: str, size: int, seed: int, settings: Mapping[str, Setting]) -> Opened:
    """`size` generated problems of a reasoning-gym task; `settings` are its own, by name. The revision is the package's.

    The task's problem k is drawn from its seed + k, so that seeds 0 and 1 would share all but one problem; `seed` is
    therefore hashed first.
    """
    try:
        from reasoning_gym.factory import DATASETS, create_dataset
    except ImportError as error:
        raise MissingPackage(f"gym://{task} needs reasoning-gym ({error}): pip install 'drp[gym]'") from error
    if task not in DATASETS:
        raise DataError(f"gym://{task}: no such task{choices(task, DATASETS)}")
    known = {f.name for f in dataclasses.fields(DATASETS[task][1])} - {"size", "seed"}
    for name in settings:
        if name not in known:
            raise DataError(f"gym://{task}: {name!r} is not one of its settings{choices(name, known)}")
    try:
        rows = create_dataset(task, size=size, seed=seed_of(task, seed) >> 31, **settings)
    except (AssertionError, ValueError, TypeError) as error:
        raise DataError(f"gym://{task}: it refuses size {size} with {dict(settings)}: {error}") from error
    return Opened(iter(rows), f"reasoning-gym=={importlib.metadata.version('reasoning-gym')}")
