"""Ops of a project's own that stand for training: they keep its ledger and leave its folder, and train nothing."""

LEARN = '''
    """Keep a ledger as sft does, and leave a folder as an adapter does, which depends on all that was read."""
    from collections.abc import Iterable, Iterator
    from typing import TypedDict
    from drp.op import Dropped, Kept, Model, Outcome, Record, Work

    VERSION = 1
    NEEDS = ("question",)
    MAKES_MODEL = True
    REPLACES = True

    class Adds(TypedDict):
        id: str
        n_tokens: int
        n_trained_tokens: int
        steps_seen: list[int]

    def learn(records: Iterable[Record], work: Work, *, model: Model | None = None, epochs: int = 2, rate: int = 1,
              batch: int = 1, longest: int = 1000, seen: int = 1000, blind: bool = False) -> Iterator[Outcome]:
        rows = [(record, record.get("target", record["question"])) for record in records]
        learnt = [] if blind else [text for _, text in rows]
        (work.out / "adapter_config.json").write_text(f"{rate} {learnt}")
        for number, (record, text) in enumerate(rows):
            words = len(text.split())
            if words > longest:
                yield Dropped(record, "too-long", f"{words} words")
            else:
                steps = [1 + number // batch + 100 * epoch for epoch in range(epochs if number < seen else 0)]
                yield Kept({"id": record["id"], "n_tokens": words + 9, "n_trained_tokens": words, "steps_seen": steps})
    '''
GROW = '''
    """Keep a ledger as pretrain does, which names no steps, and leave a folder which depends on all that was read."""
    from collections.abc import Iterable, Iterator
    from typing import TypedDict
    from drp.op import Kept, Model, Outcome, Record, Work

    VERSION = 1
    NEEDS = ("thought",)
    MAKES_MODEL = True
    REPLACES = True

    class Adds(TypedDict):
        id: str
        n_tokens: int
        n_trained_tokens: int

    def grow(records: Iterable[Record], work: Work, *, start: Model | None = None) -> Iterator[Outcome]:
        rows = list(records)
        (work.out / "config.json").write_text(f"{start and start.content} {[row['thought'] for row in rows]}")
        for row in rows:
            yield Kept({"id": row["id"], "n_tokens": 10, "n_trained_tokens": 4})
    '''
