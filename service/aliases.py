"""The names under which people who come from TGI and vLLM look for settings.

What it is for: one table of other flags, variables and words per setting, and of flags and variables that are accepted
and change nothing or are refused, each with its reason. What may not enter: reading the environment.

TGI reads its variables without a prefix. Of those names only ones that nobody else uses for something else are read
here too; `HOSTNAME` is not, since every container sets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Alias:
    """Other names of one setting: flags without their dashes, variables, and words for its values."""

    flags: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)


def _both(*flags: str) -> Alias:
    """Flags that are variables too, as TGI spells them."""
    return Alias(flags, tuple(map(variable_of, flags)))


def variable_of(flag: str) -> str:
    """The variable that TGI reads in the flag's place."""
    return flag.upper().replace("-", "_")


ALIASES: dict[str, Alias] = {
    "model": _both("model-id"),
    "revision": Alias((), ("REVISION",)),
    "host": Alias(("hostname",)),
    "port": Alias((), ("PORT",)),
    "metrics_port": _both("prometheus-port"),
    "quantize": Alias(("quantization",), ("QUANTIZE",)),
    "trust_remote_code": Alias((), ("TRUST_REMOTE_CODE",)),
    "dtype": Alias((), ("DTYPE",)),
    "api_keys": Alias(("api-key",), ("API_KEY",)),
    "cors_allow_origins": _both("cors-allow-origin"),
    "tensor_parallel_size": _both("num-shard"),
    "adapters": Alias(("lora-adapters", "lora-modules"), ("LORA_ADAPTERS",)),
    "max_adapters": Alias(("max-loras",)),
    "max_adapter_rank": Alias(("max-lora-rank",)),
    "max_model_len": _both("max-total-tokens"),
    "max_input_tokens": Alias(("max-input-length",), ("MAX_INPUT_TOKENS", "MAX_INPUT_LENGTH")),
    "max_batch_tokens": Alias(("max-batch-prefill-tokens", "max-num-batched-tokens"), ("MAX_BATCH_PREFILL_TOKENS",)),
    "cache_tokens": _both("max-batch-total-tokens"),
    "cache_bytes": Alias(("kv-cache-memory-bytes",)),
    "cache_dtype": Alias(("kv-cache-dtype",), ("KV_CACHE_DTYPE",), {"fp8_e4m3fn": "fp8", "fp8_e4m3": "fp8"}),
    "memory_fraction": Alias(("cuda-memory-fraction", "gpu-memory-utilization"), ("CUDA_MEMORY_FRACTION",)),
    "cuda_graphs": Alias((), ("CUDA_GRAPHS",)),
    "max_sequences": Alias(("max-batch-size", "max-num-seqs"), ("MAX_BATCH_SIZE",)),
    "max_concurrent_requests": Alias((), ("MAX_CONCURRENT_REQUESTS",)),
    "max_n": _both("max-best-of"),
    "max_stop_sequences": Alias((), ("MAX_STOP_SEQUENCES",)),
    "max_top_n_tokens": Alias((), ("MAX_TOP_N_TOKENS",)),
    "draft_model": Alias(("speculative-model",)),
    "speculate": Alias(("num-speculative-tokens",), ("SPECULATE",)),
    "page_size": Alias(("block-size",)),
    "prefix_sharing": Alias(("enable-prefix-caching",), ("PREFIX_CACHING",)),
    "body_limit_bytes": _both("payload-limit"),
    "drain_s": _both("graceful-termination-timeout"),
    "chat_template": Alias(("tokenizer-chat-template",)),
    "log_level": Alias(("uvicorn-log-level",), ("LOG_LEVEL",)),
    "log_format": Alias((), ("LOG_FORMAT", "JSON_OUTPUT"), {"true": "json", "false": "text"}),  # of JSON_OUTPUT
    "otlp_endpoint": Alias((), ("OTLP_ENDPOINT",)),
    "otlp_service_name": Alias((), ("OTLP_SERVICE_NAME",)),
    "compute_type": Alias((), ("COMPUTE_TYPE",)),
}

# Accepted, so that a command line can be taken over as it is; start-up says of each that is given why it is idle.
IDLE: dict[str, str] = {
    "waiting-served-ratio": "prefill goes on in chunks beside decoding, so nothing waits for a batch to be worth it",
    "max-waiting-tokens": "prefill goes on in chunks beside decoding",
    "validation-workers": "requests are validated where they arrive; long texts in a thread",
    "enable-prefill-logprobs": "prompt log-probs are always available",
    "enable-auto-tool-choice": "tools may always be called",
    "enable-lora": "adapters are served wherever --adapters names some",
    "enable-chunked-prefill": "prefill is always chunked",
    "disable-custom-kernels": "there are none to disable on a CPU, and on a GPU the choice is measured",
    "usage-stats": "nothing is ever reported to anyone",
    "shard-uds-path": "processes find each other by themselves",
    "master-addr": "processes find each other by themselves",
    "master-port": "processes find each other by themselves",
    "max-client-batch-size": "prompts times choices of one request are bounded by --max-n",
    "enable-reasoning": "reasoning is told apart where the chat template shows it; see --reasoning-parser",
    "disable-log-requests": "requests are never logged with what is in them",
}

# Refused by name, for what they ask for would not happen; each with what to do instead.
REFUSED: dict[str, str] = {
    "rope-scaling": "positions are scaled as the model's config.json says; change it there",
    "rope-factor": "positions are scaled as the model's config.json says; change it there",
    "disable-grammar-support": "constraints are what this server is for",
    "watermark-gamma": "the marking scheme is not chosen by parameters of one scheme; see --watermark",
    "watermark-delta": "the marking scheme is not chosen by parameters of one scheme; see --watermark",
    "huggingface-hub-cache": "the hub's own library keeps it; set HF_HUB_CACHE",
    "download-dir": "the hub's own library keeps it; set HF_HUB_CACHE",
    "weights-cache-override": "give the folder of the weights as the model",
    "tokenizer-config-path": "give the template with --chat-template",
    "tokenizer": "a model is served with its own tokenizer",
    "ngrok": "no tunnels are opened; put a proxy in front",
    "ngrok-authtoken": "no tunnels are opened; put a proxy in front",
    "ngrok-edge": "no tunnels are opened; put a proxy in front",
    "env": "what was chosen is printed at every start",
    "pipeline-parallel-size": "layers are not spread over devices one after another",
    "data-parallel-size": "start several servers behind a balancer",
    "ssl-keyfile": "TLS is a proxy's work; put one in front",
    "ssl-certfile": "TLS is a proxy's work; put one in front",
}

# Likewise the variables in which TGI looks for its flags, and those that it has without a flag. Not read: MASTER_ADDR
# and MASTER_PORT (torch's), HUGGINGFACE_HUB_CACHE (the hub's library reads it), ENV and HOSTNAME (anybody's).
IDLE_VARIABLES: dict[str, str] = {
    "WAITING_SERVED_RATIO": IDLE["waiting-served-ratio"],
    "MAX_WAITING_TOKENS": IDLE["max-waiting-tokens"],
    "VALIDATION_WORKERS": IDLE["validation-workers"],
    "ENABLE_PREFILL_LOGPROBS": IDLE["enable-prefill-logprobs"],
    "DISABLE_CUSTOM_KERNELS": IDLE["disable-custom-kernels"],
    "USAGE_STATS": IDLE["usage-stats"],
    "SHARD_UDS_PATH": IDLE["shard-uds-path"],
    "MAX_CLIENT_BATCH_SIZE": IDLE["max-client-batch-size"],
    "PREFILL_CHUNKING": IDLE["enable-chunked-prefill"],
    "ATTENTION": "which attention kernel runs is chosen by what the device and the installation can do",
}
REFUSED_VARIABLES: dict[str, str] = {
    "ROPE_SCALING": REFUSED["rope-scaling"],
    "ROPE_FACTOR": REFUSED["rope-factor"],
    "DISABLE_GRAMMAR_SUPPORT": REFUSED["disable-grammar-support"],
    "WATERMARK_GAMMA": REFUSED["watermark-gamma"],
    "WATERMARK_DELTA": REFUSED["watermark-delta"],
    "WEIGHTS_CACHE_OVERRIDE": REFUSED["weights-cache-override"],
    "TOKENIZER_CONFIG_PATH": REFUSED["tokenizer-config-path"],
    "NGROK": REFUSED["ngrok"],
    "NGROK_AUTHTOKEN": REFUSED["ngrok"],
    "NGROK_EDGE": REFUSED["ngrok"],
    "TGI_WIGGLE_ROOM": "say which share of the memory the cache may take with --memory-fraction",
}
