"""No key is ever shown: tests that try, at every place that a stranger or an operator reads."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from service.app import engine_config
from service.marking import discard_key_file, make_marker
from service.settings import Settings, SettingsError, load_settings
from tests.service.houses import saying, served
from watermark import KeyRing, WatermarkError

SECRET = "c0ffee00deadbeef0123456789abcdef"
KEYS = f"first:{SECRET},second:{SECRET[::-1]}"


def shown(text: str) -> bool:
    """Whether eight digits in a row of either secret stand in the text, as hexadecimal or as Python prints bytes."""
    pieces = [whole[at : at + 8] for whole in (SECRET, SECRET[::-1]) for at in range(len(SECRET) - 7)]
    raw = [repr(bytes.fromhex(whole))[2:-1] for whole in (SECRET, SECRET[::-1])]
    return any(piece in text.lower() for piece in pieces) or any(piece in text for piece in raw)


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.set_level(logging.DEBUG)
    yield caplog
    assert not shown(caplog.text)


def test_the_trial_would_notice() -> None:
    assert shown(f"key {SECRET[3:12]}")
    assert shown(str({"secret": bytes.fromhex(SECRET)}))


@pytest.mark.anyio
async def test_replies_errors_metrics_and_logs(tmp_path: Path, everything_logged: pytest.LogCaptureFixture) -> None:
    message = [{"role": "user", "content": "x"}]
    asked: list[tuple[str, str, dict[str, Any] | None]] = [
        ("POST", "/v1/chat/completions", {"model": "tiny", "messages": message, "formwork": {}}),
        ("POST", "/v1/chat/completions", {"model": "tiny", "messages": message, "formwork": {"watermark": SECRET}}),
        ("POST", "/v1/watermark/detect", {"text": "a text", "key_id": "no such key"}),
        ("POST", "/v1/watermark/detect", {"text": "a text", "key_id": ["first"]}),
        ("POST", "/v1/watermark/detect", {}),
        *(("GET", path, None) for path in ("/metrics", "/info", "/v1/models", "/health", "/readyz", "/openapi.json")),
    ]
    async with served(tmp_path, saying("hello"), watermark_keys=KEYS) as (client, engine):
        for method, path, body in asked:
            response = await client.request(method, path, json=body)
            mirrored = response.text.replace(SECRET, "") if body and SECRET in json.dumps(body) else response.text
            assert not shown(mirrored), path
    assert engine.requests
    assert not shown(repr(engine.requests)), "what goes to the engine names a key and does not hold it"
    assert engine.requests[0][0].mark is not None
    assert engine.requests[0][0].mark.key_id == "first"


def test_settings_configuration_and_rings_print_names_only() -> None:
    settings = Settings(watermark_keys=KEYS)
    marker = make_marker("default", 1e-4, KEYS, "")
    try:
        config = engine_config(settings, Path("model"), marker.key_file)
        for thing in (settings, marker, marker.ring, *marker.ring.keys("tenant"), config, msgspec.json.encode(config)):
            assert not shown(repr(thing))
            assert not shown(str(thing))
        assert marker.key_file is not None
        assert Path(marker.key_file).stat().st_mode & 0o077 == 0, "the engine's file is its owner's alone"
    finally:
        discard_key_file(marker, "")
    assert not Path(marker.key_file).exists()


@pytest.mark.parametrize(
    "keys",
    [
        SECRET,
        f"first:{SECRET[:-1]}",
        f"first:{SECRET},first:{SECRET}",
        f"first:{SECRET[:10]}",
        f"first{SECRET}:zz",
        "::",
    ],
)
def test_a_wrong_variable_is_refused_without_its_secret(
    monkeypatch: pytest.MonkeyPatch, keys: str, everything_logged: pytest.LogCaptureFixture
) -> None:
    """Even where an id was forgotten, so that the secret stands where an id should."""
    monkeypatch.setenv("FORMWORK_WATERMARK_KEYS", keys)
    with pytest.raises((WatermarkError, SettingsError)) as caught:
        make_marker("default", 1e-4, load_settings().watermark_keys, "")
    told, error = "", cast("BaseException | None", caught.value)
    while error is not None:  # what a traceback would print
        told = f"{told} {error!r} {error}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert not shown(told.replace(f"first{SECRET}", "")), "an id is public, whatever it looks like"


def test_a_wrong_file_is_refused_without_its_secret(tmp_path: Path) -> None:
    for number, text in enumerate((f'[keys]\na = "{SECRET}', f'[keys]\na = "{SECRET}x"', f"{SECRET} = {SECRET}")):
        path = tmp_path / f"{number}.toml"
        path.write_text(text)
        with pytest.raises(WatermarkError) as caught:
            KeyRing.from_file(path)
        assert not shown(f"{caught.value!r}")
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
