"""Fine-tune a student on targets with LoRA, and keep a ledger of which steps saw which record."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, TypedDict

from drp.errors import DataError
from drp.op import Dropped, Kept, Model, Outcome, Prompt, Record, Supplies, Work
from drp.targets import Example, as_target, check_template, encode, target_text
from drp.training import Attention, Precision, Scheduler, Settings, Zero, check_machine, load_student, mean_losses, train
from drp.weights import load_tokenizer

VERSION = 1
NEEDS = ("question",)
MAKES_MODEL = True
REPLACES = True


class Adds(TypedDict):
    """The ledger: what a record cost and when it was seen.

    `n_tokens` counts prompt and response, `n_trained_tokens` the response with its EOS (what one pass adds to the loss);
    `steps_seen` are optimiser steps from 1; `nll_…_before` is the untrained student's mean NLL per token (nats).
    """

    id: str
    n_tokens: int
    n_trained_tokens: int
    steps_seen: list[int]
    nll_target_before: float | None
    nll_raw_before: float | None


def sft(
    records: Iterable[Record],
    work: Work,
    *,
    model: Model,
    prompt: Annotated[Prompt, Supplies("question")],
    target_column: str = "target",
    epochs: float = 3.0,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    target_modules: list[str] | str = "all-linear",
    learning_rate: float = 3e-5,
    scheduler: Scheduler = "cosine",
    warmup: float = 0.1,
    weight_decay: float = 0.0,
    batch_size: int = 8,
    micro_batch: int | None = None,
    max_length: int = 4096,
    seed: int = 0,
    precision: Precision = "auto",
    attn: Attention = "auto",
    deepspeed: Zero = "none",
    measure_learnability: bool = False,
) -> Iterator[Outcome]:
    """Train a LoRA adapter of `model` to answer the prompt with each record's target; the loss sees the target alone.

    Dropped: `no-target` (nothing, or a thought that never closes or has no answer), `too-long` (more than `max_length`
    tokens with its prompt: never cut, because a target without its end teaches not to end). Defaults are those of the
    paper's main run, as far as it tells (LoRA r 8, α 16, 3 epochs, cosine from 3e-5, batches of 8).
    """
    settings = Settings(
        epochs=epochs, rank=rank, alpha=alpha, dropout=dropout, learning_rate=learning_rate, scheduler=scheduler,
        warmup=warmup, weight_decay=weight_decay, batch_size=batch_size, micro_batch=micro_batch, seed=seed,
        precision=precision, attn=attn, deepspeed=deepspeed, target_modules=target_modules,
    )  # fmt: skip
    check_machine(settings, model.endpoint.device)
    tokenizer = load_tokenizer(model)
    check_template(tokenizer, model.name)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    rows = [(record, example_of(record, tokenizer, prompt, target_column, max_length)) for record in records]
    examples = [example for _, example in rows if isinstance(example, Example)]
    if not examples:
        raise DataError(f"no record has a target in column {target_column!r} that fits {max_length} tokens: nothing to train on")
    network = load_student(model, settings)
    before: list[tuple[float | None, float | None]] = [(None, None)] * len(examples)
    if measure_learnability:
        kept = [record for record, example in rows if isinstance(example, Example)]
        raw = [_raw(record, tokenizer, prompt) for record in kept]
        before = _learnability(network, examples, raw, pad, micro_batch or batch_size)
    work.say(f"training on {len(examples)} of {len(rows)} records")
    trained = train(network, examples, settings, pad=pad, base=model, out=work.out, resume=work.resume, say=work.say)

    ledger = zip(examples, trained.seen(len(examples)), before, strict=True)
    for record, example in rows:
        yield example if isinstance(example, Dropped) else Kept(_entry(record, *next(ledger)))


def check(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The rules between options."""
    numbers = {key: value for key, value in options.items() if isinstance(value, int | float)}
    for key in ("epochs", "rank", "alpha", "learning_rate", "batch_size", "max_length"):
        if numbers.get(key, 1) <= 0:
            yield key, "must be more than 0"
    for key in ("warmup", "dropout"):
        if not 0 <= numbers.get(key, 0) < 1:
            yield key, "must be a share from 0 to less than 1"
    batch_size, micro_batch = numbers.get("batch_size", 1), numbers.get("micro_batch", 1)
    if micro_batch < 1 or batch_size % micro_batch:
        yield "micro_batch", f"must divide batch_size ({batch_size})"
    if options.get("attn") == "flash_attention_2" and options.get("precision") == "float32":
        yield "attn", "flash_attention_2 computes in 16 bits only; set precision to auto or bfloat16"


def example_of(record: Record, tokenizer: Any, prompt: Prompt, column: str, max_length: int) -> Example | Dropped:
    """What a record teaches, as token ids; dropped where it has no target (`no-target`), or a longer one (`too-long`)."""
    if column not in record:
        raise DataError(f"record {record['id']}: no column {column!r} to train on; it has {', '.join(sorted(record))}")
    target = as_target(record[column] or "")
    if target is None:
        return Dropped(record, "no-target", f"{column} has no closed thought with an answer after it", record[column] or "")
    example = encode(tokenizer, prompt.render(question=record["question"]), target)
    if len(example) > max_length:
        return Dropped(record, "too-long", f"{len(example)} tokens with the prompt, max_length is {max_length}")
    return example


def _raw(record: Record, tokenizer: Any, prompt: Prompt) -> Example | None:
    """The student's own trace as an example; None where it never closed its thought."""
    if missing := {"thought", "reply"} - record.keys():
        raise DataError(f"record {record['id']}: measure_learnability needs the columns {', '.join(sorted(missing))}")
    if record["thought"] is None:
        return None
    return encode(tokenizer, prompt.render(question=record["question"]), target_text(record["thought"], record["reply"]))


def _learnability(
    network: Any, targets: list[Example], raw: list[Example | None], pad: int, batch: int
) -> list[tuple[float | None, float | None]]:
    """For each record, the untrained student's mean NLL per token of its target and of its raw trace."""
    of_targets = mean_losses(network, targets, pad=pad, batch=batch)
    of_raw = iter(mean_losses(network, [e for e in raw if e is not None], pad=pad, batch=batch))
    return [(loss, next(of_raw) if e is not None else None) for loss, e in zip(of_targets, raw, strict=True)]


def _entry(record: Record, example: Example, seen: list[int], before: tuple[float | None, float | None]) -> Record:
    return {
        "id": record["id"],
        "n_tokens": len(example),
        "n_trained_tokens": len(example.response),
        "steps_seen": seen,
        "nll_target_before": before[0],
        "nll_raw_before": before[1],
    }
