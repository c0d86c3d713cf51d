"""Training: fits a LoRA adapter to examples with PEFT and transformers' Trainer, in an order that is known beforehand."""

import importlib.util
import json
import math
import os
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from drp.errors import ConfigError, MissingPackage
from drp.fingerprint import seed_of
from drp.models import Model
from drp.targets import Example, collate
from drp.weights import load_model, pick_device

if TYPE_CHECKING:
    import torch

Scheduler = Literal["cosine", "linear", "constant"]
Precision = Literal["auto", "float32", "bfloat16"]
Attention = Literal["auto", "sdpa", "eager", "flash_attention_2"]
Zero = Literal["none", "zero1", "zero2", "zero3"]

CHECKPOINTS = 10
"""How often a run is saved on its way, so that a kill costs at most a tenth of it."""

WHOLE = "whole"
"""The empty file that marks a checkpoint as written to its end."""


@dataclass(frozen=True)
class Settings:
    """How to train: `batch_size` examples make one optimiser step, `micro_batch` of them at a time (None: all at once).

    `alpha` over `rank` scales the adapter; `warmup` is a share of all steps; `epochs` may be a fraction.
    """

    epochs: float
    rank: int
    alpha: float
    dropout: float
    learning_rate: float
    scheduler: Scheduler
    warmup: float
    weight_decay: float
    batch_size: int
    micro_batch: int | None
    seed: int
    precision: Precision
    attn: Attention
    deepspeed: Zero
    target_modules: list[str] | str


@dataclass(frozen=True)
class Trained:
    """What training leaves behind besides the adapter: the examples of each optimiser step (the first is step 1)."""

    steps: list[list[int]]

    def seen(self, count: int) -> list[list[int]]:
        """For each of `count` examples, the steps that saw it (twice in one step counts twice)."""
        found: list[list[int]] = [[] for _ in range(count)]
        for number, step in enumerate(self.steps, 1):
            for example in step:
                found[example].append(number)
        return found


def plan(count: int, *, epochs: float, batch_size: int, seed: int) -> list[list[int]]:
    """The examples (0 … `count`-1) of each optimiser step, in order: every epoch shuffles anew, and epochs run on without a gap.

    All steps but the last have `batch_size` examples; a fraction of an epoch is rounded to whole examples, at least one.
    """
    total = max(1, round(count * epochs))
    order: list[int] = []
    for epoch in range(math.ceil(total / count)):
        shuffled = list(range(count))
        random.Random(seed_of("order", seed, epoch)).shuffle(shuffled)
        order += shuffled
    return [order[i : min(i + batch_size, total)] for i in range(0, total, batch_size)]


def check_machine(settings: Settings, device: str) -> None:
    """Refuse, before anything is read or loaded, what this machine cannot do: ConfigError or MissingPackage say why.

    `device` is an endpoint's (`auto`, `cpu`, `cuda` …).
    """
    for package in ("torch", "transformers", "peft", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(f"training needs the package {package}; pip install 'drp[train]'")
    chosen = pick_device(device)
    if settings.attn == "flash_attention_2":
        if not chosen.startswith("cuda"):
            raise ConfigError(f"attn: flash_attention_2 needs a CUDA device, and this run is on {chosen!r}; take 'auto'")
        if importlib.util.find_spec("flash_attn") is None:
            raise MissingPackage("attn: flash_attention_2 needs the package flash_attn; pip install 'drp[flash]'")
    if settings.deepspeed != "none" and importlib.util.find_spec("deepspeed") is None:
        raise MissingPackage(f"deepspeed: {settings.deepspeed} needs the package deepspeed; pip install 'drp[deepspeed]'")
    if settings.precision == "bfloat16" and chosen.startswith("cuda"):
        import torch

        if not torch.cuda.is_bf16_supported():
            raise ConfigError("precision: this CUDA device has no bfloat16; take 'float32'")


def load_student(model: Model, settings: Settings) -> Any:
    """The student with a LoRA to train: a fresh one, or the model's own adapter where it has one.

    A fresh adapter changes nothing yet, so losses measured now are the untrained student's.
    """
    import peft
    import torch

    network = load_model(replace(model, adapter=None, adapter_hash=None), train=True)
    if _in_bfloat16(settings, str(network.device)):
        network = network.to(torch.bfloat16)
    elif settings.precision == "float32":
        network = network.float()
    if settings.attn != "auto":
        network.set_attn_implementation(settings.attn)
    if model.adapter is not None:
        return peft.PeftModel.from_pretrained(network, model.adapter, is_trainable=True)
    torch.manual_seed(settings.seed)
    targets = settings.target_modules
    lora = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets if isinstance(targets, str) else sorted(targets),
    )
    try:
        return peft.get_peft_model(network, lora)
    except ValueError as error:
        raise ConfigError(f"target_modules: {targets!r} fits no layer of {model.name}: {error}") from error


def mean_losses(network: Any, examples: Sequence[Example], *, pad: int, batch: int) -> list[float]:
    """The student's mean negative log-likelihood per token (nats) of each example's response, nothing trained."""
    import torch

    network.eval()
    found: list[float] = []
    for start in range(0, len(examples), batch):
        some = collate(examples[start : start + batch], pad)
        given = {k: v.to(network.device) for k, v in some.items() if k != "labels"}
        with torch.no_grad():
            logits = network(**given).logits[:, :-1].float()
        labels = some["labels"][:, 1:].to(network.device)
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        found += (losses.sum(1) / (labels >= 0).sum(1)).tolist()
    return found


def train(
    network: Any,
    examples: Sequence[Example],
    settings: Settings,
    *,
    pad: int,
    base: Model,
    out: Path,
    resume: Path,
    say: Callable[[str], None],
) -> Trained:
    """Train `network` on `examples`, write its adapter and `log.json` into `out`, and say which steps saw which example.

    Checkpoints go to `resume`; where it holds one of this very run, training goes on from there and, on a CPU, ends in the
    same bytes as a run that was never stopped.
    """
    steps = plan(len(examples), epochs=settings.epochs, batch_size=settings.batch_size, seed=settings.seed)
    arguments = _arguments(settings, len(steps), resume, str(network.device))
    trainer = _trainer(network, examples, steps, arguments, pad, say)
    checkpoint = _last_checkpoint(resume)
    if checkpoint is not None:
        say(f"going on from {checkpoint.name}")
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    _save_adapter(trainer, base, out)
    _save_log(trainer.state.log_history, settings, network, out)
    return Trained(steps)


def _in_bfloat16(settings: Settings, device: str) -> bool:
    if settings.precision != "auto":
        return settings.precision == "bfloat16"
    import torch

    return device.startswith("cuda") and torch.cuda.is_bf16_supported()


def _arguments(settings: Settings, steps: int, resume: Path, device: str) -> Any:
    import transformers

    micro = settings.micro_batch or settings.batch_size
    if settings.deepspeed != "none":
        _alone()
    arguments = transformers.TrainingArguments(
        output_dir=str(resume),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=settings.batch_size // micro,
        num_train_epochs=1,  # the examples are laid out as all epochs in a row
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup" if settings.scheduler == "constant" else settings.scheduler,
        warmup_steps=math.ceil(settings.warmup * steps),
        weight_decay=settings.weight_decay,
        optim="adamw_torch",
        seed=settings.seed,
        bf16=_in_bfloat16(settings, device),
        use_cpu=device.startswith("cpu"),
        deepspeed=_deepspeed(settings.deepspeed),
        save_strategy="steps",
        save_steps=max(1, math.ceil(steps / CHECKPOINTS)),
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # several visible GPUs would silently multiply the batch
    return arguments


def _deepspeed(zero: Zero) -> dict[str, Any] | None:
    """DeepSpeed's settings for a ZeRO stage; `auto` leaves a value to the Trainer."""
    if zero == "none":
        return None
    return {
        "zero_optimization": {"stage": int(zero[-1]), "stage3_gather_16bit_weights_on_model_save": True},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
    }


def _alone() -> None:
    """DeepSpeed wants a process group even for one process: describe one, unless a launcher has."""
    if "RANK" not in os.environ:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        group = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ.update(group)


def _trainer(
    network: Any, examples: Sequence[Example], steps: list[list[int]], arguments: Any, pad: int, say: Callable[[str], None]
) -> Any:
    """A Trainer that takes the examples in the order of `steps`, and stops where it would not."""
    import torch
    import transformers

    def together(rows: Sequence[int]) -> dict[str, "torch.Tensor"]:
        return {**collate([examples[i] for i in rows], pad), "rows": torch.tensor(rows)}

    class InOrder(transformers.Trainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> "torch.Tensor":
            rows = inputs.pop("rows").tolist()
            step = steps[self.state.global_step]
            if not set(rows) <= set(step):
                raise AssertionError(f"step {self.state.global_step + 1} was to see examples {step}, not {rows}")
            found: torch.Tensor = super().training_step(model, inputs, *rest, **more)
            return found

    class Watching(transformers.TrainerCallback):  # type: ignore[misc]
        def on_log(self, _: Any, state: Any, __: Any, logs: dict[str, float] | None = None, **___: Any) -> None:
            every = max(1, state.max_steps // 20)
            if not math.isfinite((logs or {}).get("loss", 0.0)):
                raise ConfigError(f"training came apart: the loss of step {state.global_step} is no number; lower learning_rate")
            if logs and "loss" in logs and (state.global_step % every == 0 or state.global_step == state.max_steps):
                say(f"step {state.global_step}/{state.max_steps}  loss {logs['loss']:.4f}")

        def on_save(self, arguments: Any, state: Any, *_: Any, **__: Any) -> None:
            (Path(arguments.output_dir) / f"checkpoint-{state.global_step}" / WHOLE).touch()

    trainer = InOrder(
        model=network,
        args=arguments,
        train_dataset=[i for step in steps for i in step],
        data_collator=together,
        callbacks=[Watching()],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _last_checkpoint(resume: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    whole = [p.parent for p in resume.glob(f"checkpoint-*/{WHOLE}")]
    return max(whole, key=lambda p: int(p.name.rpartition("-")[2]), default=None)


def _save_adapter(trainer: Any, base: Model, out: Path) -> None:
    """Write the adapter as PEFT and vLLM read it, saying nothing of this machine: the base by its name, sets sorted."""
    import peft
    from safetensors.torch import save_file

    network = trainer.accelerator.unwrap_model(trainer.model)
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    adapter = peft.get_peft_model_state_dict(network, state_dict=state)
    save_file({k: v.cpu().contiguous() for k, v in adapter.items()}, out / "adapter_model.safetensors", {"format": "pt"})
    config = network.peft_config["default"]
    config.base_model_name_or_path, config.revision, config.inference_mode = base.name, base.revision, True
    config.save_pretrained(str(out))
    path = out / "adapter_config.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(told["target_modules"], list):
        told["target_modules"].sort()
    path.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _save_log(history: Sequence[dict[str, float]], settings: Settings, network: Any, out: Path) -> None:
    """Write `log.json`: loss (nats per trained token), learning rate and gradient norm of every step; no clocks."""
    keys = ("step", "loss", "learning_rate", "grad_norm")
    told = {
        "trainable_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "batch_size": settings.batch_size,
        "steps": [{k: entry[k] for k in keys if k in entry} for entry in history if "loss" in entry],
    }
    (out / "log.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
