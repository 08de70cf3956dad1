"""Rows 30, 34, 36, 40 to 43, 47: what the engine and its rooms hold by themselves, without a server."""

from __future__ import annotations

import ast
import json
import os
import pickle
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import torch

from engine.messages import ErrorCode, Mark
from engine.model.errors import ModelError
from engine.model.loading import load_config, load_model
from engine.wire import client_side, engine_side
from tests.engine.houses import Answer, drive, house, note, request
from tests.engine.slots import SlotRunner
from tests.service.houses import saying, served

ROOMS = ("service", "engine", "grammar", "watermark", "schemas")


def modules() -> list[tuple[Path, ast.Module]]:
    files = [file for room in ROOMS for file in sorted(Path(room).rglob("*.py"))]
    assert len(files) > 100
    return [(file, ast.parse(file.read_text("utf-8"))) for file in files]


def test_30_when_pages_run_out_the_youngest_waits_and_everyone_ends_as_alone() -> None:
    wanted = [request(f"r{seed}", range(1, 12), seed=seed, temperature=1.0, max_tokens=30) for seed in range(6)]
    alone = {one.request_id: drive(house(), [one])[one.request_id].ids for one in wanted}
    small = house(SlotRunner(pages=14), max_sequences=6)
    together = drive(small, wanted)
    assert small.scheduler.preemptions > 0
    assert {name: answer.ids for name, answer in together.items()} == alone
    assert small.scheduler.pool.held == 0


def test_30_what_does_not_fit_even_alone_is_refused() -> None:
    small = house(SlotRunner(pages=4))
    answer = drive(small, [request(prompt=range(1, 60))])["r"]
    assert answer.failure is not None
    assert answer.failure.code is ErrorCode.CONTEXT_LENGTH


def test_47_a_long_prompt_does_not_make_others_wait() -> None:
    """While it is computed chunk by chunk, a decoding request gets its token in every step."""
    shared = house(SlotRunner(pages=100), max_batch_tokens=16)
    answers = {"short": Answer(), "long": Answer()}
    note(answers, shared.loop.generate(request("short", (1, 2), max_tokens=40, ignore_eos=True)))
    for _ in range(3):
        note(answers, shared.loop.step())
    note(
        answers,
        shared.loop.generate(request("long", [1 + index % 60 for index in range(150)], max_tokens=2, ignore_eos=True)),
    )
    steps = 0
    while not answers["long"].tokens:
        before = len(answers["short"].tokens)
        note(answers, shared.loop.step())
        steps += 1
        assert len(answers["short"].tokens) == before + 1
    assert steps >= 9


def test_43_log_probs_say_nothing_of_the_watermark() -> None:
    """They are the raw logits', whatever the mark chose; the mark is computed after them."""
    plain = request(seed=4, temperature=1.0, max_tokens=8, top_logprobs=5)
    marked = msgspec.structs.replace(plain, mark=Mark(scheme="gumbel", key_id="test"))
    first = drive(house(), [plain])["r"].tokens[0]
    second = drive(house(), [marked])["r"].tokens[0]
    assert first.alternatives == second.alternatives


def test_36_what_is_no_message_of_ours_is_dropped() -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (os.abort, ())

    secret = "s" * 32
    for wire in (engine_side(secret), client_side(secret)):
        for payload in (b"", b"\x00", os.urandom(512), pickle.dumps(Evil()), b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x81"):
            assert wire.message([secret.encode(), payload]) is None
            assert wire.message([b"wrong", payload]) is None
            assert wire.message([payload]) is None
        assert wire.message([]) is None
        assert wire.message([secret.encode(), b"\x80", b"\x80"]) is None


@pytest.mark.parametrize(
    "hostile",
    [
        {"auto_map": {"AutoModelForCausalLM": "evil.Model"}},
        {"_attn_implementation_internal": "someone/kernel"},
        {"_experts_implementation_internal": "someone/kernel"},
        {"text_config": {"auto_map": {"AutoConfig": "evil.Config"}}},
    ],
)
def test_40_a_model_that_brings_code_is_refused(tmp_path: Path, hostile: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **hostile}))
    (tmp_path / "evil.py").write_text("raise SystemExit('executed')")
    with pytest.raises(ModelError):
        load_config(str(tmp_path))


def test_40_weights_are_safetensors_inside_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    config = {
        "model_type": "llama",
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "vocab_size": 8,
    }
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 8}))
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_model(str(folder), load_config(str(folder)), torch.float32)
    (tmp_path / "secret").write_text("x")
    (folder / "model.safetensors").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError):
        load_config(str(folder))


def test_34_nothing_is_ever_unpickled() -> None:
    """Neither a cache nor a message nor a model: no room names what could do it."""
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "diskcache"}
    for file, tree in modules():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not forbidden & {name.partition(".")[0] for name in names}, file
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"torch.load", "eval", "exec", "pickle.loads", "numpy.load", "np.load"}, file


def test_41_deadlines_do_not_look_at_the_wall_clock() -> None:
    """It is read only where a moment is told to people: two files, and neither compares."""
    told = set()
    for file, tree in modules():
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in {"time.time", "datetime.now", "datetime.utcnow", "time.time_ns"}:
                told.add(file.as_posix())
    allowed = ("service/app.py", "service/chat.py", "service/routes/", "service/dialects/", "service/tracing.py")
    assert all(name.startswith(allowed) for name in told), told
    house_ = house()
    late = request("late", max_tokens=8)
    note({"late": Answer()}, house_.loop.generate(msgspec.structs.replace(late, deadline_s=5.0)))
    house_.clock.now = 4.9
    assert not [event for event in house_.loop.step() if getattr(event, "code", None)]


@pytest.mark.anyio
async def test_42_an_enforced_watermark_has_no_way_around(tmp_path: Path) -> None:
    """What opts out is refused; what cannot carry it is told as unmarked, never as marked."""
    message = {"messages": [{"role": "user", "content": "x"}]}
    async with served(tmp_path, saying("Hi"), watermark="enforce") as (client, engine):

        async def ask(path: str, body: dict[str, Any]) -> httpx.Response:
            return await client.post(path, json=body)

        off = {"formwork": {"watermark": False}}
        for path, body in (
            ("/v1/chat/completions", {**message, **off}),
            ("/v1/completions", {"prompt": "x", **off}),
            ("/generate", {"inputs": "x", **off}),
        ):
            assert (await ask(path, body)).status_code == 403, path
        for fields in ({"n": 3}, {"temperature": 0}, {"logit_bias": {"5": 100}}, {"top_k": 1}):
            engine.requests.clear()
            told = (await ask("/v1/chat/completions", {**message, **fields})).json()["formwork"]["watermark"]
            assert all(asked.mark is not None for asked, _ in engine.requests)
            assert told["applied"] is False  # the scripted engine marks nothing, and says so
        engine.requests.clear()
        assert (await ask("/generate", {"inputs": "x", "parameters": {"watermark": False}})).status_code == 200
        assert engine.requests[0][0].mark is not None


@pytest.mark.anyio
async def test_42_the_detector_counts_against_its_keys_limit(tmp_path: Path) -> None:
    async with served(tmp_path, [], api_keys="a", key_requests_per_minute=3) as (client, _):
        key = {"authorization": "Bearer a"}
        replies = [
            (await client.post("/v1/watermark/detect", json={"text": 5}, headers=key)).status_code for _ in range(5)
        ]
    assert replies == [400, 400, 400, 429, 429]
