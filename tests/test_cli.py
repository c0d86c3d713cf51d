"""The command line: every command stands in the help once, and a slip is told what was meant."""

import re

import pytest

from drp import commands
from drp.cli import main


def test_every_command_stands_once_in_the_help_with_its_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    told = re.findall(r"^  ([a-z]+) +(\S.*)$", capsys.readouterr().out, re.M)
    named = [name for name, words in told if name != "drp"]
    assert sorted(named) == commands.names()
    for name, words in told:
        if name != "drp":
            assert commands.summary(commands.get(name)).startswith(words.rstrip("…"))


def test_a_command_of_no_group_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(commands.GROUPS, "look", ("show",))
    lines = commands.overview().splitlines()
    others = lines[lines.index("others:") + 1 :]
    assert [line.split()[0] for line in others if line.strip()] == ["head", "ops", "schema"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["whi", "x"], "there is no command 'whi' (cache, check,"),
        (["whi", "x"], "did you mean 'why'?"),
        (["run", "--hlp"], "drp run: error: unrecognized arguments: --hlp"),
        (["why"], "drp why: error: the following arguments are required: TARGET"),
        ([], "trust, take back, share:"),
    ],
)
def test_a_slip_is_told_what_there_is(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(given)
    assert end.value.code == 2
    assert said in "".join(capsys.readouterr())
