"""Accounts of an invented record, told three ways that share no code: by its generator, by a recount of whole files, by drp."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.invented import STAGES, Chunk, Corpus
from drp.lineage.subject import Lineage
from drp.lineage.used import used
from drp.lineage.why import why
from drp.records import Record

Account = dict[str, Any]
"""Of a record `<question>/000`: `kept` (its id by stage), `dropped` ([stage, reason, detail]), `question`, `trace`, `verdicts` by
stage, how many steps of each skill, actions, sentences of each kind, the completions that were `asked` for it, by stage, and
what the model that was trained on it `learned`."""
Sentence = dict[str, Any]
"""Of a sentence of a pruned thought: its span, how it was made, its steps (span, skill, source, action), and completions."""

QUESTION = ("question", "answer", "row", "source")
TRACE = ("sample", "seed", "finish", "tokens", "completion")
VERDICT = ("prediction", "correct", "verdict")
LEDGER = ("steps_seen", "n_tokens", "n_trained_tokens")
ASKING = ("traces", "steps", "edits", "pruned")
STEP = ("step", "skill", "start", "end", "source", "action", "reason")


def _part(row: Mapping[str, Any], names: Sequence[str]) -> Record:
    return {name: row[name] for name in names}


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _at(stage: str) -> str:
    return f"big/{stage}"


# -- by the generator --------------------------------------------------------------------------------------------------------


def invented(corpus: Corpus, numbers: Sequence[int]) -> dict[str, Account]:
    """The accounts of these records, from the seed alone."""
    chunk = Chunk(corpus, np.array(numbers))
    rows = pa.table(chunk.columns("pruned")).to_pylist()
    ledger = pa.table(chunk.columns("adapter")).to_pylist()
    keys = {stage: corpus.completions(stage, chunk.number).to_pylist() for stage in ASKING}
    verdicts = pa.table(chunk.verdicts).to_pylist()
    found = {}
    for place, (row, end) in enumerate(zip(rows, corpus.last(chunk.number), strict=True)):
        went = STAGES[:end]
        if (reason := chunk.reason[place].as_py()) is not None:
            dropped = [_at(STAGES[end]), reason, f"{reason}: record {numbers[place]}"]
        found[row["id"]] = Account(
            kept={_at(stage): row["id"] if stage != "questions" else row["id"][:16] for stage in went},
            dropped=None if reason is None else dropped,
            question=_part(row, QUESTION),
            trace=_part(row, TRACE) if "traces" in went else None,
            verdicts={_at(stage): verdicts[place] for stage in ("correct", "targets") if stage in went},
            skills=_counts(s["skill"] for s in row["steps"]) if "steps" in went else None,
            actions=_counts(a["action"] for a in row["actions"]) if "edits" in went else None,
            sentences=_counts(s["kind"] for s in row["sentences"]) if "pruned" in went else None,
            asked={_at(stage): [keys[stage][place]] for stage in ASKING if stage in went},
            learned=_part(ledger[place], LEDGER) if "adapter" in went else None,
        )
    return found


def invented_sentences(corpus: Corpus, number: int) -> list[tuple[str, Sentence]]:
    """The sentences of one record, with their texts, from the seed alone; connectives apart."""
    chunk = Chunk(corpus, np.array([number]))
    (row,) = pa.table(chunk.columns("pruned")).to_pylist()
    keys = {_at(stage): corpus.completions(stage, chunk.number)[0].as_py() for stage in ASKING[1:]}
    thought, found = row["thought"], []
    for sentence in row["sentences"]:
        text = row["pruned"][sentence["start"] : sentence["end"]].strip()
        steps = []
        for number_ in sentence["steps"]:
            step, action = row["steps"][number_], row["actions"][number_]
            source = [step["start"], step["end"]]
            if sentence["kind"] == "verbatim":
                start = thought.index(text, step["start"])
                source = [start, start + len(text)]
            steps.append({**step, "step": number_, "source": source, "action": action["action"], "reason": action["reason"]})
        if steps:
            spans = {"start": sentence["start"], "end": sentence["end"], "made": sentence["kind"]}
            found.append((text, {**spans, "steps": [_part(step, STEP) for step in steps], "asked": keys}))
    return found


# -- by a recount ------------------------------------------------------------------------------------------------------------


def scan(path: Path, column: str, wanted: pa.Array, columns: Sequence[str]) -> Iterator[Record]:
    """The rows whose column is among `wanted`, by reading the whole file."""
    for batch in pq.ParquetFile(path).iter_batches(batch_size=65536, columns=list(dict.fromkeys((column, *columns)))):
        yield from batch.filter(pc.is_in(batch.column(column), wanted)).to_pylist()


def recounted(root: Path, ids: Sequence[str]) -> dict[str, Account]:
    """The accounts of these records, from every row of every file: no statistics, no order, none of drp's reading."""
    data, wanted = root / "data/big", pa.array(ids)
    found = {
        name: Account(kept={}, dropped=None, question=None, trace=None, verdicts={}, skills=None, actions=None, sentences=None,
                      asked={}, learned=None)
        for name in ids
    }  # fmt: skip
    questions = {name[:16]: name for name in ids}
    for row in scan(data / "questions.parquet", "id", pa.array(list(questions)), QUESTION):
        account = found[questions[row["id"]]]
        account["kept"][_at("questions")], account["question"] = row["id"], _part(row, QUESTION)
    of = {"traces": TRACE, "correct": VERDICT, "targets": VERDICT, "adapter": LEDGER}
    for stage in STAGES[1:]:
        for row in scan(data / f"{stage}.parquet", "id", wanted, of.get(stage, ())):
            account, own = found[row["id"]], _part(row, of.get(stage, ()))
            account["kept"][_at(stage)] = row["id"]
            if stage == "traces":
                account["trace"], account["asked"][_at(stage)] = own, [row["completion"]]
            elif stage == "adapter":
                account["learned"] = own
            elif own:
                account["verdicts"][_at(stage)] = own
        for row in scan(data / f"{stage}.dropped.parquet", "id", wanted, ("stage", "reason", "detail")):
            found[row["id"]]["dropped"] = [_at(row["stage"]), row["reason"], row["detail"]]
    for stage, name, column in (("steps", "skills", "skill"), ("edits", "actions", "action"), ("pruned", "sentences", "action")):
        seen: dict[str, dict[Any, Record]] = {}
        for row in scan(data / f"{stage}.trail.parquet", "record", wanted, ("step", "out_start", column, "completion")):
            seen.setdefault(row["record"], {})[row["out_start"] if stage == "pruned" else row["step"]] = row
        for record, rows in seen.items():
            found[record][name] = _counts(row[column] for row in rows.values())
            found[record]["asked"][_at(stage)] = sorted({row["completion"] for row in rows.values()})
    return found


# -- by drp ------------------------------------------------------------------------------------------------------------------


def answered(lineage: Lineage, record: str) -> Account:
    """The account that `why` and `used` give."""
    subject = lineage.subject(record)
    back, forth = why(lineage, subject).plain(), used(lineage, subject).plain()
    top = next(b for b in back["below"] if b["kind"] == "record") if back.get("dropped") else back
    stages = {branch["name"]: branch for branch in top["below"] if branch["kind"] == "stage"}
    dropped = [[back["stage"], back["reason"], back["detail"]]] if back.get("dropped") else []
    kept = {name: branch["id"] for name, branch in stages.items()}
    learned = None
    for branch in top["below"]:
        if branch["kind"] == "model" and branch["trained"]:
            learned, kept[branch["stage"]] = _part(branch, LEDGER), branch["id"]
        elif branch["kind"] == "model" and branch["dropped"]:
            dropped.append([branch["stage"], *_part(branch["dropped"], ("reason", "detail")).values()])
    _agree(record, kept, dropped, learned, forth)
    asked = {name: [b["key"] for b in stage.get("below", ()) if b["kind"] == "completion"] for name, stage in stages.items()}

    def own(stage: str, names: Sequence[str]) -> Record | None:
        return _part(stages[_at(stage)], names) if _at(stage) in stages else None

    def counts(stage: str, name: str) -> dict[str, int] | None:
        return dict(sorted(stages[_at(stage)][name].items())) if _at(stage) in stages else None

    return Account(
        kept=kept, dropped=dropped[0] if dropped else None, question=own("questions", QUESTION), trace=own("traces", TRACE),
        verdicts={_at(stage): found for stage in ("correct", "targets") if (found := own(stage, VERDICT))},
        skills=counts("steps", "skills"), actions=counts("edits", "actions"), sentences=counts("pruned", "sentences"),
        asked={name: keys for name, keys in asked.items() if keys}, learned=learned,
    )  # fmt: skip


def _agree(record: str, kept: Mapping[str, str], dropped: Sequence[Any], learned: Any, forth: Mapping[str, Any]) -> None:
    """AssertionError where `used` says otherwise than `why`."""
    made = {at: name for at, name in kept.items() if name == record}  # `used` tells what was made of it, not what it was made of
    assert {at: [name] for at, name in made.items()} == forth["records"], (record, kept, forth["records"])
    refused = [[at, row["reason"], row["detail"]] for at, rows in forth["dropped"].items() for row in rows]
    assert refused == list(dropped), (record, refused, dropped)
    trained = [_part(row, LEDGER) for model in forth["trained_on_by"] for row in model["records"]]
    assert trained == ([learned] if learned else []), (record, trained, learned)


def answered_sentence(lineage: Lineage, record: str, text: str, start: int) -> Sentence | None:
    """What `why` says of a sentence of a record; None where it finds it elsewhere alone."""
    found = why(lineage, lineage.subject(text, "text", "big/targets"), 20).plain()
    for place in found["below"]:
        for branch in place["below"] if place["id"] == record else ():
            if branch["kind"] == "sentence" and branch["start"] == start:
                return _sentence(branch)
    return None


def _sentence(branch: Mapping[str, Any]) -> Sentence:
    steps, asked = [], {_at("pruned"): _keys(branch)}
    for step in (b for b in branch["below"] if b["kind"] == "step"):
        (action,) = (b for b in step["below"] if b["kind"] == "action")
        steps.append({**_part(step, STEP[:5]), "action": action["action"], "reason": action["reason"]})
        asked[_at("steps")], asked[_at("edits")] = _keys(step), _keys(action)
    return {**_part(branch, ("start", "end", "made")), "steps": steps, "asked": {at: asked[at] for at in map(_at, ASKING[1:])}}


def _keys(branch: Mapping[str, Any]) -> str:
    return " ".join(b["key"] for b in branch["below"] if b["kind"] == "completion")
