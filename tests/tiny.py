"""A tiny random Llama with its own tokenizer and an R1-like chat template, made in a moment, for tests that need a student."""

from pathlib import Path

from drp.models import Endpoint, Model, Sampling
from drp.pretraining import build_model, build_tokenizer, save

TEXTS = (
    "Okay, so I need to find 12 + 7. First, I add 7. 12 + 7 = 19. Wait, let me double-check that. 12 + 7 = 19.",
    "State the final answer to the following arithmetic problem: 12 + 7 - 5 =",
    "The answer is \\boxed{19}. So the answer is 19. There are 14 legs in total.",
)

LOUD = 20
"""How much larger than usual the embeddings are: an adapter, which cannot touch them, then learns something in a few steps."""


def tiny_student(folder: Path, *, chat_template: str | None = None, seed: int = 0, context: int = 512) -> Path:
    """Write an untrained model of ten thousand parameters into `folder`; `chat_template` replaces the R1-like one."""
    tokenizer = build_tokenizer(TEXTS, vocabulary=320)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    network = build_model(tokenizer, width=16, layers=2, heads=2, inner=32, context=context, seed=seed)
    network.get_input_embeddings().weight.data.mul_(LOUD)
    save(network, tokenizer, folder)
    return folder


def model_at(folder: Path | str, *, role: str = "student", max_tokens: int = 32, temperature: float = 0.6) -> Model:
    """The model in `folder`, reached by transformers on the CPU."""
    endpoint = Endpoint("transformers", device="cpu")
    return Model(role, str(folder), Sampling(temperature, 0.95, None, max_tokens), endpoint)
