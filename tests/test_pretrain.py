"""Pretraining as an op: a model folder, and a ledger."""

from pathlib import Path
from typing import Any

import pytest

from drp.errors import ConfigError
from drp.models import Message
from drp.ops.narrate import narrate
from drp.ops.pretrain import check, pretrain
from drp.prompts import Prompt
from drp.records import Dropped, Kept, Record
from drp.targets import encode
from drp.weights import load_model, load_tokenizer
from tests.fakes import FakeWork
from tests.tiny import model_at

SMALL: dict[str, Any] = {"vocabulary": 300, "width": 16, "layers": 1, "heads": 2, "inner": 32, "batch_tokens": 1024, "warmup": 2}


@pytest.fixture
def ask(tmp_path: Path) -> Prompt:
    (tmp_path / "ask.j2").write_text("{{ question }}", encoding="utf-8")
    return Prompt(tmp_path, "ask")


def told(work: FakeWork, count: int) -> list[Record]:
    rows = [{"id": f"q{i}", "question": f"Calculate 1{i} + 7 - 5 =", "family": "chain_sum"} for i in range(count)]
    return [o.record for o in narrate(rows, work)]


def learn(folder: Path, prompt: Prompt, **options: Any) -> tuple[FakeWork, list[Kept | Dropped]]:
    work = FakeWork(folder)
    return work, list(pretrain(told(work, 8), work, prompt=prompt, **{**SMALL, **options}))


def test_the_same_records_give_the_same_student_and_it_loads(tmp_path: Path, ask: Prompt) -> None:
    (one, ledger), (two, again) = learn(tmp_path / "one", ask), learn(tmp_path / "two", ask)
    assert ledger == again
    files = sorted(p.name for p in one.out.iterdir())
    assert "model.safetensors" in files
    assert all((one.out / name).read_bytes() == (two.out / name).read_bytes() for name in files)
    assert load_model(model_at(one.out)).num_parameters() < 20_000


def test_a_student_learns_on_from_another_with_its_tokenizer(tmp_path: Path, ask: Prompt) -> None:
    one, _ = learn(tmp_path / "one", ask)
    two, _ = learn(tmp_path / "two", ask, start=model_at(one.out), width=64)
    names = ["config.json", "tokenizer.json", "generation_config.json"]
    assert all((one.out / name).read_bytes() == (two.out / name).read_bytes() for name in names)
    assert (one.out / "model.safetensors").read_bytes() != (two.out / "model.safetensors").read_bytes()


def test_the_student_learns_the_very_tokens_that_a_target_has_later(tmp_path: Path, ask: Prompt) -> None:
    work, ledger = learn(tmp_path / "work", ask)
    row = told(work, 1)[0]
    example = encode(load_tokenizer(model_at(work.out)), (Message("user", row["question"]),), row["target"])
    assert ledger[0].record == {"id": row["id"], "n_tokens": len(example), "n_trained_tokens": len(example.response)}


def test_a_trace_that_does_not_fit_the_context_is_dropped_in_its_place(tmp_path: Path, ask: Prompt) -> None:
    _, whole = learn(tmp_path / "whole", ask)
    sizes = [o.record["n_tokens"] for o in whole]
    _, ledger = learn(tmp_path / "cut", ask, context=max(sizes) - 1)
    dropped = [isinstance(o, Dropped) and o.reason == "too-long" for o in ledger]
    assert dropped == [size == max(sizes) for size in sizes]


def test_a_prompt_with_a_system_message_is_refused(tmp_path: Path) -> None:
    (tmp_path / "both.j2").write_text("{% block system %}Think.{% endblock %}{% block user %}{{ question }}{% endblock %}")
    with pytest.raises(ConfigError, match="one user message, and no other"):
        learn(tmp_path / "work", Prompt(tmp_path, "both"))


def test_heads_that_do_not_divide_the_width_are_named() -> None:
    assert [key for key, _ in check({"width": 10, "heads": 4})] == ["heads"]
