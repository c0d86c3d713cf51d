"""Completions as one Parquet file to share: a colleague who imports it pays nothing for what is in it."""

import json
import sqlite3
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, get_args

from drp.errors import DataError
from drp.fingerprint import canonical
from drp.models import Completion, Finish
from drp.records import ROWS, Writer, read, schema_at, schema_of
from drp.store.completions import Owner, Store, digest_of, key_of


class Row(TypedDict):
    """A completion in the file, with the digest that the store keeps of it. Nothing in it tells when, so that equal content is
    equal bytes."""

    key: str
    model: str
    request: str
    completion: str
    digest: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    used_by: list[str]


def owners(store: Store) -> list[Owner]:
    """The stages that the store knows."""
    return [Owner(*row) for row in store.rows("select recipe, stage from stages order by recipe, stage")]


def export(store: Store, of: Collection[Owner], out: Path) -> int:
    """Write the completions that these stages' last runs were answered with, sorted by key; gives how many."""
    try:
        store.db.execute("drop table if exists temp.users")
        store.db.execute(
            "create temp table users (completion integer, stage text, primary key (completion, stage)) without rowid"
        )
        store.db.executemany(
            "insert into temp.users select u.completion, s.recipe || '/' || s.stage from uses u join stages s on s.id = u.stage "
            "where s.recipe = ? and s.stage = ?",
            sorted(of),
        )
        found = store.db.execute(
            "select c.key, m.identity, c.request, c.completion, c.finish, c.prompt_tokens, c.completion_tokens, "
            "(select json_group_array(stage) from temp.users where completion = c.id), c.digest "
            "from completions c join models m on m.id = c.model where c.id in (select completion from temp.users) order by c.key"
        )
        with Writer(out, schema_of(Row), key="key") as file:
            for row in found:
                file.add(_exported(row, store))
        return file.rows
    except sqlite3.DatabaseError as error:
        raise store.unusable(error) from error


def _exported(row: tuple[Any, ...], store: Store) -> Row:
    key, model, request, completion, finish, prompt_tokens, completion_tokens, used_by, digest = row
    if digest_of(completion) != digest:
        raise store.altered(key.hex())
    return Row(
        key=key.hex(), model=model, request=canonical(json.loads(request)), completion=completion,
        digest=digest.hex(), finish=finish, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens,
        used_by=sorted(json.loads(used_by)),
    )  # fmt: skip


def strip(path: Path, key: str, mentions: str, write: bool) -> list[Row]:
    """The rows of an exported file whose keys begin so, and of which a turn of the prompt has that text in it; `write`: take them
    out of the file, which then has the others, byte for byte as an export without those would."""
    found: list[Row] = []

    def kept() -> Iterator[dict[str, Any]]:
        for row in read(path):
            if row["key"].startswith(key) and _mentions(row["request"], mentions):
                found.append(Row(**row))  # type: ignore[typeddict-item]  # as the file's schema, which is checked
            else:
                yield row

    _check_columns(path)
    if not write:
        for _ in kept():
            pass
        return found
    with Writer(path, schema_of(Row), key="key") as file:
        for row in kept():
            file.add(row)
    return found


def _mentions(request: str, text: str) -> bool:
    return any(text in content for _, content in json.loads(request)["messages"])


def _check_columns(path: Path) -> None:
    missing = {f.name for f in schema_of(Row)} - set(schema_at(path).names)
    if missing == {"digest"}:
        raise DataError(
            f"{path}: it has no digests of its replies, so nothing tells whether they are what was stored: an earlier drp wrote "
            "it; `drp cache export`, where the store is, writes it anew"
        )
    if missing:
        raise DataError(f"{path}: not a file of `drp cache export`: no column {', '.join(sorted(missing))}")


@dataclass
class Imported:
    """What became of a file's rows; `refused` says which are not what they say, and why."""

    new: int = 0
    better: int = 0
    known: int = 0
    refused: list[str] = field(default_factory=list)


FIELDS = {field.name for field in fields(Completion)} - {"key"}
"""What a stored completion may have."""


class _Checked(NamedTuple):
    key: bytes
    model: str
    request: str
    completion: Completion
    used_by: list[Owner]


def import_(store: Store, path: Path) -> Imported:
    """Put in what is not there yet. A whole answer is never replaced; one that is not is, by a better one."""
    _check_columns(path)
    found = Imported()
    rows = _checked(path, found)
    while batch := list(islice(rows, ROWS)):
        with store.transaction():
            for row in batch:
                _put(store, row, found)
    return found


def _checked(path: Path, found: Imported) -> Iterator[_Checked]:
    for row in read(path):
        try:
            checked = _check(row)
        except (ValueError, TypeError) as error:
            found.refused.append(f"{path}: completion {row['key']}: {error}")
        else:
            yield checked


def _check(row: dict[str, Any]) -> _Checked:
    """ValueError or TypeError where the row is not what it says."""
    model = canonical(json.loads(row["model"]))
    if key_of(model, row["request"]).hex() != row["key"]:
        raise ValueError("its key is not that of its request")
    plain = json.loads(row["completion"])
    if not isinstance(plain, dict) or plain.keys() - FIELDS:
        raise ValueError(f"not a completion (it has {', '.join(sorted(FIELDS))})")
    completion = Completion(**plain)
    for column in ("finish", "prompt_tokens", "completion_tokens"):
        if getattr(completion, column) != row[column]:
            raise ValueError(f"{column} is {row[column]!r}, but {getattr(completion, column)!r} in the completion")
    if not isinstance(completion.text, str) or completion.finish not in get_args(Finish):
        raise ValueError("not a completion")
    if digest_of(row["completion"]).hex() != row["digest"]:
        raise ValueError("its reply is not what was stored (its digest differs)")
    users = [Owner(*name.split("/", 1)) for name in row["used_by"]]
    return _Checked(bytes.fromhex(row["key"]), model, canonical(json.loads(row["request"])), completion, users)


WORTH = {"stop": 2, "length": 1}
"""Which of two answers to one request is kept: the whole one."""


def _put(store: Store, row: _Checked, found: Imported) -> None:
    there = store.db.execute("select finish, completion, digest from completions where key = ?", (row.key,)).fetchone()
    sound = there and digest_of(there[1]) == there[2]
    if sound and WORTH.get(there[0], 0) >= WORTH.get(row.completion.finish, 0):
        found.known += 1
    else:
        store.put(row.key, row.model, row.request, row.completion, int(time.time()))
        found.new += not there
        found.better += bool(there)
    for owner in row.used_by:
        store.db.execute("insert or ignore into uses select ?, id from completions where key = ?", (store.stage(owner), row.key))
