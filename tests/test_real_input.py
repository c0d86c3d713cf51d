"""`recipes/gsm8k-smollm` on real GSM8K: a real tokenizer, chat template, HTTP and LoRA, end to end under `dvc repro`."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from drp.records import count, read
from tests.projects import Project_, begin, stop

ROOT = Path(__file__).parents[1]
GSM8K = ROOT.parent / "shared" / "data" / "gsm8k"
PORT = 8321

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not GSM8K.exists(), reason="no ../shared/data/gsm8k: real GSM8K is read from files there"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project_]:
    """A copy of the recipe that reads files for the hub, reproduced while the rules teacher is served on loopback."""
    made = Project_(tmp_path_factory.mktemp("smollm") / "p")
    made.root.mkdir()
    for name in ("params.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, made.root / name)
    for name in ("prompts", "recipes/gsm8k-smollm"):
        shutil.copytree(ROOT / name, made.root / name, ignore=shutil.ignore_patterns("dvc.*", "reports", "resolved.yaml"))
    recipe = made.root / "recipes/gsm8k-smollm/recipe.yaml"
    text = recipe.read_text()
    for split in ("train", "test"):
        hub = rf'source: "hf://openai/gsm8k", config: main, split: {split}, revision: "\w+"'
        text = re.sub(hub, f"source: {GSM8K / split}.jsonl", text)
    recipe.write_text(text)
    begin(made)
    made.run("drp", "compile")
    server = made.start("drp", "serve", "rules", "--port", str(PORT))
    try:
        assert server.stdout is not None
        assert f"http://127.0.0.1:{PORT}/v1" in server.stdout.readline()
        made.run("dvc", "repro", "recipes/gsm8k-smollm/dvc.yaml:table")
        yield made
    finally:
        stop(server)


def test_64_real_questions_go_from_question_to_table(made: Project_) -> None:
    data = made.root / "data/gsm8k-smollm"
    assert count(data / "questions.parquet") == 64
    for stage in ("judged", "steps", "edits", "pruned", "targets"):
        assert count(data / f"{stage}.parquet") + count(data / f"{stage}.dropped.parquet") > 0
    for record in read(data / "targets.parquet"):
        assert "".join(record["thought"][s["start"] : s["end"]] for s in record["steps"]) == record["thought"]
    assert "base" in made.run("drp", "show", "gsm8k-smollm", "table")
    assert (made.root / "models/gsm8k-smollm/adapter/adapter_model.safetensors").exists()
    assert "Running stage" not in made.run("dvc", "repro", "recipes/gsm8k-smollm/dvc.yaml:table")
