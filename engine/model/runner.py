"""Executes steps: a packed batch in, logits of the wanted rows out.

What it is for: puts a loaded model, a device's executor and what the model says about itself together. What may not
enter: requests, scheduling, sampling. Single-threaded: only the engine loop calls it.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from engine.batch import StepBatch
from engine.messages import ModelInfo
from engine.model.config import RunnerConfig
from engine.model.errors import UnsupportedModel
from engine.model.executors import CpuExecutor, DeviceExecutor, Executor
from engine.model.forward import ForwardPass
from engine.model.fusion import fuse_layers
from engine.model.heads import MedusaHeads, linear, load_heads
from engine.model.host_fabric import HostFabric
from engine.model.linear import pack_linears
from engine.model.loading import choose_dtype, eos_token_ids, load_config, load_model, max_positions
from engine.model.lora import Adapters
from engine.model.memory import measured_bandwidth, usable_cores
from engine.model.norms import fuse_norms
from engine.model.parallel import Group, divide, join, load_share, plan_of, share_norms, whole_output
from engine.model.quantization import (
    Part,
    Quantization,
    chosen,
    dtype_of,
    load_quantized,
    quantize_share,
    reads_here,
    stored_bytes,
)
from engine.model.rows import stabilize_activations

DeviceFabric: Any = None
with suppress(ImportError):  # no Triton on this platform
    from engine.model.device_fabric import DeviceFabric

_log = logging.getLogger(__name__)

_CPU_PAGE, _CUDA_PAGE = 64, 16
_SMALL_HIDDEN = 512  # up to this width a second thread costs more than it gives


class ModelRunner:
    """A transformers causal LM over a paged cache; implements `engine.batch.Runner`.

    With a `group` it holds one rank's share of the model, every rank must run the same batches, and only the first
    rank's logits are there.
    """

    def __init__(self, config: RunnerConfig, group: Group | None = None) -> None:
        device = _device(config.device)
        settings = load_config(config.path, config.revision, trust=config.trust_remote_code)
        longest = max_positions(settings)
        ranks = 1 if group is None else group.ranks
        quantization = chosen(config.quantize, settings, device, ranks)
        dtype = choose_dtype(config.dtype, settings, device)
        if quantization is not None:
            dtype = dtype_of(quantization, config.dtype, dtype, device)
        threads = config.threads or (1 if settings.hidden_size <= _SMALL_HIDDEN else _cores_of_one(group))
        if device.type == "cpu":
            torch.set_num_threads(threads)  # before the packed products are probed: they depend on it
        model = _load(config, settings, quantization, dtype, device, group)
        vocab_size, parameters = _size(model)
        weight_bytes = _weight_bytes(model)
        forward = ForwardPass(model, group)
        output = None if config.heads is None or group is None else whole_output(model, group)
        if device.type == "cpu":
            fuse_layers(model, HostFabric())
            pack_linears(model)
            stabilize_activations(model)
            fuse_norms(model)
        else:
            if DeviceFabric is not None:
                fuse_layers(model, DeviceFabric())
            fuse_norms(model)
        self._adapters = _adapters(model, group)
        _join(model, group)
        self.heads = _heads(config, model, group, output)
        self.executor: Executor = (
            CpuExecutor(forward, config, dtype, threads, group)
            if device.type == "cpu"
            else DeviceExecutor(forward, config, dtype, device, longest, group, self.heads)
        )
        self.threads = threads
        self.info = ModelInfo(
            model_type=settings.model_type,
            vocab_size=vocab_size,
            max_positions=min(longest, self.executor.pages * config.page_size),
            eos_token_ids=eos_token_ids(model),
            dtype=str(dtype).removeprefix("torch."),
            quantize="" if quantization is None else quantization.scheme.name,
            device=str(device),
            page_size=config.page_size,
            pages=self.executor.pages,
            parameters=parameters,
            weight_bytes=weight_bytes,
            token_bytes=self.executor.page_bytes // config.page_size,
            memory_bandwidth=measured_bandwidth(device, 64 if device.type == "cpu" else 1024),
        )
        _log.info("%s: %d parameters, %d pages", settings.model_type, parameters, self.executor.pages)

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Logits, float32, (R, vocab_size), contiguous and the caller's to change; R may be 0."""
        self._adapters.enter(batch)
        return self.executor.run(batch)

    def load_adapter(self, slot: int, folder: str, most_rank: int) -> None:
        """Puts a LoRA adapter into a slot; raises ModelError for one that does not fit. Sequences name the slot."""
        self._adapters.load(slot, Path(folder), most_rank)

    def unload_adapter(self, slot: int) -> None:
        """Empties a slot that no sequence names any more."""
        self._adapters.unload(slot)

    def copy_page(self, source: int, target: int) -> None:
        """Copies the keys and values of one page in every layer."""
        self.executor.copy_page(source, target)


def _load(
    config: RunnerConfig,
    settings: PretrainedConfig,
    quantization: Quantization | None,
    dtype: torch.dtype,
    device: torch.device,
    group: Group | None,
) -> PreTrainedModel:
    """The model, or a rank's share of it, on its device."""
    if group is not None:
        return _load_share(config, settings, quantization, dtype, device, group)
    if quantization is not None:
        return load_quantized(config, settings, quantization, dtype, device)
    model = load_model(config.path, settings, dtype, config.revision, trust=config.trust_remote_code)
    model.to(device)  # type: ignore[arg-type]
    return model


def _load_share(
    config: RunnerConfig,
    settings: PretrainedConfig,
    quantization: Quantization | None,
    dtype: torch.dtype,
    device: torch.device,
    group: Group,
) -> PreTrainedModel:
    plan, division = plan_of(settings), divide(settings, group.rank, group.ranks)
    if quantization is not None and reads_here(quantization, device):
        model = load_quantized(config, settings, quantization, dtype, device, Part(plan, division))
    else:
        model = load_share(Path(config.path), settings, plan, division, dtype)
        model.to(device)  # type: ignore[arg-type]
        if quantization is not None:
            quantize_share(model, quantization, device)
    share_norms(model, plan, division, group)
    return model


def _adapters(model: PreTrainedModel, group: Group | None) -> Adapters:
    if group is None:
        return Adapters(model)
    return Adapters(model, plan_of(model.config), divide(model.config, group.rank, group.ranks))


def _join(model: PreTrainedModel, group: Group | None) -> None:
    if group is not None:
        join(model, plan_of(model.config), group)


def _cores_of_one(group: Group | None) -> int:
    return max(1, usable_cores() // (1 if group is None else group.ranks))


def default_page_size(device: str) -> int:
    """Tokens in a page where nobody says: on a CPU as many as make one head's keys a stream long enough for memory.

    A random 125M Llama at 64 sequences of 192 tokens: attention 22 ms a step with 64, 34 with 16, 21 with 128.
    """
    return _CPU_PAGE if _device(device).type == "cpu" else _CUDA_PAGE


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type not in {"cpu", "cuda"}:
        raise UnsupportedModel(f"device {name} is not served; use cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UnsupportedModel(f"device {name} was asked for, but torch finds no CUDA device")
    return device


def _heads(
    config: RunnerConfig,
    model: PreTrainedModel,
    group: Group | None,
    whole: tuple[torch.Tensor, torch.Tensor | None] | None,
) -> MedusaHeads | None:
    """On the first rank, which has all of the hidden states; `whole`: the output matrix there, if it is divided."""
    if config.heads is None or (group is not None and group.rank):
        return None
    output: torch.nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    embedding: torch.Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    shared = output if whole is None else linear(*whole)
    heads = load_heads(Path(config.heads), shared, model.config.hidden_size, embedding)
    heads.watch(output)
    return heads


def _size(model: PreTrainedModel) -> tuple[int, int]:
    """(width of a logits row, parameters); of the whole model, whatever this rank's share of it."""
    whole: int | None = getattr(model, "formwork_parameters", None)
    if whole is not None:
        return model.config.get_text_config().vocab_size, whole
    head: torch.nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    weight: torch.Tensor = head.weight  # type: ignore[assignment]
    return weight.shape[0], sum(p.numel() for p in model.parameters())


def _weight_bytes(model: PreTrainedModel) -> int:
    """What a forward pass reads: of the input embedding only a few rows, unless it is the head too."""
    embedding: torch.Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    head: torch.nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    total = stored_bytes(model)
    return total if head.weight is embedding else total - embedding.numel() * embedding.itemsize
