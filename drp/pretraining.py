"""Train a small Llama, tokenizer and all, from scratch on narrated traces.

The model that comes out is a folder like any other of the hub's: `AutoModelForCausalLM` and `AutoTokenizer` load it.
Its chat template and its special tokens are R1's, down to the opened `<think>` at the end of a prompt.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"
USER = "<｜User｜>"
ASSISTANT = "<｜Assistant｜>"
THINK = "<think>"
END_THINK = "</think>"
SPECIAL = (PAD, BOS, EOS, USER, ASSISTANT, THINK, END_THINK)
"""The special tokens, in the order of their ids."""

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    "{% set content = message['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<｜Assistant｜>' + content + eos_token }}"
    "{% else %}{{ message['content'] }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"
)
"""R1's: a system message is plain text, an assistant turn loses its thought, a generation prompt opens `<think>`."""

WORDS = r" [+*=-] | ?\p{L}+(?:'\p{L}+)?(?: (?=-?\d))?|\d|-|\n+| ?[^\s\p{L}\d-]+(?: (?=-?\d))?|\s+"
"""What a token never reaches across: one word, one digit, one operator with its spaces, line breaks, other signs.
A number's leading space belongs to what stands before it, so that a digit is the same token wherever it stands."""

IGNORED = -100
"""The label of a token that does not count towards the loss."""


@dataclass(frozen=True)
class Example:
    """A question, and what should be generated for it: `thought\\n</think>\\n\\nanswer`, or a thought that is cut."""

    question: str
    response: str
    finished: bool


@dataclass(frozen=True)
class Progress:
    """Where training stands: steps done, of how many, tokens seen, the loss per token lately, seconds since the start."""

    step: int
    steps: int
    tokens: int
    loss: float
    seconds: float

    def __str__(self) -> str:
        speed = self.tokens / max(self.seconds, 1e-9)
        return (
            f"step {self.step}/{self.steps}  loss {self.loss:.4f}  "
            f"{self.tokens / 1e6:.2f} M tokens  {speed / 1e3:.1f} k/s  {self.seconds:.0f} s"
        )


def example(question: str, thought: str, answer: str, *, finished: bool = True) -> Example:
    """What a student should generate after a prompt that ends in `<think>\\n`; an unfinished thought never closes."""
    response = f"{thought}\n{END_THINK}\n\n{answer}" if finished else thought
    return Example(question, response, finished)


def build_tokenizer(texts: Sequence[str], *, vocabulary: int = 768) -> "PreTrainedTokenizerFast":
    """A byte-level BPE tokenizer trained on `texts`: lossless on any text, a token a digit, R1's special tokens and template."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def build_model(
    tokenizer: "PreTrainedTokenizerFast",
    *,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    inner: int = 384,
    context: int = 2048,
    seed: int = 0,
) -> "LlamaForCausalLM":
    """An untrained Llama that fits `tokenizer`, with tied embeddings; the same `seed` gives the same weights."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=context,
            tie_word_embeddings=True,
            **ids,
        )
    )
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.6, top_p=0.95, **ids)
    return model


def prompt_ids(tokenizer: "PreTrainedTokenizerFast", question: str) -> list[int]:
    """The prompt for `question` as token ids: the chat template with `<think>` opened at its end."""
    text = tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
    return list(tokenizer.encode(str(text), add_special_tokens=False))


def encode(tokenizer: "PreTrainedTokenizerFast", examples: Sequence[Example]) -> list[tuple[list[int], int]]:
    """Each example as (token ids, length of its prompt); a finished one ends in EOS."""
    prompts = [prompt_ids(tokenizer, item.question) for item in examples]
    responses = tokenizer([item.response for item in examples], add_special_tokens=False)["input_ids"]
    ending = [tokenizer.eos_token_id]
    return [
        (prompt + list(response) + (ending if item.finished else []), len(prompt))
        for item, prompt, response in zip(examples, prompts, responses, strict=True)
    ]


def batches(lengths: Sequence[int], *, tokens: int, seed: int) -> list[list[int]]:
    """Indices in batches of at most `tokens` tokens, padding counted; like lengths together, in an order drawn from `seed`."""
    rng = random.Random(seed)
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index] + rng.uniform(-8, 8), index))
    made: list[list[int]] = [[]]
    longest = 0
    for index in order:
        longest = max(longest, lengths[index])
        if made[-1] and longest * (len(made[-1]) + 1) > tokens:
            made.append([])
            longest = lengths[index]
        made[-1].append(index)
    rng.shuffle(made)
    return made


def train(
    model: "LlamaForCausalLM",
    sequences: Sequence[tuple[list[int], int]],
    *,
    pad: int,
    epochs: int = 1,
    batch_tokens: int = 4096,
    learning_rate: float = 2e-3,
    final_rate: float = 0.02,
    warmup: int = 100,
    weight_decay: float = 0.05,
    clip: float = 1.0,
    seed: int = 0,
    checkpoint: Path | None = None,
    checkpoint_every: int = 500,
    report: Callable[[Progress], None] | None = None,
    report_every: int = 50,
) -> None:
    """Train `model` in place on (token ids, prompt length) pairs; only what comes after the prompt counts.

    AdamW under a cosine that ends at `final_rate` times `learning_rate`. With a `checkpoint` folder, a run that was
    killed continues where its last checkpoint stood, with the same batches in the same order.
    """
    import torch

    lengths = [len(ids) for ids, _ in sequences]
    plan = [batch for epoch in range(epochs) for batch in batches(lengths, tokens=batch_tokens, seed=seed + epoch)]
    optimizer = _optimizer(model, learning_rate, weight_decay)

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, len(plan) - warmup)
        return final_rate + (1 - final_rate) * 0.5 * (1 + math.cos(math.pi * done))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    start, tokens = _resume(checkpoint, model, optimizer, schedule, len(plan))
    began, recent = time.monotonic(), 0.0
    seen_before = tokens
    model.train()
    for step in range(start, len(plan)):
        ids, labels = _tensors([sequences[index] for index in plan[step]], pad)
        logits = model(input_ids=ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        schedule.step()
        tokens += sum(lengths[index] for index in plan[step])
        recent = loss.item() if step == start else 0.95 * recent + 0.05 * loss.item()
        if report and ((step + 1) % report_every == 0 or step + 1 == len(plan)):
            report(Progress(step + 1, len(plan), tokens - seen_before, recent, time.monotonic() - began))
        if checkpoint and (step + 1) % checkpoint_every == 0:
            _save_checkpoint(checkpoint, model, optimizer, schedule, step + 1, tokens, len(plan))
    model.eval()


def save(model: "LlamaForCausalLM", tokenizer: "PreTrainedTokenizerFast", folder: Path) -> None:
    """Write the model, its tokenizer and their settings as a folder that transformers, PEFT and vLLM load."""
    model.config.use_cache = True
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _optimizer(model: "LlamaForCausalLM", learning_rate: float, weight_decay: float) -> "torch.optim.AdamW":
    import torch

    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), eps=1e-8)


def _tensors(rows: Sequence[tuple[list[int], int]], pad: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Ids padded on the right, where a causal model never looks back from, and labels that skip prompts and padding."""
    import torch

    longest = max(len(ids) for ids, _ in rows)
    padded = [ids + [pad] * (longest - len(ids)) for ids, _ in rows]
    labels = [[IGNORED] * prompt + ids[prompt:] + [IGNORED] * (longest - len(ids)) for ids, prompt in rows]
    return torch.tensor(padded), torch.tensor(labels)


def _save_checkpoint(folder: Path, model: Any, optimizer: Any, schedule: Any, step: int, tokens: int, steps: int) -> None:
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    fresh = folder / "state.pt.new"
    torch.save({**state, "step": step, "tokens": tokens, "steps": steps}, fresh)
    fresh.replace(folder / "state.pt")


def _resume(folder: Path | None, model: Any, optimizer: Any, schedule: Any, steps: int) -> tuple[int, int]:
    """The step and the token count to go on from: those of the checkpoint if there is one of a run as long, else 0, 0."""
    import torch

    if folder is None or not (folder / "state.pt").exists():
        return 0, 0
    state = torch.load(folder / "state.pt", weights_only=True)
    if state["steps"] != steps:
        return 0, 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return int(state["step"]), int(state["tokens"])
