"""What is in the completion store, by model and by stage, and the forgetting of some of it."""

import json
import re
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from drp.errors import ConfigError
from drp.store import wal
from drp.store.completions import Owner, Store

# -- what is there ---------------------------------------------------------------------------------------------------------


def stats(store: Store) -> dict[str, Any]:
    """Sizes, counts, tokens and money, as plain values."""
    ((rows, reusable, cut, oldest, newest),) = store.rows(
        "select count(*), sum(finish = 'stop'), sum(finish = 'length'), min(at), max(at) from completions"
    )
    ((free,),) = store.rows("select freelist_count * page_size from pragma_freelist_count, pragma_page_size")
    ((unused,),) = store.rows("select count(*) from completions where id not in (select completion from uses)")
    files = [store.path, wal.beside(store.path, "-wal")]
    return {
        "path": str(store.path),
        "bytes": sum(path.stat().st_size for path in files if path.exists()),
        "free_bytes": free,
        "completions": rows,
        "reusable": reusable or 0,
        "cut_off": cut or 0,
        "unused": unused,
        "oldest": _day(oldest),
        "newest": _day(newest),
        "models": _models(store),
        "stages": _stages(store),
    }


def _day(at: int | None) -> str | None:
    return None if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _models(store: Store) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, finish, rows, prompt, completion in store.rows(
        "select json_extract(m.identity, '$.name') as name, c.finish, count(*), sum(c.prompt_tokens), sum(c.completion_tokens) "
        "from completions c join models m on m.id = c.model group by name, c.finish order by name, c.finish"
    ):
        model = found.setdefault(
            name, {"model": name, "completions": 0, "finish": {}, "prompt_tokens": 0, "completion_tokens": 0}
        )
        model["finish"][finish] = rows
        model["completions"] += rows
        model["prompt_tokens"] += prompt
        model["completion_tokens"] += completion
    return list(found.values())


def _stages(store: Store) -> list[dict[str, Any]]:
    names = ("recipe", "stage", "uses", "payments", "prompt_tokens", "completion_tokens", "cost", "unpriced")
    rows = store.rows(
        "select s.recipe, s.stage, (select count(*) from uses where stage = s.id), count(p.id), "
        "coalesce(sum(p.prompt_tokens), 0), coalesce(sum(p.completion_tokens), 0), coalesce(sum(p.cost), 0.0), "
        "coalesce(sum(p.cost = 0), 0) "
        "from stages s left join payments p on p.stage = s.id group by s.id order by s.recipe, s.stage"
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


# -- forgetting ------------------------------------------------------------------------------------------------------------

COLUMNS = {
    "finish": "c.finish",
    "prompt_tokens": "c.prompt_tokens",
    "completion_tokens": "c.completion_tokens",
    "model": "json_extract(m.identity, '$.name')",
    "served": "iif(json_valid(c.completion), json_extract(c.completion, '$.served'), null)",
    "error": "iif(json_valid(c.completion), json_extract(c.completion, '$.error'), null)",
    "text": "iif(json_valid(c.completion), json_extract(c.completion, '$.text'), null)",
    "age_days": "(strftime('%s', 'now') - c.at) / 86400.0",
    "key": "lower(hex(c.key))",
}
"""What a condition may speak of."""
READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}
BARRED = {"load_extension", "randomblob", "zeroblob", "fts3_tokenizer"}
"""Functions that a condition may not call: they do more than look, or take memory without end."""
AT_ONCE = 20_000
"""Completions forgotten in one transaction, so that nobody waits long."""
LEAST = 12
"""Characters of a text that prompts are searched for: a shorter one may stand in anybody's."""
MENTIONS = (
    "instr(request, ?) and exists (select 1 from json_each(iif(json_valid(request), request, '{}'), '$.messages') "
    "where instr(json_extract(value, '$[1]'), ?))"
)
"""Whether a turn of the request has a text in it: looked for first as JSON has it, which is what a request is stored as."""


@dataclass(frozen=True)
class Choice:
    """Which completions; all that is given must hold. `owners` None: whoever used them; `key` may be the beginning of one;
    `mentions` is a text that a turn of the prompt has in it, letter by letter."""

    owners: Collection[Owner] | None = None
    where: str = ""
    key: str = ""
    mentions: str = ""
    unused: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Chosen:
    """What a choice comes to: how many, how many of them whole, what was paid for them, and the stages whose last runs used them,
    each with how many; `unused`: how many no last run used."""

    count: int
    whole: int
    payments: int
    tokens: int
    cost: float
    users: dict[Owner, int]
    unused: int


@contextmanager
def choosing(store: Store, choice: Choice) -> Iterator[Chosen]:
    """Look the completions up (in the temporary table `chosen`, which `forget` goes by)."""
    try:
        store.db.execute("create temp table chosen (id integer primary key, digest blob)")
        try:
            _choose(store, choice)
            yield _sum(store)
        finally:
            store.db.execute("drop table temp.chosen")
    except sqlite3.DatabaseError as error:
        raise store.unusable(error) from error


def _choose(store: Store, choice: Choice) -> None:
    conditions, values = ["true"], list[object]()
    if choice.owners is not None:
        stages = f"select id from stages where (recipe, stage) in (values {', '.join('(?, ?)' for _ in choice.owners)})"
        conditions.append(f"id in (select completion from uses where stage in ({stages}))")
        values += [part for owner in choice.owners for part in owner]
    if choice.unused:
        conditions.append("id not in (select completion from uses)")
    if choice.failed:
        conditions.append("finish in ('error', 'content_filter')")
    if choice.mentions:
        conditions.append(MENTIONS)
        values += [*mentioning(choice.mentions)]
    if choice.key:
        check_key(choice.key)
        conditions.append("key >= ? and key <= ?")
        values += [bytes.fromhex(choice.key.ljust(64, "0")), bytes.fromhex(choice.key.ljust(64, "f"))]
    store.db.execute(f"insert into temp.chosen select id, digest from completions where {' and '.join(conditions)}", values)
    if choice.where:
        wanted = _where(store, choice.where)
        store.db.execute("create temp table wanted (id integer primary key)")
        store.db.executemany("insert into temp.wanted values (?)", wanted)
        store.db.execute("delete from temp.chosen where id not in (select id from temp.wanted)")
        store.db.execute("drop table temp.wanted")


def mentioning(text: str) -> tuple[str, str]:
    """The values for MENTIONS; ConfigError where the text is so short that it tells nothing."""
    if len(text.strip()) < LEAST:
        raise ConfigError(
            f"{text!r} is too short to look for in prompts: fewer than {LEAST} characters may stand in anybody's; give more of it"
            ", or forget completions by --key"
        )
    return json.dumps(text, ensure_ascii=False)[1:-1], text


def check_key(key: str) -> None:
    """ConfigError where it is not the key of a completion."""
    if not re.fullmatch("[0-9a-f]{4,64}", key):
        raise ConfigError(f"--key {key}: not a completion's key, nor the beginning of one (4 to 64 digits 0-9a-f)")


def _where(store: Store, condition: str) -> list[tuple[int]]:
    """The completions for which a condition holds; it can do nothing but read, and sees nothing but the documented columns."""
    view = ", ".join(f"{expression} as {name}" for name, expression in COLUMNS.items())
    # A second connection: read-only, and with a guard on every word of the statement.
    with closing(sqlite3.connect(f"{store.path.as_uri()}?mode=ro", uri=True, timeout=60)) as db:
        db.execute(
            f"create temp view answers as select c.id as id, {view} from main.completions c join main.models m on m.id = c.model"
        )
        db.set_authorizer(_guard)
        try:
            return db.execute(f"select id from answers where (\n{condition}\n)").fetchall()
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_AUTH, 0):
                raise ConfigError(f"--where {condition!r}: {error}; it may speak of {', '.join(COLUMNS)}") from error
            raise


def _guard(action: int, one: str | None, two: str | None, database: str | None, source: str | None) -> int:
    """Allows to read the view, and the tables through the view."""
    if action == sqlite3.SQLITE_READ:
        joined = one in ("completions", "models") and not two  # a table of the view of which no column is needed
        return sqlite3.SQLITE_OK if joined or "answers" in (one, source) else sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if two in BARRED else sqlite3.SQLITE_OK
    return sqlite3.SQLITE_OK if action in READS else sqlite3.SQLITE_DENY


def _sum(store: Store) -> Chosen:
    ((count, whole),) = store.rows(
        "select count(*), coalesce(sum(finish = 'stop'), 0) from completions where id in (select id from temp.chosen)"
    )
    ((payments, tokens, cost),) = store.rows(
        "select count(*), coalesce(sum(prompt_tokens + completion_tokens), 0), coalesce(sum(cost), 0.0) from payments "
        "where key in (select key from completions where id in (select id from temp.chosen))"
    )
    users = store.rows(
        "select s.recipe, s.stage, count(*) from uses u join stages s on s.id = u.stage "
        "where u.completion in (select id from temp.chosen) and s.stage != '' group by s.id order by 1, 2"
    )
    ((unused,),) = store.rows("select count(*) from temp.chosen where id not in (select completion from uses)")
    used = {Owner(recipe, stage): uses for recipe, stage, uses in users}
    return Chosen(count, whole, payments, tokens, cost, used, unused)


def forget(store: Store) -> int:
    """Remove what is chosen, and that it was used; payments stay, for money spent is spent. Gives how many.

    An answer that was replaced since it was chosen stays.
    """
    gone = 0
    store.db.execute("create temp table going (id integer primary key)")
    while True:
        with store.transaction() as db:
            db.execute("delete from temp.going")
            db.execute(
                "insert into temp.going select c.id from temp.chosen h join completions c on c.id = h.id and c.digest = h.digest "
                "limit ?",
                (AT_ONCE,),
            )
            db.execute("delete from uses where completion in (select id from temp.going)")
            removed = db.execute("delete from completions where id in (select id from temp.going)").rowcount
        if not removed:
            break
        gone += removed
    store.db.execute("drop table temp.going")
    return gone
