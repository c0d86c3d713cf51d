"""What a stage refuses to publish: records that vanished, records under other ids, rows that are no rows."""

from pathlib import Path

import pytest

from tests.projects import project

OWN = '''
    """Do as told."""
    from collections.abc import Iterable, Iterator
    from drp.op import Dropped, Kept, Outcome, Record, Work

    VERSION = 1

    def own(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
        for record in records:
            {}
    '''


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ('yield from [Kept(record)] if record["id"] != "001" else []', "read 3 records, kept 2 and dropped 0: some vanished"),
        ('yield Kept({**record, "id": record["id"] + "/000"})', "of other ids than it read; op 'own' must keep them"),
        ('yield Dropped({**record, "id": "x"}, "why")', "of other ids than it read; op 'own' must keep them"),
        ('yield Kept({**record, "text": 1})', "record 000: column 'text' is string, which 1 is not"),
        ('yield Kept(record, ({"record": "000"},))', "is no row of a trail: make it with drp.op.trail_row"),
    ],
)
def test_a_stage_that_did_so_publishes_nothing_and_says_what_was_wrong(tmp_path: Path, does: str, said: str) -> None:
    made = project(tmp_path / "p", "stages:\n  a: {op: make}\n  b: {op: own, from: a}\n", dvc=False)
    made.write("ops/own.py", OWN.format(does))
    made.run("drp", "compile")
    made.run("drp", "stage", "one", "a")
    assert said in made.run("drp", "stage", "one", "b", code=1)
    assert [file.name for file in sorted((made.root / "data/one").glob("*b*"))] == []
