"""load: questions and gold answers from files, folders, generators and a hub, read right and always the same."""

import csv
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drp.errors import DataError
from drp.op import Dropped, Kept, Record, Source
from drp.ops.load import Adds, check, load, read_answer
from drp.records import Writer, read, schema_of
from tests.fakes import FakeWork

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not on this machine")

ROWS = [{"question": f"What is {k} + {k}?", "answer": str(2 * k)} for k in range(20)]


@pytest.fixture
def work(tmp_path: Path) -> FakeWork:
    return FakeWork(tmp_path / "work")


@pytest.fixture
def sums(tmp_path: Path) -> str:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    return str(path)


def kept(work: FakeWork, source: str, **options: Any) -> list[Record]:
    return [o.record for o in load(work, source=Source(source), **options) if isinstance(o, Kept)]


def dropped(work: FakeWork, source: str, **options: Any) -> list[tuple[str, str]]:
    return [(o.reason, o.record["row"]) for o in load(work, source=Source(source), **options) if isinstance(o, Dropped)]


def faults(**options: Any) -> dict[str, str]:
    import inspect

    defaults = {p.name: p.default for p in inspect.signature(load).parameters.values() if p.name != "work"}
    return dict(check(defaults | options))


@needs_data
@pytest.mark.parametrize(("split", "rows", "commas", "negatives"), [("train", 7473, 79, 3), ("test", 1319, 14, 2)])
def test_every_gold_of_gsm8k_is_read_as_the_number_that_it_is(
    work: FakeWork, split: str, rows: int, commas: int, negatives: int
) -> None:
    path = DATA / "gsm8k" / f"{split}.jsonl"
    raw = [json.loads(line)["answer"].rpartition("#### ")[2].strip() for line in path.open()]
    records = {int(r["row"]): r for r in kept(work, str(path))}
    assert len(records) == rows == len(raw)
    assert sum("," in text for text in raw) == commas
    assert sum(r["answer"].startswith("-") for r in records.values()) == negatives
    assert all(Decimal(records[k]["answer"]) == Decimal(text.replace(",", "")) for k, text in enumerate(raw))
    assert all(re.fullmatch(r"-?\d+(\.\d+)?", r["answer"]) and r["solution"] for r in records.values())


@needs_data
def test_answers_of_the_benchmarks_are_read_as_they_are_meant(work: FakeWork) -> None:
    amc = kept(work, str(DATA / "amc23/test.jsonl"), question="problem", key="id")
    assert (len(amc), amc[0]["answer"], amc[0]["row"]) == (40, "27", "0")
    math = kept(work, str(DATA / "math500/test.jsonl"), question="problem", solution="solution", key="unique_id", family="type")
    assert len(math) == 500
    assert math[0]["answer"] == "\\left( 3, \\frac{\\pi}{2} \\right)"
    assert math[0]["family"]
    assert math[0]["row"].endswith(".json")
    assert len(kept(work, str(DATA / "aime24/test.jsonl"), question="problem", answer="answer")) == 30


def test_gold_answers_lose_their_commas_currency_and_units_but_not_their_sign() -> None:
    golds = {"1,450,000": "1450000", "-3": "-3", "$2.50": "2.5", "-$5": "-5", "72 dollars": "72", "0.75": "0.75", "10.00": "10"}
    assert {text: read_answer(f"so it is\n#### {text}", "gsm8k")[0] for text in golds} == golds
    assert read_answer("a sum.\n#### 7", "auto") == ("7", "a sum.")
    assert read_answer("\\frac{1}{2}", "auto") == ("\\frac{1}{2}", None)
    assert read_answer("x #### 7", "plain") == ("x #### 7", None)


def test_a_row_without_question_or_answer_or_seen_before_is_dropped_with_a_reason(work: FakeWork, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [("q", "1"), ("", "1"), ("p", None), ("q", "1"), ("q", "2"), (" q ", 1.0)]
    path.write_text("\n".join(json.dumps({"question": q, "answer": a}) for q, a in rows))
    assert dropped(work, str(path)) == [("no-question", "1"), ("no-answer", "2"), ("duplicate", "3"), ("duplicate", "5")]
    assert [(r["question"], r["answer"]) for r in kept(work, str(path))] == [("q", "1"), ("q", "2")]


def test_a_gsm8k_solution_without_a_number_after_its_mark_has_no_answer(work: FakeWork, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"question": a, "answer": a}) for a in ("7", "#### seven", "#### 1 or 2", "#### 7")))
    assert dropped(work, str(path), answer_format="gsm8k") == [("no-answer", "0"), ("no-answer", "1"), ("no-answer", "2")]


def test_the_same_rows_make_the_same_records_from_every_kind_of_file(work: FakeWork, tmp_path: Path, sums: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["question", "answer"])
        writer.writeheader()
        writer.writerows(ROWS)
    (tmp_path / "folder").mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "folder" / "train.parquet")
    made = [kept(work, str(tmp_path / name)) for name in ("a.json", "a.csv", "a.parquet", "folder")]
    plain = [{**r, "source": ""} for r in kept(work, sums)]
    assert all([{**r, "source": ""} for r in records] == plain for records in made)


def test_a_source_that_cannot_be_read_is_named_with_its_place(work: FakeWork, tmp_path: Path, sums: str) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question": "q", "answer": "1"}\n{"question": \n')
    with pytest.raises(DataError, match=r"bad\.jsonl:2: not JSON"):
        kept(work, str(bad))
    with pytest.raises(DataError, match=r"no column 'questoin' \(answer, question\); did you mean 'question'"):
        kept(work, sums, question="questoin")
    with pytest.raises(DataError, match="no such file"):
        kept(work, str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match=r"\.tsv"):
        kept(work, str(tmp_path / "none.tsv"))
    with pytest.raises(DataError, match="cannot read it with config None, split 'test'"):
        kept(work, str(tmp_path), split="test")


def test_skip_and_limit_cut_the_source_into_parts_that_do_not_overlap(work: FakeWork, sums: str) -> None:
    for shuffle in (None, 7):
        parts = [{r["id"] for r in kept(work, sums, skip=k, limit=5, shuffle_seed=shuffle)} for k in (0, 5, 10, 15)]
        assert [len(p) for p in parts] == [5, 5, 5, 5]
        assert len(set().union(*parts)) == 20
    assert kept(work, sums, limit=0) == []
    assert [r["row"] for r in kept(work, sums, skip=18)] == ["18", "19"]


def test_a_shuffled_sample_depends_on_the_seed_and_hardly_on_added_rows(work: FakeWork, sums: str) -> None:
    sample = {r["id"] for r in kept(work, sums, limit=10, shuffle_seed=1)}
    assert sample != {r["id"] for r in kept(work, sums, limit=10, shuffle_seed=2)}
    with open(sums, "a") as file:
        file.write(json.dumps({"question": "What is 1 + 2?", "answer": "3"}) + "\n")
    assert len(sample & {r["id"] for r in kept(work, sums, limit=10, shuffle_seed=1)}) >= 9


def test_rows_after_the_limit_are_not_read(work: FakeWork, sums: str) -> None:
    with open(sums, "a") as file:
        file.write("this is not JSON\n")
    assert len(kept(work, sums, limit=20)) == 20


def test_a_gym_task_gives_the_same_problems_for_the_same_seed_and_others_for_the_next(work: FakeWork) -> None:
    options: dict[str, Any] = {"size": 50, "settings": {"min_terms": 3, "max_terms": 4}}
    first = kept(work, "gym://chain_sum", seed=0, **options)
    assert first == kept(work, "gym://chain_sum", seed=0, **options)
    assert {r["family"] for r in first} == {"chain_sum"}
    assert first[0]["revision"].startswith("reasoning-gym==")
    assert not {r["id"] for r in first} & {r["id"] for r in kept(work, "gym://chain_sum", seed=1, **options)}


def test_a_gym_task_or_setting_that_does_not_exist_is_refused_with_the_choices(work: FakeWork) -> None:
    with pytest.raises(DataError, match="did you mean 'chain_sum'"):
        kept(work, "gym://chainsum", size=1)
    with pytest.raises(DataError, match=r"'min_term' is not one of its settings .* did you mean 'min_terms'"):
        kept(work, "gym://chain_sum", size=1, settings={"min_term": 3})
    with pytest.raises(DataError, match="max_terms must be >= min_terms"):
        kept(work, "gym://chain_sum", size=1, settings={"min_terms": 3, "max_terms": 2})


def test_options_that_do_not_go_together_are_refused_at_the_door() -> None:
    assert set(faults(source="hf://openai/gsm8k")) == {"split", "revision"}
    assert "git ls-remote" in faults(source="hf://openai/gsm8k", split="train")["revision"]
    assert faults(source="hf://openai/gsm8k", split="train", revision="main") == {}
    assert set(faults(source="gym://chain_sum", split="train")) == {"size", "split"}
    assert faults(source="gym://chain_sum", size=5, settings={"min_terms": 3}) == {}
    assert set(faults(source="a.jsonl", size=5, revision="main")) == {"size", "revision"}
    assert set(faults(source="a.jsonl", limit=-1)) == {"limit"}
    assert set(faults(source="s3://bucket")) == {"source"}


def test_records_survive_parquet_byte_for_byte_and_load_with_datasets(work: FakeWork, tmp_path: Path, sums: str) -> None:
    import datasets

    def write(path: Path, rows: list[Record]) -> bytes:
        with Writer(path, schema_of(Adds)) as file:
            for row in sorted(rows, key=lambda r: str(r["id"])):
                file.add(row)
        return path.read_bytes()

    first = write(tmp_path / "a.parquet", kept(work, sums))
    assert first == write(tmp_path / "b.parquet", list(reversed(kept(work, sums))))
    assert first == write(tmp_path / "c.parquet", list(read(tmp_path / "a.parquet")))
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].to_list() == list(read(tmp_path / "a.parquet"))


# -- the hub: the real client against a small real server -------------------------------------------------------------

COMMIT = "740312add88f781978c0658806c59bc2815b9866"
FILES = {
    "README.md": b"---\nconfigs:\n- config_name: main\n  data_files:\n  - split: test\n    path: main/test.jsonl\n---\n",
    "main/test.jsonl": "".join(json.dumps(r) + "\n" for r in ROWS).encode(),
}


class Hub(http.server.BaseHTTPRequestHandler):
    """One data set, org/sums, with one commit, on `main`."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/datasets/org/sums/revision/main":
            self._send(json.dumps({"id": "org/sums", "sha": COMMIT, "siblings": []}).encode())
        elif path == f"/api/datasets/org/sums/tree/{COMMIT}":
            tree = [{"type": "file", "path": p, "size": len(b), "oid": f"{len(b):040d}"} for p, b in FILES.items()]
            self._send(json.dumps(tree).encode())
        elif (name := path.removeprefix(f"/datasets/org/sums/resolve/{COMMIT}/")) in FILES:
            self._send(FILES[name])
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{len(body):040d}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def from_hub(endpoint: str, home: Path, revision: str) -> list[Record]:
    """What a fresh process loads from `hf://org/sums`: the client reads its endpoint when it is imported."""
    code = (
        "import json, sys; from pathlib import Path; from drp.ops.load import load; from tests.fakes import FakeWork\n"
        f"work = FakeWork(Path({str(home)!r}))\n"
        f"for o in load(work, source='hf://org/sums', config='main', split='test', revision={revision!r}):\n"
        "    print(json.dumps(o.record))"
    )
    given = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=given, text=True, capture_output=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_branch_of_the_hub_is_recorded_as_its_commit_and_a_pinned_one_needs_no_network_twice(hub: str, tmp_path: Path) -> None:
    records = from_hub(hub, tmp_path, "main")
    assert [(r["question"], r["answer"]) for r in records] == [(r["question"], r["answer"]) for r in ROWS]
    assert {(r["source"], r["revision"], r["split"]) for r in records} == {("hf://org/sums", COMMIT, "test")}
    assert from_hub("http://127.0.0.1:9", tmp_path, COMMIT) == records


def test_a_hub_that_cannot_be_reached_is_an_error_within_seconds(tmp_path: Path) -> None:
    for revision in ("main", COMMIT):
        began = time.monotonic()
        with pytest.raises(AssertionError, match=r"DataError: hf://org/sums at \w+: http://127.0.0.1:9 cannot be reached"):
            from_hub("http://127.0.0.1:9", tmp_path, revision)
        assert time.monotonic() - began < 10


def test_a_data_set_that_the_hub_does_not_have_is_an_error_that_says_so(hub: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="DataError: hf://org/sums at v9: the hub refused it"):
        from_hub(hub, tmp_path, "v9")
