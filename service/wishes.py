"""Each dialect's request words into a `Wish`.

What it is for: the only place that knows, for example, that OpenAI's default temperature is 1 and TGI's is greedy. What
may not enter: running anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.messages import Sampling
from grammar.rules.families import Reasoning, markers
from schemas.base import FormworkRequest
from schemas.chat import ChatRequest, ResponseFormat, Sampler
from schemas.completions import CompletionRequest
from schemas.tgi import GenerateRequest
from service import constraints
from service.calling import MessageForm, message_form, thought_spelled
from service.chat import Conversation, message_text, plain_message, template_extras, with_schema, with_system
from service.compiling import check_size
from service.constraints import Constraint
from service.errors import InvalidBody, far_too_long
from service.evidence import Texts, quoting
from service.generation import Wish, fresh_seed
from service.house import House
from service.names import Names
from service.reasoning import thought_of
from service.tools import Toolbox, message_constraint, toolbox_of

MOST_TOKENS = 262_144  # of a text that is only looked at; as many may be sent as ids (schemas.completions)
_SPELLING = ("whitespace", "property_order", "formats")
_LONG_TEXT = 4000  # characters; tokenising more would hold up the event loop


async def of_chat(house: House, body: ChatRequest, tenant: str) -> Wish:
    """OpenAI's chat completion."""
    options = body.formwork or FormworkRequest()
    constraint = constraint_of(body, body.response_format, options, house.names, tenant)
    _check_chat(body)
    template = house.chat_template()
    toolbox = toolbox_of(body, house.call_form)
    if constraint is not None:
        check_size(constraint, house.settings.max_schema_bytes)  # before the template spells it out
    size = sum(len(message.model_dump_json()) for message in body.messages)
    size += len(constraint.source) if constraint else 0
    size += sum(len(constraints.as_text(tool.source)) for tool in toolbox.tools) if toolbox else 0
    prompt = await _off_loop(size, template.prompt, conversation_of(body, constraint, options, toolbox))
    budget = body.max_completion_tokens or body.max_tokens
    thought = thought_of(house.thought_form, body, prompt, house.tokenizer)
    limited = thought is not None and thought.limit is not None
    reasoning = thought.reasoning if thought is not None and not limited else None
    whole, form = _message(house, toolbox, reasoning, constraint, options)
    asked = ((index, message_text(each)) for index, each in enumerate(body.messages) if each.role == "user")
    texts = Texts(tuple(asked))
    return Wish(
        prompt=prompt,
        sampling=sampling_of(body, budget, top_logprobs=body.top_logprobs or 0),
        constraint=quoting(whole, texts),
        answer=constraint,
        texts=texts,
        characters=sum(len(message_text(message)) for message in body.messages),
        form=form,
        n=body.n or 1,
        watermark=options.watermark,
        options=options,
        tenant=tenant,
        keep_stop=bool(body.include_stop_str_in_output),
        toolbox=toolbox,
        limited=thought if limited else None,
        adapter=house.adapters.find(body.model),
        budget_param="max_completion_tokens" if body.max_completion_tokens else "max_tokens",
    )


def _message(
    house: House,
    toolbox: Toolbox | None,
    reasoning: Reasoning | None,
    answer: Constraint | None,
    options: FormworkRequest,
) -> tuple[Constraint | None, MessageForm | None]:
    """What holds the whole output, and how it is read; neither is needed for plain text."""
    family, tokenizer = house.call_form, house.tokenizer
    special = markers(tokenizer.special_tokens, tokenizer.eos_token_ids)
    if toolbox is None and not family.spelling.saying and (reasoning is None or answer is None):
        thought = thought_spelled(reasoning, special)
        return answer, MessageForm(thought) if thought is not None else None
    free = answer is None or (toolbox is not None and toolbox.must)
    names, custom = (toolbox.names, toolbox.custom) if toolbox is not None else ((), frozenset[str]())
    form = message_form(family.spelling, names, special, reasoning=reasoning, custom=custom, free=free)
    return message_constraint(family, toolbox, reasoning, answer, options), form


async def of_completion(house: House, body: CompletionRequest, tenant: str) -> list[Wish]:
    """OpenAI's text completion: one wish a prompt."""
    options = _of_a_text(body.formwork)
    _check_stream(body)
    prompts = await _prompts(house, body)
    count = max(body.best_of or 1, body.n or 1)
    if body.best_of is not None and body.best_of < (body.n or 1):
        raise InvalidBody("best_of is less than n", param="best_of")
    if body.stream and count > (body.n or 1):
        raise InvalidBody("best_of is not available on a stream", param="best_of")
    if count * len(prompts) > house.settings.max_n:
        raise InvalidBody(f"prompts times choices may be at most {house.settings.max_n}", param="prompt")
    constraint = constraint_of(body, body.response_format, options, house.names, tenant)
    sampling = sampling_of(body, body.max_tokens, top_logprobs=body.logprobs or 0)
    if body.echo and body.logprobs is not None:
        wanted = max(body.logprobs, body.prompt_logprobs or 0)
        sampling = msgspec.structs.replace(sampling, prompt_logprobs=wanted)
    texts = [Texts(((0, house.tokenizer.decode(prompt)),)) for prompt in prompts]
    return [
        Wish(
            prompt=prompt,
            sampling=sampling,
            constraint=quoting(constraint, text),
            texts=text,
            characters=len(text.parts[0][1]),
            n=count,
            watermark=options.watermark,
            options=options,
            tenant=tenant,
            keep_stop=bool(body.include_stop_str_in_output),
            prompt_param="prompt",
            adapter=house.adapters.find(body.model),
        )
        for prompt, text in zip(prompts, texts, strict=True)
    ]


async def _prompts(house: House, body: CompletionRequest) -> list[list[int]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [await encode_prompt(house, prompt, "prompt")]
    if prompt and isinstance(prompt[0], int):
        return [[token for token in prompt if isinstance(token, int)]]
    found = []
    for each in prompt:
        found.append(await encode_prompt(house, each, "prompt") if isinstance(each, str) else list(_ids(each)))
    return found


def _ids(value: object) -> list[int]:
    assert isinstance(value, list)
    return value


async def of_tgi(house: House, body: GenerateRequest, tenant: str) -> Wish:
    """TGI's generate: greedy unless something asks for drawing, end and stop text as TGI shows them."""
    asked, options = body.parameters, _of_a_text(body.formwork)
    if not body.inputs:
        raise InvalidBody("`inputs` cannot be empty", param="inputs")
    drawn = asked.do_sample or any(
        value is not None for value in (asked.temperature, asked.top_k, asked.top_p, asked.typical_p)
    )
    best_of = asked.best_of or 1
    if best_of > 1 and not drawn:
        raise InvalidBody("you must use sampling when `best_of` is > 1", param="parameters.best_of")
    if best_of > 1 and asked.seed is not None:
        raise InvalidBody("`seed` must not be set when `best_of` > 1", param="parameters.best_of")
    if asked.top_n_tokens is not None and asked.top_n_tokens > house.settings.max_top_n_tokens:
        most = house.settings.max_top_n_tokens
        given = f"`top_n_tokens` must be >= 0 and <= {most}. Given: {asked.top_n_tokens}"
        raise InvalidBody(given, param="parameters.top_n_tokens")
    adapter = house.adapters.find(asked.adapter_id)
    if adapter is None and asked.adapter_id is not None:
        known = ", ".join(house.adapters) or "none"
        raise InvalidBody(
            f"no adapter is named {asked.adapter_id[:200]!r}; known: {known[:1000]}", param="parameters.adapter_id"
        )
    named = _named(house.names, tenant, options)
    constraint = constraints.only_one([c for c in (constraints.of_tgi(asked.grammar, options), named) if c is not None])
    prompt = await encode_prompt(house, body.inputs, "inputs")
    sampling = Sampling(
        max_tokens=asked.max_new_tokens or 0,
        seed=asked.seed if asked.seed is not None else fresh_seed(),
        temperature=(asked.temperature or 1.0) if drawn else 0.0,
        top_k=asked.top_k,
        top_p=asked.top_p or 1.0,
        typical_p=asked.typical_p or 1.0,
        repetition_penalty=asked.repetition_penalty or 1.0,
        frequency_penalty=asked.frequency_penalty or 0.0,
        stop=tuple(stop.encode() for stop in asked.stop),
        top_logprobs=asked.top_n_tokens or 0,
        prompt_logprobs=0 if asked.decoder_input_details else None,
    )
    texts = Texts(((0, body.inputs),))
    return Wish(
        prompt=prompt[-asked.truncate :] if asked.truncate else prompt,
        sampling=sampling,
        constraint=quoting(constraint, texts),
        texts=texts,
        characters=len(body.inputs),
        n=best_of,
        watermark=True if asked.watermark else options.watermark,
        options=options,
        tenant=tenant,
        keep_stop=True,
        prompt_param="inputs",
        budget_param="parameters.max_new_tokens",
        adapter=adapter,
    )


def constraint_of(
    body: Sampler, format_: ResponseFormat | None, options: FormworkRequest, names: Names, tenant: str
) -> Constraint | None:
    """The one constraint of an OpenAI request, however it is spelled."""
    named = _named(names, tenant, options)
    found = (constraints.of_response_format(format_, options), constraints.of_spellings(body, options), named)
    return constraints.only_one([each for each in found if each is not None])


def _named(names: Names, tenant: str, options: FormworkRequest) -> Constraint | None:
    """The constraint that is used by its name, which was spelled when it was named."""
    if options.grammar is None:
        return None
    if again := next((name for name in _SPELLING if getattr(options, name) is not None), None):
        raise InvalidBody("a named constraint is spelled as it was named", param=f"formwork.{again}")
    return names.find(tenant, options.grammar)


def _of_a_text(options: FormworkRequest | None) -> FormworkRequest:
    """The options of a bare prompt; raises InvalidBody for those that mean something in a conversation only."""
    options = options or FormworkRequest()
    if options.events is not None:
        raise InvalidBody("values are told one by one on /v1/chat/completions", param="formwork.events")
    if options.schema_in_prompt:
        raise InvalidBody("a bare prompt is the whole prompt", param="formwork.schema_in_prompt")
    return options


def sampling_of(body: Sampler, budget: int | None, *, top_logprobs: int) -> Sampling:
    """OpenAI's sampling words with vLLM's additions."""
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return Sampling(
        max_tokens=budget or 0,
        seed=body.seed if body.seed is not None else fresh_seed(),
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=body.top_k if body.top_k and body.top_k > 0 else None,
        min_p=body.min_p or 0.0,
        typical_p=body.typical_p or 1.0,
        repetition_penalty=body.repetition_penalty or 1.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logit_bias=_logit_bias(body.logit_bias),
        min_tokens=body.min_tokens or 0,
        ignore_eos=body.ignore_eos or False,
        stop=tuple(text.encode() for text in stop),
        stop_token_ids=tuple(body.stop_token_ids or ()),
        top_logprobs=top_logprobs,
        prompt_logprobs=body.prompt_logprobs,
    )


def conversation_of(
    body: ChatRequest, constraint: Constraint | None, options: FormworkRequest, toolbox: Toolbox | None
) -> Conversation:
    """What the chat template is given."""
    messages: Sequence[Any] = [plain_message(message) for message in body.messages]
    schema = constraint.schema if constraint else None
    if body.tool_prompt and toolbox is not None:
        messages = with_system(messages, body.tool_prompt)
    if options.schema_in_prompt and schema is not None:
        messages = with_schema(messages, schema)
    more = template_extras(body.chat_template_kwargs)
    for name in ("reasoning_effort", "verbosity"):
        if (value := getattr(body, name)) is not None:
            more[name] = value
    tools = [tool.shown for tool in toolbox.tools] if toolbox else None
    return Conversation(messages, tools, response_format=_told_format(body, schema), more=more)


def chat_conversation(house: House, body: ChatRequest, tenant: str) -> Conversation:
    """A chat request's conversation by itself."""
    options = body.formwork or FormworkRequest()
    constraint = constraint_of(body, body.response_format, options, house.names, tenant)
    toolbox = toolbox_of(body, house.call_form)
    return conversation_of(body, constraint, options, toolbox)


async def encode(house: House, text: str, param: str, *, special: bool, add_bos: bool = False) -> list[int]:
    """A text's tokens; a long one off the event loop. Raises InvalidBody for more than are told or judged at once."""

    def run(text: str) -> list[int]:
        return house.tokenizer.encode(text, special=special, add_bos=add_bos)

    tokens = await _off_loop(len(text), run, text)
    if len(tokens) > MOST_TOKENS:
        raise InvalidBody(f"{len(tokens)} tokens; at most {MOST_TOKENS} are accepted", param=param)
    return tokens


async def spelled(house: House, conversation: Conversation) -> list[int]:
    """The tokens of a conversation as the model reads it, off the event loop."""
    return await asyncio.to_thread(house.chat_template().prompt, conversation)


async def encode_prompt(house: House, text: str, param: str) -> list[int]:
    """A raw prompt's tokens. Raises TooManyTokens early where it is far too long to be served."""

    def run(text: str) -> list[int]:
        if house.tokenizer.is_longer(text, house.context_length):
            raise far_too_long(house.context_length, param)
        return house.tokenizer.encode(text, special=True, add_bos=True)

    return await _off_loop(len(text), run, text)


async def _off_loop(size: int, function: Any, argument: Any) -> list[int]:
    if size < _LONG_TEXT:
        tokens: list[int] = function(argument)
        return tokens
    return list(await asyncio.to_thread(function, argument))


def _told_format(body: ChatRequest, schema: Any) -> dict[str, Any] | None:
    """The constraint as templates know it: OpenAI's response_format."""
    format_ = body.response_format
    if schema is None:
        return None
    if format_ is not None and format_.type == "json_object" and format_.schema_ is None and format_.value is None:
        return {"type": "json_object"}
    named = (format_.json_schema or format_.value) if format_ is not None and format_.type == "json_schema" else None
    name = named.name if named else "response"
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}


def _check_chat(body: ChatRequest) -> None:
    if body.max_tokens and body.max_completion_tokens and body.max_tokens != body.max_completion_tokens:
        raise InvalidBody("max_tokens and max_completion_tokens differ; send one", param="max_tokens")
    if body.top_logprobs and body.logprobs is False:
        raise InvalidBody("top_logprobs needs logprobs: true", param="top_logprobs")
    if body.formwork is not None and body.formwork.events is not None and not body.stream:
        raise InvalidBody("events come on a stream: send stream: true", param="formwork.events")
    for index, message in enumerate(body.messages):
        if message.content is None and message.role != "assistant":  # whose turn may be calls, or a refusal
            raise InvalidBody(f"a {message.role}'s message has content", param=f"messages.{index}.content")
    _check_stream(body)


def _check_stream(body: Sampler) -> None:
    options = body.stream_options
    if options is not None and not body.stream:
        raise InvalidBody("stream_options needs stream: true", param="stream_options")
    if options is not None and options.continuous_usage_stats:
        raise InvalidBody("not supported; use include_usage", param="stream_options.continuous_usage_stats")
    if body.stream and body.prompt_logprobs is not None:
        raise InvalidBody("they are told in whole answers only", param="prompt_logprobs")


def _logit_bias(bias: dict[str, float] | None) -> dict[int, float]:
    try:
        return {int(token): value for token, value in (bias or {}).items()}
    except ValueError:
        raise InvalidBody("keys are token ids, as strings", param="logit_bias") from None
