"""An op's fingerprint follows the code that it reaches, by whatever road it is imported, and nothing that has no meaning."""

from pathlib import Path

import pytest

from tests.projects import project

OP = '''
    """Say a word."""
    from collections.abc import Iterable, Iterator
    from drp.op import Kept, Outcome, Record, Work
    {how}

    VERSION = 1

    def speak(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
        for record in records:
            yield Kept({{**record, "text": {call}}})
    '''
RECIPE = "stages:\n  a: {op: make}\n  b: {op: speak, from: a}\n"


@pytest.mark.parametrize(
    ("where", "how", "call"),
    [
        ("ops/_helper.py", "from ops._helper import word", "word()"),
        ("ops/_helper.py", "from ops import _helper", "_helper.word()"),
        ("ops/_helper.py", "from . import _helper", "_helper.word()"),
        ("ops/_helper.py", "from ._helper import word as w", "w()"),
        ("mylib/h.py", "import mylib.h", "mylib.h.word()"),
        ("mylib/h.py", "from mylib import h", "h.word()"),
    ],
)
def test_a_helpers_change_makes_the_compile_stale_and_its_comment_does_not(
    tmp_path: Path, where: str, how: str, call: str
) -> None:
    made = project(tmp_path / "p", RECIPE, dvc=False)
    made.write("ops/speak.py", OP.format(how=how, call=call))
    made.write(where, 'UNUSED = 1\n\n\ndef word() -> str:\n    return "one"\n')
    made.run("drp", "compile")
    made.edit(where, '    return "one"', '    """A word."""\n    return "one"  # a comment')
    assert made.run("drp", "compile", "--check") == ""
    made.edit(where, '"one"', '"two"')
    assert "stale: recipes/ops.lock.yaml" in made.run("drp", "compile", "--check", code=64)


def test_a_constant_and_a_default_are_meaning_too(tmp_path: Path) -> None:
    made = project(tmp_path / "p", dvc=False)
    made.run("drp", "compile")
    made.edit("ops/shout.py", "times: int = 1", "times: int = 2")
    assert "ops.lock.yaml" in made.run("drp", "compile", "--check", code=64)
