"""What `why` and `used` say, against a corpus whose lineage is known: by its generator, and by a recount of whole files."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accounts import Account, answered, answered_sentence, invented, invented_sentences, recounted
from benchmarks.corpus import ITEMS, SHARED, build, questions
from benchmarks.invented import FATES, STAGES, Corpus
from drp.fingerprint import SHORT, of_value
from drp.lineage.subject import Lineage
from drp.lineage.used import used
from drp.lineage.why import why
from drp.project import Project
from drp.records import count, read

CORPUS = Corpus(300, out_of=1000)
EVERYONE = np.arange(CORPUS.records)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project."""
    return build(tmp_path_factory.mktemp("corpus") / "p", CORPUS).root


@pytest.fixture(scope="module")
def lineage(root: Path) -> Lineage:
    """Its lineage."""
    return Lineage(Project(root))


@pytest.fixture(scope="module")
def truth() -> dict[str, Account]:
    """What the generator knows of every record."""
    return invented(CORPUS, EVERYONE.tolist())


def test_the_corpus_drops_records_in_every_way_and_its_counts_are_those_of_its_files(root: Path) -> None:
    ends = CORPUS.end(EVERYONE)
    assert set(ends) == set(range(len(FATES) + 1))
    for place, stage in enumerate(STAGES):
        assert count(root / f"data/big/{stage}.parquet") == (CORPUS.last(EVERYONE) > place).sum()
        assert count(root / f"data/big/{stage}.dropped.parquet") == (CORPUS.last(EVERYONE) == place).sum()


def test_every_record_is_told_backwards_and_forwards_as_it_was_made(lineage: Lineage, truth: dict[str, Account]) -> None:
    assert {record: answered(lineage, record) for record in truth} == truth


def test_a_recount_of_whole_files_tells_the_same_of_every_record(root: Path, truth: dict[str, Account]) -> None:
    assert recounted(root, list(truth)) == truth


def test_a_sentence_is_told_with_its_steps_their_places_actions_and_completions(lineage: Lineage) -> None:
    made = set()
    trained = EVERYONE[CORPUS.last(EVERYONE) >= STAGES.index("adapter")]
    for turn, number in enumerate(trained[::4].tolist()):
        sentences = invented_sentences(CORPUS, number)
        text, sentence = sentences[turn % len(sentences)]
        record = CORPUS.ids(np.array([number]))[0].as_py() + "/000"
        assert answered_sentence(lineage, record, text, sentence["start"]) == sentence, text
        made.add(sentence["made"])
    assert made == {"verbatim", "rewritten", "merged"}


def test_a_record_of_a_mix_comes_from_all_inputs_that_had_it_and_goes_into_the_exam_that_asked_it(lineage: Lineage) -> None:
    asked = [of_value([question, answer])[:SHORT] for question, answer in questions("exam")]
    for item in (*asked[:3], *asked[SHARED : SHARED + 3]):
        branches = why(lineage, lineage.subject(item, "record", "mixed/both")).walk()
        mixed = next(b for b in branches if b.kind == "stage" and b.name == "mixed/both")
        had = ["big/exam", "mixed/extra"] if item in asked[:SHARED] else ["big/exam"]
        assert sorted(mixed.facts["parents"]) == [f"{at}:{item}" for at in had]
        told = used(lineage, lineage.subject(item)).facts["records"]
        assert told["mixed/both"] == [item]
        (exam,) = (b for b in used(lineage, lineage.subject(item)).walk() if b.kind == "exam")
        assert exam.facts["rows"] == [f"exam/{label}/{item}/000" for label in ("base", "drp")]
    assert len(asked) == ITEMS


def test_the_ledger_holds_each_trained_record_at_the_steps_that_saw_it(root: Path) -> None:
    trained = {row["id"]: row["steps_seen"] for row in read(root / "data/big/adapter.parquet")}
    ids = CORPUS.ids(CORPUS.trained).to_pylist()
    assert trained == {f"{name}/000": steps for name, steps in zip(ids, CORPUS.seen(CORPUS.trained).tolist(), strict=True)}
