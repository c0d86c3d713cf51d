"""Fine-tuning: the adapter, its ledger, its order, and what a kill costs."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drp import training
from drp.errors import ConfigError, DataError, MissingPackage
from drp.models import Model
from drp.ops.sft import check, sft
from drp.prompts import Prompt
from drp.records import Dropped, Kept, Record
from drp.targets import target_text
from drp.training import plan
from drp.weights import load_model
from tests.fakes import FakeWork
from tests.tiny import model_at, tiny_student


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine make a step of ten thousand parameters a second long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return model_at(tiny_student(tmp_path_factory.mktemp("models") / "student"))


@pytest.fixture
def solve(tmp_path: Path) -> Prompt:
    (tmp_path / "solve.j2").write_text("{{ question }}", encoding="utf-8")
    return Prompt(tmp_path, "solve")


def targets(count: int) -> list[Record]:
    return [
        {"id": f"q{i:02d}", "question": f"{i} + 7 =", "target": target_text(f"{i} + 7 = {i + 7}.", f"\\boxed{{{i + 7}}}")}
        for i in range(count)
    ]


def run(work: FakeWork, student: Model, prompt: Prompt, records: list[Record], **options: Any) -> list[Kept | Dropped]:
    given = {"epochs": 2.0, "rank": 2, "learning_rate": 0.01, "batch_size": 4, "dropout": 0.1, **options}
    return list(sft(records, work, model=student, prompt=prompt, **given))


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_the_same_inputs_give_the_same_bytes_and_the_adapter_changes_what_the_student_says(tmp_path, student, solve) -> None:
    import torch

    one, two = FakeWork(tmp_path / "one"), FakeWork(tmp_path / "two")
    assert run(one, student, solve, targets(10)) == run(two, student, solve, targets(10))
    assert files(one.out) == files(two.out)
    assert set(files(one.out)) == {"adapter_config.json", "adapter_model.safetensors", "log.json"}

    from dataclasses import replace

    ids = torch.tensor([[5, 6, 7]])
    trained = load_model(replace(student, adapter=str(one.out), adapter_hash="x"))
    assert not torch.equal(trained(ids).logits, load_model(student)(ids).logits)


def test_the_adapter_names_its_base_and_nothing_of_this_machine(tmp_path, student, solve) -> None:
    work = FakeWork(tmp_path / "work")
    run(work, student, solve, targets(4), epochs=1)
    config = json.loads((work.out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == student.name
    assert config["target_modules"] == sorted(config["target_modules"])
    assert (config["r"], config["lora_alpha"]) == (2, 16.0)
    assert str(tmp_path) not in "".join(p.read_text(errors="replace") for p in work.out.iterdir())


def test_the_log_has_the_loss_of_every_step_and_it_falls(tmp_path, student, solve) -> None:
    work = FakeWork(tmp_path / "work")
    run(work, student, solve, targets(8), epochs=10, learning_rate=0.05, dropout=0.0)
    steps = json.loads((work.out / "log.json").read_text())["steps"]
    assert [s["step"] for s in steps] == list(range(1, 21))
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.5


def test_the_ledger_counts_tokens_and_knows_the_steps_under_gradient_accumulation(tmp_path, student, solve) -> None:
    work = FakeWork(tmp_path / "work")
    ledger = [o.record for o in run(work, student, solve, targets(10), epochs=2, batch_size=4, micro_batch=2)]
    assert [row["id"] for row in ledger] == [f"q{i:02d}" for i in range(10)]
    expected = plan(10, epochs=2, batch_size=4, seed=0)
    for place, row in enumerate(ledger):
        assert row["steps_seen"] == [n for n, step in enumerate(expected, 1) for i in step if i == place]
        assert len(row["steps_seen"]) == 2
        assert row["n_tokens"] > row["n_trained_tokens"] > 0
    assert len(json.loads((work.out / "log.json").read_text())["steps"]) == 5


def test_gradient_accumulation_changes_the_result_by_rounding_only(tmp_path, student, solve) -> None:
    import torch
    from safetensors.torch import load_file

    whole, parts = FakeWork(tmp_path / "whole"), FakeWork(tmp_path / "parts")
    run(whole, student, solve, targets(10), dropout=0.0)
    run(parts, student, solve, targets(10), dropout=0.0, micro_batch=1)
    one, two = (load_file(w.out / "adapter_model.safetensors") for w in (whole, parts))
    assert all(torch.allclose(one[k], two[k], atol=2e-3) for k in one)


class Killed(BaseException):
    """Not an error that anything could catch."""


class Mortal(FakeWork):
    """Work that is killed when it says that a step is done."""

    def __init__(self, folder: Path, step: str) -> None:
        super().__init__(folder)
        self.step = step

    def say(self, text: str) -> None:
        if text.startswith(self.step):
            raise Killed


def test_a_run_that_is_killed_goes_on_from_its_checkpoint_and_ends_in_the_same_bytes(tmp_path, student, solve) -> None:
    whole = FakeWork(tmp_path / "whole")
    ledger = run(whole, student, solve, targets(10), epochs=4)
    with pytest.raises(Killed):
        run(Mortal(tmp_path / "killed", "step 7/"), student, solve, targets(10), epochs=4)
    again = FakeWork(tmp_path / "killed")
    half_written = again.resume / "checkpoint-9"
    shutil.copytree(again.resume / "checkpoint-6", half_written)
    for name in ("whole", "adapter_model.safetensors"):
        (half_written / name).unlink()
    assert run(again, student, solve, targets(10), epochs=4) == ledger
    assert again.said[1] == "going on from checkpoint-6"
    assert files(again.out) == files(whole.out)


def test_a_run_that_is_killed_after_its_last_step_only_writes_its_adapter(tmp_path, student, solve) -> None:
    whole, again = FakeWork(tmp_path / "whole"), FakeWork(tmp_path / "whole")
    ledger = run(whole, student, solve, targets(10))
    before = files(whole.out)
    shutil.rmtree(whole.out)
    whole.out.mkdir()
    assert run(again, student, solve, targets(10)) == ledger
    assert again.said[1:] == ["going on from checkpoint-5"]
    assert files(again.out) == before


def test_a_row_that_does_not_fit_is_dropped_and_never_cut(tmp_path, student, solve) -> None:
    long = {"id": "q99", "question": "1 + 1 =", "target": target_text("1 + 1 = 2. " * 40, "\\boxed{2}")}
    outcomes = run(FakeWork(tmp_path / "work"), student, solve, [*targets(3), long], epochs=1, max_length=120)
    assert [type(o) for o in outcomes] == [Kept, Kept, Kept, Dropped]
    dropped = outcomes[-1]
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "too-long"
    assert "max_length is 120" in dropped.detail


def test_a_row_without_a_target_is_dropped_in_its_place(tmp_path, student, solve) -> None:
    rows = targets(3)
    rows[1]["target"] = "<think>\nI never stop"
    outcomes = run(FakeWork(tmp_path / "work"), student, solve, rows, epochs=1)
    assert [o.record["id"] for o in outcomes] == ["q00", "q01", "q02"]
    assert [o.reason for o in outcomes if isinstance(o, Dropped)] == ["no-target"]


def test_nothing_to_train_on_is_an_error(tmp_path, student, solve) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        run(FakeWork(tmp_path / "work"), student, solve, targets(2), max_length=3)


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path, student, solve) -> None:
    with pytest.raises(DataError, match="q00: no column 'pruned' to train on; it has id, question, target"):
        run(FakeWork(tmp_path / "work"), student, solve, targets(2), target_column="pruned")


def test_learnability_is_the_untrained_students_loss(tmp_path, student, solve) -> None:
    import torch

    from drp.targets import encode
    from drp.weights import load_tokenizer

    rows = [{**r, "thought": "7 + 7 = 14. " * 3, "reply": "14"} for r in targets(3)]
    rows[2]["thought"] = None
    ledger = [o.record for o in run(FakeWork(tmp_path / "work"), student, solve, rows, epochs=1, measure_learnability=True)]
    example = encode(load_tokenizer(student), solve.render(question="0 + 7 ="), rows[0]["target"])
    with torch.no_grad():
        logits = load_model(student)(torch.tensor([example.prompt + example.response])).logits[0]
    chances = logits.log_softmax(-1)[len(example.prompt) - 1 : -1]
    expected = -sum(chances[i, t].item() for i, t in enumerate(example.response)) / len(example.response)
    assert ledger[0]["nll_target_before"] == pytest.approx(expected, abs=1e-4)
    assert ledger[0]["nll_raw_before"] is not None
    assert ledger[2]["nll_raw_before"] is None


def test_an_adapter_can_be_trained_further(tmp_path, student, solve) -> None:
    from dataclasses import replace

    first, second = FakeWork(tmp_path / "first"), FakeWork(tmp_path / "second")
    run(first, student, solve, targets(8), epochs=6, learning_rate=0.05)
    run(second, replace(student, adapter=str(first.out), adapter_hash="x"), solve, targets(8), epochs=1, learning_rate=0.001)
    ends = [json.loads((w.out / "log.json").read_text())["steps"] for w in (first, second)]
    assert ends[1][0]["loss"] == pytest.approx(ends[0][-1]["loss"], abs=0.3)
    assert json.loads((second.out / "adapter_config.json").read_text())["base_model_name_or_path"] == student.name


def test_training_in_bfloat16_works_without_a_gpu(tmp_path, student, solve) -> None:
    work = FakeWork(tmp_path / "work")
    run(work, student, solve, targets(4), epochs=1, precision="bfloat16")
    assert (work.out / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_attention_can_be_chosen(tmp_path, student, solve, attn: str) -> None:
    work = FakeWork(tmp_path / "work")
    run(work, student, solve, targets(4), epochs=1, attn=attn)
    assert (work.out / "adapter_model.safetensors").exists()


def test_flash_attention_without_a_gpu_is_refused_at_the_door(tmp_path, student, solve) -> None:
    with pytest.raises(ConfigError, match="flash_attention_2 needs a CUDA device, and this run is on 'cpu'"):
        run(FakeWork(tmp_path / "work"), student, solve, targets(4), attn="flash_attention_2")


@pytest.mark.skipif(bool(training.importlib.util.find_spec("deepspeed")), reason="deepspeed is installed here")
def test_deepspeed_where_it_is_missing_is_refused_at_the_door(tmp_path, student, solve) -> None:
    with pytest.raises(MissingPackage, match=r"deepspeed: zero2 needs the package deepspeed; pip install 'drp\[deepspeed\]'"):
        run(FakeWork(tmp_path / "work"), student, solve, targets(4), deepspeed="zero2")


@pytest.mark.deepspeed
@pytest.mark.parametrize("zero", ["zero1", "zero2", "zero3"])
def test_deepspeed_trains_the_same_order_and_writes_a_whole_adapter(tmp_path, student, solve, zero: str) -> None:
    pytest.importorskip("deepspeed", reason="the package deepspeed is not installed: pip install 'drp[deepspeed]'")
    import torch
    from safetensors.torch import load_file

    plain, work = FakeWork(tmp_path / "plain"), FakeWork(tmp_path / "work")
    options = {"micro_batch": 2, "dropout": 0.0}
    assert run(plain, student, solve, targets(10), **options) == run(work, student, solve, targets(10), deepspeed=zero, **options)
    one, two = (load_file(w.out / "adapter_model.safetensors") for w in (plain, work))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[k], two[k], atol=1e-4) for k in one)


def test_a_target_module_that_no_layer_has_is_refused(tmp_path, student, solve) -> None:
    with pytest.raises(ConfigError, match=r"target_modules: .*nothing_like_it.* fits no layer"):
        run(FakeWork(tmp_path / "work"), student, solve, targets(4), target_modules=["nothing_like_it"])


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"batch_size": 8, "micro_batch": 3}, "micro_batch"),
        ({"epochs": 0}, "epochs"),
        ({"warmup": 1.0}, "warmup"),
        ({"attn": "flash_attention_2", "precision": "float32"}, "attn"),
    ],
)
def test_options_that_do_not_go_together_are_named(options: dict[str, Any], key: str) -> None:
    assert [k for k, _ in check(options)] == [key]


def test_an_option_of_a_wrong_type_is_left_to_the_signature() -> None:
    assert list(check({"epochs": "three", "batch_size": None})) == []


def test_options_that_go_together_pass() -> None:
    assert list(check({"batch_size": 8, "micro_batch": 2, "epochs": 0.5})) == []


@pytest.mark.parametrize(("count", "epochs", "batch_size"), [(10, 3, 4), (7, 0.5, 2), (3, 2.5, 8), (1, 1, 1)])
def test_the_plan_shows_every_example_once_an_epoch_in_full_steps(count: int, epochs: float, batch_size: int) -> None:
    steps = plan(count, epochs=epochs, batch_size=batch_size, seed=3)
    order = [i for step in steps for i in step]
    assert len(order) == round(count * epochs)
    assert all(len(step) == batch_size for step in steps[:-1])
    for start in range(0, len(order) - count + 1, count):
        assert sorted(order[start : start + count]) == list(range(count))


def test_the_plan_depends_on_its_seed_alone() -> None:
    assert plan(20, epochs=2, batch_size=4, seed=1) == plan(20, epochs=2, batch_size=4, seed=1)
    assert plan(20, epochs=2, batch_size=4, seed=1) != plan(20, epochs=2, batch_size=4, seed=2)
