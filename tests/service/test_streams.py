"""Every dialect's stream: the text of the whole answer, no character split, nothing of a stop string."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.messages import Finish, FinishReason
from engine.stops import StopScanner
from tests.engine.scripted import ScriptedEngine, Step
from tests.service.houses import BYTES, EOS, info, served

pytestmark = pytest.mark.anyio
USER = [{"role": "user", "content": "x"}]
STOPS = ["END", "Eb", "€€"]


def told(text: str) -> Iterator[Any]:
    """The values of events, or of lines."""
    for line in text.splitlines():
        data = line.removeprefix("data:").strip() if line.startswith("data:") else line if line.startswith("{") else ""
        if data and data != "[DONE]":
            yield json.loads(data)


def chat(event: Any) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])


def gemini(event: Any) -> str:
    return "".join(part["text"] for candidate in event["candidates"] for part in candidate["content"]["parts"])


@dataclass(frozen=True)
class Dialect:
    """How it is asked, and what of an event, and of a whole answer, is text."""

    url: str
    body: dict[str, Any]
    delta: Callable[[Any], str]
    whole: Callable[[Any], str]
    stop: str = "stop"
    inside: str | None = None
    streamed: dict[str, Any] = field(default_factory=lambda: {"stream": True})
    stream_url: str | None = None
    keeps_stop: bool = False
    grows: bool = False  # each event has the text so far

    def asked(self, *, stream: bool) -> tuple[str, dict[str, Any]]:
        inner = {self.stop: STOPS}
        body = (
            {**self.body, self.inside: {**self.body.get(self.inside, {}), **inner}}
            if self.inside
            else self.body | inner
        )
        if not stream:
            return self.url, {**body, **({"stream": False} if self.url.startswith("/api") else {})}
        return self.stream_url or self.url, {**body, **self.streamed}


DIALECTS = {
    "chat": Dialect(
        "/v1/chat/completions", {"messages": USER}, chat, lambda reply: str(reply["choices"][0]["message"]["content"])
    ),
    "completions": Dialect(
        "/v1/completions",
        {"prompt": "x", "logprobs": 1},
        lambda event: str(event["choices"][0]["text"]),
        lambda reply: str(reply["choices"][0]["text"]),
    ),
    "messages": Dialect(
        "/v1/messages",
        {"messages": USER, "max_tokens": 99},
        lambda event: str(event["delta"].get("text", "")) if event["type"] == "content_block_delta" else "",
        lambda reply: "".join(block["text"] for block in reply["content"]),
        stop="stop_sequences",
    ),
    "gemini": Dialect(
        "/v1beta/models/tiny:generateContent",
        {"contents": [{"parts": [{"text": "x"}]}]},
        gemini,
        gemini,
        stop="stopSequences",
        inside="generationConfig",
        streamed={},
        stream_url="/v1beta/models/tiny:streamGenerateContent?alt=sse",
    ),
    "ollama": Dialect(
        "/api/chat",
        {"messages": USER},
        lambda event: str(event["message"]["content"]),
        lambda reply: str(reply["message"]["content"]),
        inside="options",
    ),
    "ollama-generate": Dialect(
        "/api/generate",
        {"prompt": "x"},
        lambda event: str(event["response"]),
        lambda reply: str(reply["response"]),
        inside="options",
    ),
    "llama.cpp": Dialect(
        "/completion", {"prompt": "x"}, lambda event: str(event["content"]), lambda reply: str(reply["content"])
    ),
    "sglang": Dialect(
        "/generate",
        {"text": "x"},
        lambda event: str(event["text"]),
        lambda reply: str(reply["text"]),
        inside="sampling_params",
        grows=True,
    ),
    "tgi": Dialect(
        "/generate",
        {"inputs": "x"},
        lambda event: "" if event["token"]["special"] else str(event["token"]["text"]),
        lambda reply: str(reply["generated_text"]),
        inside="parameters",
        stream_url="/generate_stream",
        streamed={},
        keeps_stop=True,
    ),
}


@dataclass
class Speaker:
    """Says a text as an engine would: in steps of any size, up to the token that completes a stop string."""

    text: str = ""
    sizes: random.Random = field(default_factory=lambda: random.Random(5))

    @property
    def cut(self) -> tuple[str, str]:
        """What a client may be shown, without the stop string and with it."""
        scanner = StopScanner([stop.encode() for stop in STOPS])
        hit = scanner.feed(self.text.encode())
        if hit is None:
            return self.text, self.text
        data = self.text.encode()
        return data[: hit.start].decode(), data[: hit.start + len(hit.stop)].decode()

    def script(self) -> list[Step]:
        kept = self.cut[1]
        hit = StopScanner([stop.encode() for stop in STOPS]).feed(kept.encode())
        tokens = BYTES.tokens(kept) + ([EOS] if hit is None else [])
        steps: list[Step] = []
        while tokens:
            size = self.sizes.randint(1, 5)
            steps.append(tokens[:size])
            tokens = tokens[size:]
        return [*steps, Finish(reason=FinishReason.STOP, stop=hit.stop) if hit else Finish(reason=FinishReason.EOS)]


def texts(count: int) -> list[str]:
    """Texts of characters of one to four bytes in which stop strings begin often and sometimes end."""
    draw = random.Random(3)
    return ["".join(draw.choices("abEND€ü😀", k=draw.randint(0, 14))) for _ in range(count)]


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
async def test_a_stream_joins_to_the_whole_text(tmp_path: Path, dialect: Dialect) -> None:
    speaker = Speaker()
    engine = ScriptedEngine(lambda _request, _plan: speaker.script(), info())
    async with served(tmp_path, engine) as (client, _):
        for text in texts(40):
            speaker.text = text
            wanted = speaker.cut[1] if dialect.keeps_stop else speaker.cut[0]
            url, body = dialect.asked(stream=False)
            answer = await client.post(url, json=body)
            url, body = dialect.asked(stream=True)
            stream = await client.post(url, json=body)
            assert (answer.status_code, stream.status_code) == (200, 200), answer.text + stream.text
            parts = [dialect.delta(each) for each in told(stream.text)]
            assert all("\ufffd" not in part for part in parts)
            assert dialect.whole(answer.json()) == wanted
            if dialect.grows:
                assert parts[-1] == wanted
                assert all(wanted.startswith(part) for part in parts)
            else:
                assert "".join(parts) == wanted


async def test_responses_stream_the_text_of_the_response(tmp_path: Path) -> None:
    """That API knows no stop strings."""
    speaker = Speaker()
    engine = ScriptedEngine(lambda _request, _plan: speaker.script(), info())
    async with served(tmp_path, engine) as (client, _):
        for text in texts(40):
            speaker.text = text.replace("E", "e").replace("€", "é")
            stream = await client.post("/v1/responses", json={"input": "x", "stream": True})
            events = list(told(stream.text))
            deltas = [each["delta"] for each in events if each["type"] == "response.output_text.delta"]
            assert "".join(deltas) == speaker.text
            assert events[-1]["response"]["output"][0]["content"][0]["text"] == speaker.text
            assert all("\ufffd" not in delta for delta in deltas)
