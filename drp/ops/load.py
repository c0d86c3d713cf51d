"""Load questions with gold answers: from the hub, a file, or a generator."""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

from drp.errors import DataError, choices
from drp.fingerprint import SHORT, of_value, seed_of
from drp.op import Dropped, Kept, Outcome, Record, Source, Work
from drp.sources import Opened, Row, Setting, open_gym, open_hub, open_path, scheme_of
from drp.text import numbers

VERSION = 1

Format = Literal["auto", "gsm8k", "plain"]
_GYM = ("size", "seed", "settings")
_PLACE = ("id", "source", "revision", "split", "row")
"""What is told of a record that was withdrawn."""
_COLUMNS = ("question", "answer", "solution", "key", "family")

MARK = "####"
"""What stands before the answer at the end of a GSM8K solution."""


class Adds(TypedDict):
    """A question. `row` is its key in the source; `revision` a commit (hub) or a package's version (gym), null for a file."""

    id: str
    question: str
    answer: str
    solution: str | None
    source: str
    revision: str | None
    split: str | None
    row: str
    family: str | None


def load(
    work: Work,
    *,
    source: Source,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    question: str = "question",
    answer: str = "answer",
    solution: str | None = None,
    key: str | None = None,
    family: str | None = None,
    answer_format: Format = "auto",
    skip: int = 0,
    limit: int | None = None,
    shuffle_seed: int | None = None,
    size: int | None = None,
    seed: int = 0,
    settings: dict[str, int | float | str | bool] | None = None,
    withdrawn: dict[str, str] | None = None,
) -> Iterator[Outcome]:
    """Records from `hf://org/name` (at a pinned `revision`), a file (JSONL, JSON, CSV, Parquet), or `gym://task`.

    `question`, `answer`, `solution`, `key` (the row's own) and `family` name columns. `answer_format: gsm8k` takes the
    number after `####` (`auto`: where there is one); `plain` takes the value, `27.0` as 27. `skip` and `limit` count
    records, in the source's order, or with `shuffle_seed` in a random one that other rows do not change.
    `size`, `seed` and `settings` are the gym task's. `withdrawn` takes records out by their ids, each with its reason
    (`drp withdraw` writes it): after all choosing, so that no other record moves in or out, and without their texts.
    Dropped: `no-question`, `no-answer`, `duplicate`, `withdrawn`.
    """
    opened = _open(source, config, split, revision, size, seed, settings or {})
    gym = scheme_of(source) == "gym"
    columns = {"question": question, "answer": answer, "solution": solution, "key": key, "family": family}
    common = {"source": str(source), "revision": opened.revision, "split": split}
    if gym:
        columns, common["family"] = {"question": "question", "answer": "answer"}, _name(source)
    outcomes = _distinct(_records(opened, columns, answer_format, common))
    yield from _without(_chosen(outcomes, skip, limit, shuffle_seed), withdrawn or {})


def check(options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """A hub source is pinned, a gym source has a size, and options of one kind of source do not stand with another."""
    kind = scheme_of(str(options["source"]))
    if kind not in ("hf", "gym", "path"):
        yield "source", f"{kind}:// is not a kind of source{choices(kind, ('hf', 'gym'))}; a file is named by its path alone"
    if kind == "hf":
        yield from _check_hub(options)
    if kind == "gym" and options["size"] is None:
        yield "size", "a gym:// source needs `size`: how many problems to make"
    foreign = {"hf": _GYM, "path": ("revision", *_GYM), "gym": ("revision", "config", "split", *_COLUMNS)}
    for k in foreign.get(kind, ()):
        if options[k] not in (None, 0, k):
            yield k, f"a source of this kind ({kind}) has no `{k}`"
    for k in ("skip", "limit", "size"):
        if isinstance(value := options[k], int) and value < 0:
            yield k, f"{value} is less than 0"


def _check_hub(options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    name = _name(str(options["source"]))
    if options["split"] is None:
        yield "split", "an hf:// source needs `split` (for example train or test)"
    if options["revision"] is None:
        yield (
            "revision",
            (
                f"an hf:// source needs `revision`, so that the data stays what it is: the commit that "
                f"`git ls-remote https://huggingface.co/datasets/{name} main` prints; `revision: main` takes what is there "
                "when the stage runs, and records its commit"
            ),
        )


def _name(source: str) -> str:
    return source.partition("://")[2]


def _open(
    source: str, config: str | None, split: str | None, revision: str | None, size: int | None, seed: int,
    settings: Mapping[str, Setting],
) -> Opened:  # fmt: skip
    kind = scheme_of(source)
    if kind == "path":
        return open_path(Path(source), config, split)
    if kind == "gym":
        if size is None:
            raise DataError(f"{source}: a gym:// source needs `size`: how many problems to make")
        return open_gym(_name(source), size, seed, settings)
    if revision is None:
        raise DataError(f"{source}: an hf:// source needs `revision`: a commit, or `main`")
    return open_hub(_name(source), config, split, revision)


def _records(opened: Opened, columns: Mapping[str, str | None], form: Format, common: Mapping[str, Any]) -> Iterator[Outcome]:
    for number, row in enumerate(opened.rows):
        given = {role: _column(row, name, str(common["source"])) for role, name in columns.items() if name}
        question = _text(given["question"])
        answer, solution = read_answer(_text(given["answer"]), form)
        record: Record = {
            "id": of_value([question, answer])[:SHORT], "question": question, "answer": answer,
            "solution": (_text(given["solution"]) if "solution" in given else solution) or None,
            "row": _text(given["key"]) if "key" in given else str(number),
            "family": _text(given.get("family")) or None, **common,
        }  # fmt: skip
        missing = next((k for k in ("question", "answer") if not record[k]), None)
        if missing:
            yield Dropped(record, f"no-{missing}", f"row {number}: {columns[missing]!r} holds {given[missing]!r}")
        else:
            yield Kept(record)


def _column(row: Row, name: str, source: str) -> Any:
    if name not in row:
        raise DataError(f"{source}: no column {name!r}{choices(name, row)}")
    return row[name]


def _text(value: Any) -> str:
    """A value as text: 27.0 is `27`, null is empty, text loses its surrounding blanks."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value).strip()


def read_answer(text: str, form: Format) -> tuple[str, str | None]:
    """The gold answer and, where it ends a GSM8K solution, the solution; an empty answer where there is none.

    `#### 1,450,000`, `#### -3`, `#### $2.50` and `#### 72 dollars` are 1450000, -3, 2.5 and 72.
    """
    solution, mark, tail = text.rpartition(MARK)
    if form == "plain" or not (mark or form == "gsm8k"):
        return text, None
    found = numbers(tail.replace("$", "")) if mark else []
    if len(found) == 1:
        return found[0], solution.strip()
    return ("" if form == "gsm8k" else tail.strip()), solution.strip()


def _distinct(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """The first of every id; the others are dropped."""
    rows: dict[str, str] = {}
    for outcome in outcomes:
        record = outcome.record
        if isinstance(outcome, Kept) and record["id"] in rows:
            yield Dropped(record, "duplicate", f"row {record['row']} asks what row {rows[record['id']]} asks")
            continue
        if isinstance(outcome, Kept):
            rows[record["id"]] = record["row"]
        yield outcome


def _chosen(outcomes: Iterable[Outcome], skip: int, limit: int | None, shuffle_seed: int | None) -> Iterator[Outcome]:
    """The records `skip` to `skip + limit`, and what was refused on the way."""
    stop = None if limit is None else skip + limit
    if shuffle_seed is None:
        yield from _slice(outcomes, skip, stop)
        return
    dropped: list[Outcome] = []
    kept = _kept(outcomes, dropped)
    order = lambda o: seed_of(shuffle_seed, o.record["id"])
    ranked = sorted(kept, key=order) if stop is None else heapq.nsmallest(stop, kept, key=order)
    yield from dropped
    yield from ranked[skip:]


def _kept(outcomes: Iterable[Outcome], dropped: list[Outcome]) -> Iterator[Outcome]:
    for outcome in outcomes:
        if isinstance(outcome, Kept):
            yield outcome
        else:
            dropped.append(outcome)


def _slice(outcomes: Iterable[Outcome], skip: int, stop: int | None) -> Iterator[Outcome]:
    seen = itertools.count()
    if stop == 0:
        return
    for outcome in outcomes:
        place = next(seen) if isinstance(outcome, Kept) else skip
        if place >= skip:
            yield outcome
        if stop is not None and isinstance(outcome, Kept) and place + 1 >= stop:
            return


def _without(outcomes: Iterable[Outcome], withdrawn: Mapping[str, str]) -> Iterator[Outcome]:
    """The same, but of records that were withdrawn (and of their duplicates) only where they stood, and why they are gone."""
    for outcome in outcomes:
        record = outcome.record
        if record["id"] in withdrawn:
            yield Dropped({name: record[name] for name in _PLACE}, "withdrawn", withdrawn[record["id"]])
        else:
            yield outcome
