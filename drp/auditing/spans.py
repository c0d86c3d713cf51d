"""Whether every row of a trail says what its record says: spans that cover the text, actions, sentences, parents."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drp.auditing.finding import Check
from drp.auditing.sums import Sums
from drp.errors import DataError
from drp.lineage.graph import Node
from drp.lineage.tables import Tables
from drp.pieces import Step
from drp.records import ROWS, Record

TOLD = ("record", "step", "skill", "action", "reason", "src_start", "src_end", "out_start", "out_end")
"""The columns of a trail that are held against the records (mix's have `parents` too)."""
Words = Callable[[Record, Sequence[Record]], Iterator[str]]
"""(record, its rows of the trail) to what is wrong with them."""


def spans(sums: Sums, tables: Tables, nodes: Sequence[Node]) -> Check:
    """The trails of all stages beside their records, a row group at a time."""
    check = Check("trails", "rows of trails that agree with their records")
    for node in nodes:
        if node.base is None:
            continue
        place = f"{node.base}.trail.parquet"
        if not sums.sound(node) or not tables.present(node, ".trail") or not tables.present(node):
            if node.address not in sums.away:
                check.skip(place, "not looked at: the stage's files are not here as their lock names them")
            continue
        trail = tables.file(node, ".trail")
        back = f"git checkout {place}" if node.frozen else f"dvc checkout --force {place}"
        cure = f"; `git checkout recipes/{node.recipe}/dvc.lock` and `{back}` bring back what was made"
        try:
            check.faults(place, _head(sums, node, trail), cure)
            with _Rows(trail, (*TOLD, "parents") if node.op == "mix" else TOLD) as rows:
                words = _words(sums, tables, node)
                check.faults(place, _trail(tables, node, rows, *words), cure)
                check.looked += rows.seen
        except DataError as error:
            check.fault(place, f"{error}{cure}")
    return check


class _Rows:
    """The rows of a Parquet file, of some columns, as they come; `seen` counts them."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        import pyarrow.parquet as pq

        self.path, self.seen = path, 0
        self._file = pq.ParquetFile(path)
        self._columns = list(columns)

    def __iter__(self) -> Iterator[Record]:
        import pyarrow as pa

        try:
            for batch in self._file.iter_batches(batch_size=ROWS, columns=self._columns):
                self.seen += batch.num_rows
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error

    def __enter__(self) -> "_Rows":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _head(sums: Sums, node: Node, trail: Path) -> Iterator[str]:
    """What stands once in the file: the op, its fingerprint."""
    import pyarrow.parquet as pq

    told: Mapping[bytes, bytes] = pq.read_schema(trail).metadata or {}
    manifest = sums.manifest(node)
    for key in ("op", "fingerprint"):
        said = told.get(f"drp.{key}".encode(), b"").decode()
        if manifest and said and said != manifest.get(key):  # an earlier drp said nothing there
            yield f"it says that it is of the {key} {said!r}, the manifest {manifest.get(key)!r}"


def _words(sums: Sums, tables: Tables, node: Node) -> tuple[tuple[str, ...], Words]:
    """The columns that it takes to judge a trail of this op, and how; of an op that is not known, only whose its rows are."""
    columns, words = KNOWN.get(node.op, (("id",), _nothing))
    if node.op == "mix" and (inputs := sums.fed(node)):
        here = all(tables.present(other) for other in inputs)
        words = _Parents({k: tables.file(n) for k, n in sums.graph.labels(node, inputs).items()}) if here else _nothing
    return (columns, words) if set(columns) <= set(tables.columns(node)) else (("id",), _nothing)


def _trail(tables: Tables, node: Node, rows: Iterable[Record], columns: Sequence[str], words: Words) -> Iterator[str]:
    with _Rows(tables.file(node), columns) as records:
        for record, own in _joined(records, rows):
            if record is None:
                yield f"it has rows of {own[0]['record']}, which {node.base}.parquet does not have"
                continue
            try:
                yield from [f"{record['id']}: {wrong}" for wrong in words(record, own)]
            except TypeError as error:
                yield f"{record['id']}: it has nulls where there can be none ({error})"


def _joined(records: Iterable[Record], rows: Iterable[Record]) -> Iterator[tuple[Record | None, list[Record]]]:
    """Each record with its rows of the trail; both are sorted. Rows that are nobody's come without a record."""
    groups = ((key, list(group)) for key, group in itertools.groupby(rows, key=lambda row: str(row["record"])))
    group = next(groups, None)
    for record in records:
        while group and group[0] < record["id"]:
            yield None, group[1]
            group = next(groups, None)
        own: list[Record] = []
        while group and group[0] == record["id"]:
            own += group[1]
            group = next(groups, None)
        yield record, own
    while group:
        yield None, group[1]
        group = next(groups, None)


def _nothing(record: Record, rows: Sequence[Record]) -> Iterator[str]:
    """Of other ops, nothing more is known."""
    return iter(())


def _covering(parts: Sequence[Mapping[str, Any]], text: str, what: str) -> Iterator[str]:
    """Spans that do not cover a text exactly, one after the other."""
    here = 0
    for number, part in enumerate(parts):
        if part["start"] != here or part["end"] < part["start"]:
            yield f"{what} {number} begins at {part['start']}, not at {here}, where the one before it ends"
            return
        here = part["end"]
    if here != len(text):
        yield f"its {what}s end at {here}, its text at {len(text)}"


def _source(row: Record) -> tuple[int | None, int | None]:
    return row["src_start"], row["src_end"]


def _segment(record: Record, rows: Sequence[Record]) -> Iterator[str]:
    steps: list[Step] = record["steps"] or []
    yield from _covering(steps, record["thought"], "step")
    if len(rows) != len(steps):
        yield f"its trail has {len(rows)} rows, it has {len(steps)} steps"
        return
    for number, (step, row) in enumerate(zip(steps, rows, strict=True)):
        if (row["step"], row["skill"]) != (number, step["skill"]) or _source(row) != (step["start"], step["end"]):
            yield f"step {number} is {_at(step)}, its trail says {_told(row)}"


def _edit(record: Record, rows: Sequence[Record]) -> Iterator[str]:
    steps, actions = record["steps"] or [], record["actions"] or []
    if [action["step"] for action in actions] != list(range(len(steps))):
        yield f"its actions are of the steps {[a['step'] for a in actions]}, not one of each of {len(steps)}"
        return
    if len(rows) != len(actions):
        yield f"its trail has {len(rows)} rows, it has {len(actions)} actions"
        return
    for action, step, row in zip(actions, steps, rows, strict=True):
        told = (row["step"], row["action"], row["reason"], row["skill"])
        meant = (action["step"], action["action"], action["reason"], step["skill"])
        if told != meant or _source(row) != (step["start"], step["end"]):
            yield f"step {action['step']} ({_at(step)}) was given {action['action']!r}, its trail says {_told(row)}"


def _reassemble(record: Record, rows: Sequence[Record]) -> Iterator[str]:
    pruned: str = record["pruned"]
    yield from _covering(record["sentences"], pruned, "sentence")
    meant = [(sentence, step) for sentence in record["sentences"] for step in sentence["steps"] or [-1]]
    if len(rows) != len(meant):
        yield f"its trail has {len(rows)} rows, its sentences cite {len(meant)} steps"
        return
    deleted = {action["step"] for action in record["actions"] if action["action"] == "delete"}
    for (sentence, number), row in zip(meant, rows, strict=True):
        out = (sentence["start"], sentence["end"])
        if (row["step"], row["action"], row["out_start"], row["out_end"]) != (number, sentence["kind"], *out):
            yield f"the sentence at {out[0]}–{out[1]} is {sentence['kind']} of step {number}, its trail says {_told(row)}"
        elif number in deleted:
            yield f"the sentence at {out[0]}–{out[1]} cites step {number}, which was deleted"
        elif number >= len(record["steps"]):
            yield f"the sentence at {out[0]}–{out[1]} cites step {number} of {len(record['steps'])}"
        elif number >= 0:
            yield from _cited(record, record["steps"][number], row)


def _cited(record: Record, step: Step, row: Record) -> Iterator[str]:
    """Of a sentence that comes from a step: its source lies in the step, and is the same text where it is verbatim."""
    start, end = _source(row)
    place = f"the sentence at {row['out_start']}–{row['out_end']}"
    if start is None or end is None or not step["start"] <= start < end <= step["end"] or row["skill"] != step["skill"]:
        yield f"{place} comes from step {row['step']} ({_at(step)}), its trail says {_told(row)}"
    elif row["action"] == "verbatim":
        one, other = record["thought"][start:end], record["pruned"][row["out_start"] : row["out_end"]]
        if one.split() != other.split():
            yield f"{place} is called verbatim, but its source at {start}–{end} reads otherwise"


def _at(step: Step) -> str:
    return f"{step['skill']} at {step['start']}–{step['end']}"


def _told(row: Record) -> str:
    return f"step {row['step']}, {row['action'] or row['skill']}, at {row['src_start']}–{row['src_end']}"


class _Parents:
    """Whether the inputs that mix names have its records."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._inputs = {label: _Forwards(_Rows(file, ("id",))) for label, file in files.items()}

    def __call__(self, record: Record, rows: Sequence[Record]) -> Iterator[str]:
        parents = [parent for row in rows for parent in row["parents"]]
        if not parents:
            yield "its trail names no parent"
        for parent in parents:
            label, _, id_ = parent.rpartition(":")
            if id_ != record["id"] or label not in self._inputs or not self._inputs[label].has(id_):
                yield f"its parent {parent} is not there"


class _Forwards:
    """Sorted ids, looked for in their order."""

    def __init__(self, rows: Iterable[Record]) -> None:
        self._rows = (row["id"] for row in rows)
        self._here: str | None = next(self._rows, None)

    def has(self, id_: str) -> bool:
        """Whether it is there, not before the one that was asked for last."""
        while self._here is not None and self._here < id_:
            self._here = next(self._rows, None)
        return self._here == id_


KNOWN: Mapping[str, tuple[tuple[str, ...], Words]] = {
    "segment": (("id", "thought", "steps"), _segment),
    "edit": (("id", "steps", "actions"), _edit),
    "reassemble": (("id", "thought", "steps", "actions", "pruned", "sentences"), _reassemble),
}
"""The ops whose trails are known: the columns that it takes to judge them, and how."""
