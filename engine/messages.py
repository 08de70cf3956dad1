"""The wire between the API process and the engine process.

What it is for: the only values that cross the local ZeroMQ socket, in both directions. msgspec encodes them as
MessagePack and checks every field's type when it decodes, so a malformed frame is an error here and nothing is ever
unpickled. What may not enter: behaviour, torch, HTTP.

The idea: the API process owns a request (its prompt, the tokens emitted so far, its seed); the engine owns nothing
that could not be rebuilt from a `Generate`. A resumed request is therefore the same message with `emitted` filled in.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class FinishReason(StrEnum):
    """Why a sequence ended; the service translates it into each dialect's word."""

    EOS = "eos"  # an end token was drawn (or, under a grammar, only the end was left)
    STOP = "stop"  # a stop string or stop token id
    LENGTH = "length"  # max_tokens or the context is full; never under a grammar
    ABORTED = "aborted"  # the client went away or the server is closing


class ErrorCode(StrEnum):
    """Typed failures of one request; the service's error table maps each to a status."""

    GRAMMAR_DEAD_END = "grammar_dead_end"
    BUDGET_TOO_SMALL = "budget_too_small"
    CONTEXT_LENGTH = "context_length_exceeded"
    NUMERIC = "numeric_error"  # NaN or infinity in this row's logits
    OVERLOADED = "overloaded"
    UNKNOWN_GRAMMAR = "unknown_grammar"
    BAD_REQUEST = "bad_request"
    INTERNAL = "internal_error"
    DEADLINE = "deadline_exceeded"  # the one that the caller set
    ENGINE_DIED = "engine_died"
    ENGINE_KILLED = "engine_killed"  # engine_died, and this request alone can have done it
    UNAVAILABLE = "engine_unavailable"  # draining, closed, or given up after a crash loop


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are drawn. Order: logits → logit bias → grammar mask → penalties → temperature → typical, top-k,
    top-p, min-p → watermark → draw. `temperature == 0` is greedy."""

    max_tokens: int
    seed: int  # the service draws one when the client gave none, so that a resumed request repeats itself
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[bytes, ...] = ()  # UTF-8 of stop strings; matched on bytes, across token borders
    stop_token_ids: tuple[int, ...] = ()
    top_logprobs: int = 0  # alternatives per generated token, best first
    prompt_logprobs: int | None = None  # None: not wanted; n: log-prob of each prompt token and n alternatives


class Plan(msgspec.Struct, frozen=True):
    """A compiled grammar as the compile worker made it; `data` is what `grammar.load_grammar` reads."""

    fingerprint: str
    data: bytes


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """The watermark asked for. The secret itself never crosses the socket: the engine has its own key ring."""

    scheme: str
    key_id: str
    tenant: str | None = None
    parameters: dict[str, float] = {}


class AdapterRef(msgspec.Struct, frozen=True):
    """A LoRA adapter on disk. Other content has another version, so what is loaded or cached is never taken for it."""

    folder: str
    version: str


class Generate(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    request_id: str
    prompt: list[int]
    sampling: Sampling
    grammar: str | None = None  # fingerprint of a plan that an earlier LoadGrammar brought
    mark: Mark | None = None
    emitted: list[int] = []  # tokens already sent to the client: a resumed request goes on after them
    evidence: tuple[float, float] | None = None  # the last `Output.evidence` of those tokens
    tenant: str = ""  # salts prefix sharing and is the unit of fair queueing
    priority: int = 0  # higher first
    deadline_s: float | None = None  # seconds from arrival in the engine
    adapter: AdapterRef | None = None  # None: the model as it is
    jump: bool = False  # forced text is taken in its usual spelling, not drawn


class LoadGrammar(msgspec.Struct, frozen=True, tag=True):
    plan: Plan


class Abort(msgspec.Struct, frozen=True, tag=True):
    request_id: str


class Ping(msgspec.Struct, frozen=True, tag=True):
    nonce: int


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    drain_s: float


Command = Generate | LoadGrammar | Abort | Ping | Shutdown


class Alternative(msgspec.Struct, frozen=True, array_like=True):
    token_id: int
    logprob: float


class Token(msgspec.Struct, frozen=True, array_like=True):
    """One generated token. Log-probs are natural logarithms.

    `logprob`: log-softmax of the raw logits. `constrained_logprob`: the same logits under the grammar mask alone,
    renormalised (equal to `logprob` without a grammar). `legal_mass`: raw probability of that mask.
    """

    token_id: int
    logprob: float
    constrained_logprob: float
    legal_mass: float
    forced: bool = False  # exactly one token was legal
    eligible: bool = False  # the watermark scheme chose here and the detector will score it
    alternatives: list[Alternative] = []


class PromptToken(msgspec.Struct, frozen=True, array_like=True):
    token_id: int
    logprob: float | None  # None for the first
    alternatives: list[Alternative] = []


class MarkReport(msgspec.Struct, frozen=True, kw_only=True):
    applied: bool
    scheme: str | None = None
    key_id: str | None = None
    eligible: int = 0  # positions where the scheme chose
    reason: str | None = None  # why not applied
    expected_p: float | None = None  # the p-value the detector is expected to report


class Guessed(msgspec.Struct, frozen=True):
    """What one proposer's guesses at a request's tokens came to."""

    proposer: str
    proposed: int  # verified, true or not
    accepted: int


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    reason: FinishReason
    stop: bytes | int | None = None  # the stop string or stop token id that matched
    closed_by_budget: bool = False  # the token budget excluded tokens that the grammar alone allowed
    mark: MarkReport = MarkReport(applied=False)
    forced_tokens: int = 0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    cached_tokens: int = 0  # prompt tokens found in shared pages
    passes: int = 0  # forward passes that brought output tokens
    guessed: list[Guessed] = []  # by proposer
    jumped_tokens: int = 0  # taken without a draw, as the request allowed


class Output(msgspec.Struct, frozen=True, tag=True, kw_only=True, omit_defaults=True):
    """Tokens of one request, in order; `first` is the index of `tokens[0]` among all emitted, so that a gap or a repeat
    after a resumption would show. The end token itself is among `tokens` when the model drew one."""

    request_id: str
    first: int
    tokens: list[Token] = []
    prompt: list[PromptToken] | None = None  # once, with the first output, if prompt_logprobs was asked for
    evidence: tuple[float, float] | None = None  # of a marked request so far (`watermark.Embedder.evidence`)
    finish: Finish | None = None
    closed_by_budget: bool = False  # so far, as the next two: who goes on with the request elsewhere cannot see it
    guessed: list[Guessed] = []  # told whenever guesses were verified
    jumped_tokens: int = 0
    cached_tokens: int = 0  # as in `Finish`


class Failure(msgspec.Struct, frozen=True, tag=True):
    request_id: str
    code: ErrorCode
    message: str


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    model_type: str
    vocab_size: int  # the width of a logits row
    max_positions: int  # prompt and output together
    eos_token_ids: list[int]
    dtype: str
    quantize: str = ""  # how weights are held, by the name of the setting; empty: in `dtype`
    device: str
    page_size: int
    pages: int
    parameters: int
    weight_bytes: int = 0  # what a forward pass reads of the model, all experts counted
    token_bytes: int = 0  # keys and values of one token in all layers
    memory_bandwidth: float = 0.0  # bytes a second that the device reads, measured at start


class Ready(msgspec.Struct, frozen=True, tag=True):
    info: ModelInfo


class Spread(msgspec.Struct, frozen=True, array_like=True):
    """`engine.histogram.Histogram`'s numbers, without its bounds: those are the same on both sides."""

    counts: list[int]
    total: float


class Stats(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Sent a few times a second while stepping, and when idle as the sign of life."""

    nonce: int = 0  # of the Ping it answers, 0 if none
    engines: int = 1  # whose numbers these are, added up
    running: int = 0
    waiting: int = 0
    queued_tokens: int = 0  # of prompts, not computed yet; of those that wait and those whose turn it is
    pages_used: int = 0
    pages_total: int = 0
    steps: int = 0
    generated_tokens: int = 0
    prefill_tokens: int = 0
    preemptions: int = 0
    grammars: int = 0
    grammar_bytes: int = 0
    mask_s: float = 0.0  # cumulated seconds, as the next six
    forward_s: float = 0.0
    sample_s: float = 0.0
    schedule_s: float = 0.0
    conclude_s: float = 0.0
    publish_s: float = 0.0  # events encoded and handed to the socket
    mask_wait_s: float = 0.0  # of mask_s, what the forward pass did not hide (nothing where no thread fills masks)
    queue_s_p50: float = 0.0  # over the last minute
    decode_bytes: int = 0  # weights, keys and values that steps had to read in which all sequences decode
    decode_s: float = 0.0  # seconds of those steps, from the forward pass to the tokens
    batches: dict[str, Spread] = {}  # engine.step_times


class Fatal(msgspec.Struct, frozen=True, tag=True):
    """The engine cannot start or go on; the reason is for the operator."""

    message: str


class Batch(msgspec.Struct, frozen=True, tag=True):
    """All events of one engine step in one frame."""

    events: list[Output | Failure]


Event = Batch | Output | Failure | Ready | Stats | Fatal
