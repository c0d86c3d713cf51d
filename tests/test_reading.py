"""Recipes are read exactly as DVC reads them, and what DVC would break is refused."""

from pathlib import Path

import pytest

from drp.recipe.read import load, read

NASTY = """\
rate: 1e-4
rate2: 2e-05
on: on
off: off
yes: yes
octal: 017
octal2: 0o17
clock: 1:30
hex: 0x1F
under: 1_000
tilde: ~
none: null
empty:
dot: .5
inf: .inf
text: "1e-4"
base: &base {a: 1, b: [x, y]}
again: *base
version: 1.10
"norwegian": no
long: >
  folded
  text
exclaim: !!str 12
"""


def test_a_nasty_file_reads_as_dvc_reads_it(tmp_path: Path) -> None:
    from dvc.utils.serialize import load_yaml

    path = tmp_path / "nasty.yaml"
    path.write_text(NASTY)
    ours = load(NASTY)
    assert ours == load_yaml(path)
    assert [type(v) for v in ours.values()] == [type(v) for v in load_yaml(path).values()]
    assert (ours["rate"], ours["on"], ours["clock"]) == (0.0001, "on", "1:30")


def test_a_duplicate_key_is_refused_as_dvc_refuses_it(tmp_path: Path) -> None:
    from dvc.utils.serialize import load_yaml
    from dvc.utils.serialize._common import ParseError

    path = tmp_path / "twice.yaml"
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(ParseError):
        load_yaml(path)
    _, problems = read(path, "twice.yaml")
    assert [(p.line, p.column) for p in problems] == [(2, 1)]
    assert "duplicate key" in problems[0].text


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("stages: {a: {word: '${HOME}'}}\n", (1, 20), "templating"),
        ("stages:\n  a:\n    when: 2024-01-02\n", (3, 11), "date"),
        ("stages:\n  a: {b.c: 1}\n", (2, 7), "dot"),
        ("base: &b {x: 1}\nstages:\n  a:\n    <<: *b\n", (4, 5), "merge keys"),
        ("stages: [\n", (2, 1), "not YAML"),
        ("1: x\n", (1, 1), "not text"),
    ],
)
def test_what_dvc_would_break_is_refused_with_its_place(tmp_path: Path, text: str, place: tuple[int, int], words: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    _, problems = read(path, "recipe.yaml")
    assert [(p.line, p.column) for p in problems if words in p.text] == [place], problems
