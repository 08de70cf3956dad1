"""The command line: flags, help, and commands that need no server."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from service import cli
from service.aliases import REFUSED, REFUSED_VARIABLES
from service.cli import main
from service.settings import Settings


@pytest.mark.parametrize("command", ["", "serve", "compile", "detect", "chat", "health", "bench"])
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main([command, "--help"] if command else ["--help"])
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 0
    assert "formwork" in capsys.readouterr().out


def test_serve_takes_every_setting_as_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')} " in text for name in Settings.model_fields if name != "watermark_keys")
    assert "--watermark-keys" not in text, "a secret has no place on a command line"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What `serve` would have run with."""
    seen: list[Settings] = []

    def run(settings: Settings, _idle: dict[str, str]) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr(cli, "run", run)
    return seen


def test_flags_become_settings(served: list[Settings]) -> None:
    main(["serve", "some/model", "--port", "9", "--max-best-of", "3", "--no-prefix-sharing", "--watermark", "off"])
    (settings,) = served
    assert (settings.model, settings.port, settings.max_n) == ("some/model", 9, 3)
    assert (settings.prefix_sharing, settings.watermark) == (False, "off")


@pytest.mark.parametrize("value", [[], ["x"]])
@pytest.mark.parametrize("flag", REFUSED)
def test_a_flag_that_would_do_nothing_ends_the_command(
    flag: str, value: list[str], served: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason, and what to do instead."""
    with pytest.raises(SystemExit):
        main(["serve", f"--{flag}", *value])
    assert f"--{flag}: {REFUSED[flag]}" in capsys.readouterr().err
    assert not served


def test_tgis_flags_work_too(served: list[Settings]) -> None:
    main(["serve", "--model-id", "m", "--max-total-tokens", "100", "--hostname", "0.0.0.0"])
    assert (served[0].model, served[0].max_model_len, served[0].host) == ("m", 100, "0.0.0.0")


@pytest.mark.parametrize(
    "arguments",
    [["serve", "--port", "99999"], ["serve", "a", "--model", "b"], ["detect", "/no/such/file"]],
)
def test_what_is_wrong_is_told_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("formwork ")


def test_flags_of_other_servers_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Settings, dict[str, str]]] = []

    def run(settings: Settings, idle: dict[str, str]) -> int:
        seen.append((settings, idle))
        return 0

    monkeypatch.setattr("service.cli.run", run)
    tgi = ["--model-id", "a/b", "--num-shard", "1", "--max-input-tokens", "100", "--max-total-tokens", "200"]
    tgi += ["--max-batch-prefill-tokens", "64", "--max-batch-total-tokens", "4096", "--waiting-served-ratio", "1.2"]
    assert (
        main(["serve", *tgi, "--json-output", "--sharded", "true", "--num-shard", "2", "--cuda-memory-fraction", "0.5"])
        == 0
    )
    settings, idle = seen.pop()
    assert settings.tensor_parallel_size == 2
    assert (settings.model, settings.max_input_tokens, settings.max_model_len) == ("a/b", 100, 200)
    assert (settings.max_batch_tokens, settings.cache_tokens, settings.memory_fraction) == (64, 4096, 0.5)
    assert settings.log_format == "json"
    assert list(idle) == ["--waiting-served-ratio"]
    vllm = ["--max-num-seqs", "8", "--gpu-memory-utilization", "0.9", "--enable-auto-tool-choice"]
    assert main(["serve", "a/b", *vllm, "--tool-call-parser", "llama3_json"]) == 0
    settings, idle = seen.pop()
    assert (settings.max_sequences, settings.tool_call_parser) == (8, "llama3_json")
    assert list(idle) == ["--enable-auto-tool-choice"]


def test_tgis_variables_are_honoured_idle_with_a_reason_or_refused(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {
        "NUM_SHARD": "2", "SHARDED": "true", "CUDA_GRAPHS": "4,1,2", "JSON_OUTPUT": "true",
        "KV_CACHE_DTYPE": "fp8_e4m3fn", "OTLP_SERVICE_NAME": "a", "COMPUTE_TYPE": "cpu+a",
        "WAITING_SERVED_RATIO": "1.2", "NGROK": "false",
    }  # fmt: skip
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert main(["serve"]) == 0
    (settings,) = served
    assert (settings.tensor_parallel_size, settings.graph_sizes, settings.cache_dtype) == (2, (1, 2, 4), "fp8")
    assert (settings.log_format, settings.otlp_service_name, settings.compute_type) == ("json", "a", "cpu+a")
    monkeypatch.setenv("NUM_SHARD", "1")
    assert main(["serve"]) == 2
    assert "SHARDED" in capsys.readouterr().err


@pytest.mark.parametrize("name", REFUSED_VARIABLES)
def test_a_variable_that_would_do_nothing_ends_the_command(
    name: str, served: list[Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "1")
    assert main(["serve"]) == 2
    assert f"{name}: {REFUSED_VARIABLES[name]}" in capsys.readouterr().err
    assert not served


@pytest.mark.parametrize(
    ("flags", "sizes"),
    [
        ([], None),
        (["--cuda-graphs", "1,2,4,8"], (1, 2, 4, 8)),
        (["--cuda-graphs", "0"], ()),
        (["--cuda-graphs", "true"], None),
        (["--enforce-eager"], ()),
        (["--no-cuda-graphs"], ()),
    ],
)
def test_graphs_are_said_as_tgi_and_vllm_say_them(
    flags: list[str], sizes: tuple[int, ...] | None, served: list[Settings]
) -> None:
    assert main(["serve", *flags]) == 0
    assert served[0].graph_sizes == sizes


def test_a_list_may_be_said_flag_by_flag(served: list[Settings]) -> None:
    main(["serve", "--cors-allow-origin", "http://a", "--cors-allow-origin", "http://b"])
    assert served[0].origins == ["http://a", "http://b"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--num-shard", "0"], "tensor_parallel_size"),
        (["--sharded", "true"], "--num-shard"),
        (["--cuda-graphs", "some"], "auto"),
    ],
)
def test_what_cannot_be_is_refused_by_name(flags: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *flags]) == 2
    assert says in capsys.readouterr().err


def test_weights_are_fetched_ahead(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download-weights", "models/formwork-mini"]) == 0
    assert capsys.readouterr().out.strip().endswith("formwork-mini")


def test_an_unknown_flag_ends_the_start() -> None:
    with pytest.raises(SystemExit) as end:
        main(["serve", "--prot", "1"])
    assert end.value.code == 2


def test_health_is_1_where_nobody_listens() -> None:
    assert main(["health", "--url", "http://127.0.0.1:1"]) == 1


def test_bench_names_its_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "nothing"]) == 2
    assert "serving" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "text", "kind"),
    [
        ("--grammar", 'start: "a" start "b" | "c"\nidle: "d"', "ebnf"),
        ("--structural-tag", '{"type": "structural_tag", "format": {"type": "any_text"}}', "structural_tags"),
        ("--substring", "the cat sat", "substring"),
    ],
)
def test_compile_explains_every_kind_of_constraint(
    flag: str, text: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "constraint"
    file.write_text(text, encoding="utf-8")
    assert main(["compile", flag, str(file)]) == 0
    said = capsys.readouterr().out
    assert f'"kind": "{kind}"' in said
    assert ("'idle' is unreachable" in said) == (kind == "ebnf")


@pytest.mark.parametrize("name", sorted(cli._BENCHES))
def test_every_benchmark_that_is_offered_is_there(name: str) -> None:
    """Found, not run."""
    assert find_spec(f"benchmarks.{name}") is not None


class _Detector(BaseHTTPRequestHandler):
    """Answers every question, and keeps it."""

    asked: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()
        told = {"p_value": 1.0, "log10_p_value": 0.0, "threshold": 1e-4, "scored": 0, "tokens": 1}
        answer = {"watermarked": False, "reading": "text", "key_id": "k", "scheme": "gumbel", **told}
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: Any) -> None:
        pass


def test_the_line_break_that_ends_a_file_is_no_part_of_its_text(tmp_path: Path) -> None:
    """Editors and `echo` put one there, and under a constraint it would be illegal."""
    text = tmp_path / "text"
    with HTTPServer(("127.0.0.1", 0), _Detector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for content in ('{"a": 1}\n', '{"a": 1}', "one\n\n"):
            text.write_text(content)
            assert main(["detect", str(text), "--url", f"http://127.0.0.1:{server.server_port}"]) == 0
        server.shutdown()
    assert [body["text"] for body in _Detector.asked] == ['{"a": 1}', '{"a": 1}', "one\n"]
