"""Other people's clients doing their ordinary work against a real server process.

They are in the extra `clients`; two that ask for older packages run in environments that their test makes. Each
test looks at what its client hands to its user, not at the wire.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from tests.service import outside
from tests.service.processes import Running, running
from tests.service.test_end_to_end import FORMAT, MESSAGES, PERSON, TEXT, WEATHER, valid

# What a client warns of at import is its own affair.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]
PARAMETERS = WEATHER["function"]["parameters"]


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=40)
    age: int = Field(ge=0, le=150)


def client_of(name: str) -> Any:
    """The client's module; without the extra there is nothing to test."""
    pytest.importorskip(name.partition(".")[0])
    return importlib.import_module(name)


@pytest.fixture(autouse=True)
def _nothing_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.setenv("OPENAI_API_KEY", "unused")


def test_anthropic(server: Running) -> None:
    client = client_of("anthropic").Anthropic(base_url=server.url, api_key="unused", max_retries=0, timeout=120)
    turns = [{"role": "user", "content": TEXT}]
    tool = {"name": "get_weather", "input_schema": PARAMETERS}
    asked = {"model": "default", "max_tokens": 96, "messages": turns}
    called = client.messages.create(**asked, tools=[tool], tool_choice={"type": "any"})
    assert called.stop_reason == "tool_use"
    for block in called.content:
        Draft202012Validator(PARAMETERS).validate(block.input)
    format_ = {"type": "json_schema", "schema": PERSON}
    shaped = client.messages.create(**asked, output_config={"format": format_})
    valid(shaped.content[0].text)
    with client.messages.stream(**asked, output_config={"format": format_}) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    valid(text)
    assert final.content[0].text == text
    assert final.usage.output_tokens > 0
    with client.messages.stream(**asked, tools=[tool], tool_choice={"type": "tool", "name": "get_weather"}) as stream:
        last = stream.get_final_message()
    Draft202012Validator(PARAMETERS).validate(last.content[0].input)
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
        for block in last.content
        if block.type == "tool_use"
    ]
    more = [*turns, {"role": "assistant", "content": last.content}, {"role": "user", "content": results}]
    assert client.messages.create(**{**asked, "messages": more}, tools=[tool]).role == "assistant"
    assert client.messages.count_tokens(model="default", messages=turns).input_tokens > 5


def test_anthropics_tool_runner(server: Running) -> None:
    """It begins by asking the server to hold the conversation, and does not mind that this one does not."""
    anthropic = client_of("anthropic")
    client = anthropic.Anthropic(base_url=server.url, api_key="unused", max_retries=0, timeout=120)
    asked: list[str] = []

    def get_weather(**arguments: Any) -> str:
        asked.append(json.dumps(arguments))
        return "sunny"

    tool = anthropic.beta_tool(get_weather, description="The weather in a city.", input_schema=PARAMETERS)
    turns = [{"role": "user", "content": "What is the weather in Porto?"}]
    runner = client.beta.messages.tool_runner(
        model="default", max_tokens=96, messages=turns, tools=[tool], tool_choice={"type": "any"}, max_iterations=2
    )
    ends = [message.stop_reason for message in runner]
    assert ends[0] == "tool_use"
    valid(asked[0], PARAMETERS)


def test_ollama(server: Running) -> None:
    client = client_of("ollama").Client(host=server.url)
    options = {"num_predict": 96, "temperature": 1.0}
    answer = client.chat(model="default", messages=MESSAGES, format=PERSON, options=options)
    valid(answer.message.content)
    parts = list(client.chat(model="default", messages=MESSAGES, format=PERSON, options=options, stream=True))
    valid("".join(part.message.content for part in parts))
    assert parts[-1].done_reason == "stop"
    generated = client.generate(model="default", prompt=TEXT, format="json", options=options)
    assert isinstance(json.loads(generated.response), dict)
    assert "formwork-mini" in [each.model for each in client.list().models]


def test_gemini(server: Running) -> None:
    options = {"base_url": server.url, "retry_options": {"attempts": 1}}
    client = client_of("google.genai").Client(api_key="unused", http_options=options)
    json_ = {"response_mime_type": "application/json", "max_output_tokens": 96}
    asked = {"model": "formwork-mini", "contents": TEXT}
    answer = client.models.generate_content(**asked, config={**json_, "response_schema": Person})
    assert isinstance(answer.parsed, Person)
    assert answer.candidates[0].finish_reason == "STOP"
    shaped = client.models.generate_content(**asked, config={**json_, "response_json_schema": PERSON})
    valid(shaped.text)
    parts = list(client.models.generate_content_stream(**asked, config={**json_, "response_schema": Person}))
    Person.model_validate_json("".join(part.text or "" for part in parts))
    assert parts[-1].usage_metadata.candidates_token_count > 0
    colours = {"type": "STRING", "enum": ["blue", "grey"]}
    named = {"response_mime_type": "text/x.enum", "response_schema": colours}
    assert client.models.generate_content(**asked, config=named).text in colours["enum"]
    weather = {"name": "get_weather", "parameters_json_schema": PARAMETERS}
    tools = {"tools": [{"function_declarations": [weather]}], "max_output_tokens": 96}
    forced = {**tools, "tool_config": {"function_calling_config": {"mode": "ANY"}}}
    called = client.models.generate_content(**asked, config=forced)
    (call, *_) = called.function_calls
    valid(json.dumps(call.args), PARAMETERS)
    types = client_of("google.genai.types")
    result = types.Part.from_function_response(name=call.name, response={"sky": "blue"})
    more = [TEXT, called.candidates[0].content, types.Content(role="user", parts=[result])]
    assert client.models.generate_content(model="formwork-mini", contents=more, config=tools).candidates
    assert client.models.count_tokens(**asked).total_tokens > 5
    older = client_of("google.genai").Client(api_key="unused", http_options={**options, "api_version": "v1beta"})
    assert "models/formwork-mini" in [each.name for each in older.models.list()]
    assert older.models.generate_content(**asked, config=named).text in colours["enum"]


def test_clients_take_heartbeats_for_what_they_are() -> None:
    """A server that is never silent for longer than a millisecond."""
    with running("--heartbeat-s", "0.001") as server:
        openai = client_of("openai").OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0)
        chat = openai.chat.completions.create(model="default", messages=MESSAGES, response_format=FORMAT, stream=True)
        valid("".join(chunk.choices[0].delta.content or "" for chunk in chat))
        anthropic = client_of("anthropic").Anthropic(base_url=server.url, api_key="unused", max_retries=0)
        format_ = {"format": {"type": "json_schema", "schema": PERSON}}
        asked = {"model": "default", "messages": MESSAGES, "max_tokens": 96, "output_config": format_}
        with anthropic.messages.stream(**asked) as stream:
            valid("".join(stream.text_stream))
        options = {"base_url": server.url, "retry_options": {"attempts": 1}}
        gemini = client_of("google.genai").Client(api_key="unused", http_options=options)
        config = {"response_mime_type": "application/json", "response_json_schema": PERSON}
        parts = gemini.models.generate_content_stream(model="default", contents=TEXT, config=config)
        valid("".join(part.text or "" for part in parts))
        hub = client_of("huggingface_hub").InferenceClient(server.url)
        grammar = {"type": "json", "value": PERSON}
        valid("".join(hub.text_generation(TEXT, grammar=grammar, max_new_tokens=96, stream=True)))


def test_langchain(server: Running) -> None:
    chat = client_of("langchain_openai").ChatOpenAI(
        base_url=f"{server.url}/v1", api_key="unused", model="default", max_tokens=96, max_retries=0
    )
    for method in ("json_schema", "function_calling"):
        person = chat.with_structured_output(Person, method=method).invoke(TEXT)
        assert isinstance(person, Person)
    called = chat.bind_tools([WEATHER], tool_choice="required").invoke(TEXT)
    Draft202012Validator(PARAMETERS).validate(called.tool_calls[0]["args"])
    streamed = list(chat.with_structured_output(Person, method="json_schema").stream(TEXT))
    assert isinstance(streamed[-1], Person)
    responses = client_of("langchain_openai").ChatOpenAI(
        base_url=f"{server.url}/v1", api_key="unused", model="default", use_responses_api=True, max_retries=0
    )
    assert isinstance(responses.with_structured_output(Person).invoke(TEXT), Person)


def test_pydantic_ai(server: Running) -> None:
    ai = client_of("pydantic_ai")
    models = client_of("pydantic_ai.models.openai")
    providers = client_of("pydantic_ai.providers.openai")
    provider = providers.OpenAIProvider(base_url=f"{server.url}/v1", api_key="unused")
    for kind in (models.OpenAIChatModel, models.OpenAIResponsesModel):
        model = kind("default", provider=provider)
        for output in (ai.ToolOutput(Person), ai.NativeOutput(Person)):
            agent = ai.Agent(model, output_type=output, model_settings={"max_tokens": 96})
            assert isinstance(agent.run_sync(TEXT).output, Person)


def test_litellm(server: Running) -> None:
    litellm = client_of("litellm")
    asked = {"model": "openai/default", "api_base": f"{server.url}/v1", "api_key": "unused", "messages": MESSAGES}
    answer = litellm.completion(**asked, response_format=FORMAT, max_tokens=96)
    valid(answer.choices[0].message.content)
    called = litellm.completion(**asked, tools=[WEATHER], tool_choice="required", max_tokens=96)
    valid(called.choices[0].message.tool_calls[0].function.arguments, PARAMETERS)
    parts = list(litellm.completion(**asked, response_format=FORMAT, max_tokens=96, stream=True))
    valid("".join(part.choices[0].delta.content or "" for part in parts))
    native = {"model": "ollama_chat/default", "api_base": server.url, "messages": MESSAGES}
    valid(litellm.completion(**native, response_format=FORMAT, max_tokens=96).choices[0].message.content)


@pytest.mark.parametrize(
    ("script", "requirement"),
    [("use_instructor", "instructor>=1.7"), ("use_text_generation", "text-generation>=0.7")],
)
def test_clients_that_need_an_environment_of_their_own(
    server: Running, pytestconfig: pytest.Config, script: str, requirement: str
) -> None:
    """They ask for older packages than ours do; the environment is kept for the next run."""
    python = environment(pytestconfig.cache, script, requirement)
    file = Path(outside.__file__).with_name(f"{script}.py")
    done = subprocess.run(
        [str(python), str(file), server.url], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def environment(cache: Any, name: str, requirement: str) -> Path:
    """The interpreter of a virtual environment that has what is required; made at first."""
    folder = Path(cache.mkdir("environments")) / f"{name}-{hashlib.sha256(requirement.encode()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
        installed = subprocess.run(command, check=False, capture_output=True, text=True)
        assert installed.returncode == 0, installed.stderr
        (folder / "ready").touch()
    return python
