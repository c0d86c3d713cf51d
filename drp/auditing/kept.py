"""Whether the completions are sound that a dataset was made from: the store, the shared files, every key in a trail."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

from drp.auditing.finding import Check
from drp.auditing.sums import Sums
from drp.errors import DataError
from drp.lineage.graph import Node
from drp.lineage.replies import SHARED
from drp.lineage.tables import Tables, unglobbed
from drp.project import Project
from drp.store.completions import Store
from drp.store.exchange import import_
from drp.store.peek import Peek
from drp.store.repair import check as soundness

AT_ONCE = 500
"""Keys looked for in one query."""


def gather(project: Project, sums: Sums, shared: Mapping[str, Path], into: Path) -> tuple[Check, dict[Path, str]]:
    """The places where completions are, looked through (digests, keys), and the stores that answers can be taken from, each by
    the name of its place.

    `shared` are files of `drp cache export`; they are unpacked below `into`.
    """
    check, found = Check("completions", "completions that are what was stored"), dict[Path, str]()
    if project.store.exists():
        health = soundness(project.store)
        check.looked += health.rows["completions"]
        check.faults(str(project.store), health.faults, "; `drp cache check --repair` saves what is sound")
        if not health.faults:
            found[project.store] = str(project.store)
    for number, (path, file) in enumerate(shared.items()):
        pointer = _pointer(sums, path)
        if pointer and sums.files.md5(path) not in (pointer, None):
            check.fault(path, f"has md5 {sums.files.md5(path)}, but {path}.dvc says {pointer}; {cure(sums, path)}")
            continue
        unpacked = into / f"shared-{number}" / "completions.sqlite"
        try:
            with closing(Store(unpacked)) as store:
                done = import_(store, file)
        except DataError as error:
            check.fault(path, f"{str(error).removeprefix(f'{file}: ')}; {cure(sums, path)}")
            continue
        check.looked += done.new + done.better + done.known
        check.faults(path, (words.removeprefix(f"{file}: ") for words in done.refused), f"; {cure(sums, path)}")
        found[unpacked] = path
    return check, found


def _pointer(sums: Sums, path: str) -> str | None:
    md5: str | None = (sums.snapshot.mapping(f"{path}.dvc").get("outs") or [{}])[0].get("md5")
    return md5


def cure(sums: Sums, path: str) -> str:
    """What brings back a shared file: DVC, where it was given to it; else who has paid."""
    pointer = _pointer(sums, path)
    if pointer is None:
        return f"no {path}.dvc says what it was: remove it (rm {path}), and have it anew of who shared it (`drp cache export`)"
    pull = "" if sums.files.cached(pointer) else f" (DVC's cache lacks it: {sums.snapshot.brings('it', path)})"
    return f"`dvc checkout --force {path}` brings back what was shared{pull}"


def known(check: Check, sums: Sums, tables: Tables, nodes: Sequence[Node], stores: Iterable[Path]) -> None:
    """Every completion that a trail or a record names is in one of these stores."""
    with ExitStack() as stack:
        opened = [stack.enter_context(closing(Peek(path))) for path in stores]
        for node in nodes:
            for path, keys in _named(sums, tables, node):
                try:
                    _look(check, node, path, keys, opened)
                except DataError as error:
                    check.fault(path, str(error))


def _named(sums: Sums, tables: Tables, node: Node) -> Iterator[tuple[str, Iterator[str]]]:
    """The stage's files that name completions, and their keys."""
    if node.base is None or not sums.sound(node):
        return
    for part in ("", ".trail"):
        if tables.present(node, part) and "completion" in tables.columns(node, part):
            yield f"{node.base}{part}.parquet", _keys(tables, tables.file(node, part))


def _keys(tables: Tables, file: Path) -> Iterator[str]:
    import duckdb

    sql = "select distinct completion from read_parquet(?) where completion is not null"
    try:
        found = tables.db.execute(sql, [unglobbed(file)])
        while rows := found.fetchmany(AT_ONCE):
            yield from (key for (key,) in rows)
    except duckdb.Error as error:
        raise DataError(f"cannot be read: {error}") from error


def _look(check: Check, node: Node, path: str, keys: Iterator[str], stores: Sequence[Store]) -> None:
    there, lacking, example = 0, 0, ""
    while some := list(islice(keys, AT_ONCE)):
        left = set(some)
        for store in stores:
            asked = [bytes.fromhex(key) for key in left]
            rows = store.rows(f"select key from completions where key in ({','.join('?' * len(asked))})", asked) if asked else []
            left -= {key.hex() for (key,) in rows}
        there += len(some) - len(left)
        lacking += len(left)
        example = example or min(left, default="")
    if lacking and there:
        check.fault(
            path, f"{lacking} of its {lacking + there} completions are unknown, such as {example}: not in the store, nor "
            f"in {SHARED.format(node.recipe)}; `drp cache import FILE` brings what others have"
        )  # fmt: skip
    elif lacking:
        check.skip(
            path, f"none of its {lacking} completions is in the store or in {SHARED.format(node.recipe)}; "
            f"whoever paid can share them: `drp cache export {node.recipe}`, then `dvc add`"
        )  # fmt: skip
