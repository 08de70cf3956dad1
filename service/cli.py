"""The console script `formwork`.

What it is for: `serve`, `compile`, `detect`, `commonplaces`, `chat`, `bench`, `health`, `key`, each with `--help`. What
may not enter: the work itself. Flags of `serve` are made from the table of settings; TGI's and vLLM's names for some of
them work too.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import Any, get_args, get_origin

from engine.checkpoint import locate
from engine.tokenizer import Tokenizer
from grammar import (
    GrammarError,
    Vocabulary,
    compile_ebnf,
    compile_json_schema,
    compile_regex,
    compile_structural_tags,
    compile_substring,
)
from service.access import Scope, entry_of, make_key
from service.aliases import ALIASES, IDLE, IDLE_VARIABLES, REFUSED, REFUSED_VARIABLES, Alias
from service.detection import commonplaces_of_texts
from service.serving import run
from service.settings import PREFIX, Settings, SettingsError, load_settings
from watermark.picture import as_page, legend

_BENCHES = frozenset(
    {"serving", "grammar", "rules", "engine", "watermark", "fidelity", "overhead"}
    | {"quantization", "speculation", "soak", "overload", "fleet", "device", "ranks"}
)
_LISTS = {"served_model_name", "adapters", "api_keys", "cors_allow_origins", "speculate_with"}
_SECRETS = {"watermark_keys"}  # a command line is read by every user of the machine
_LOCAL = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status."""
    parser = argparse.ArgumentParser(prog="formwork", description="Structured output that always conforms.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _serve_parser(commands)
    _download_parser(commands)
    _compile_parser(commands)
    _detect_parser(commands)
    _commonplaces_parser(commands)
    _chat_parser(commands)
    _health_parser(commands)
    _key_parser(commands)
    bench = commands.add_parser("bench", help="measure", add_help=False)
    bench.set_defaults(run=_bench)
    options, rest = parser.parse_known_args(arguments)
    if options.command == "bench":
        return _bench(rest)
    if rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    try:
        status: int = options.run(options)
    except (SettingsError, GrammarError, OSError, ValueError) as error:
        sys.stderr.write(f"formwork {options.command}: {error}\n")
        return 2
    return status


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# serve


def _serve_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve a model over HTTP",
        description=f"Serve a model. Every flag is also an environment variable ({PREFIX}MAX_N for --max-n) and a line "
        "of the TOML file (max_n = 4). Names of TGI's and vLLM's stand beside ours.",
    )
    parser.add_argument("--config", metavar="FILE", help=f"settings in TOML; also {PREFIX}CONFIG")
    parser.add_argument("model_positional", nargs="?", metavar="MODEL", help="a local folder or a hub id")
    for name, field in Settings.model_fields.items():
        if name in _SECRETS:
            continue
        alias = ALIASES.get(name, Alias())
        flags = [f"--{flag}" for flag in (name.replace("_", "-"), *alias.flags)]
        text = f"{field.description} (default: {field.default!r})".replace("%", "%%")
        if field.annotation is bool:
            parser.add_argument(*flags, dest=name, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif get_origin(field.annotation) is not None:
            said = partial(_word, alias)
            parser.add_argument(*flags, dest=name, type=said, choices=get_args(field.annotation), help=text)
        elif name in _LISTS:
            parser.add_argument(*flags, dest=name, action=_Joined, metavar="X", help=text)
        else:
            parser.add_argument(*flags, dest=name, type=field.annotation, metavar="X", help=text)
    json_output = "log_format=json, by TGI's name"
    parser.add_argument("--json-output", dest="log_format", action="store_const", const="json", help=json_output)
    parser.add_argument("--sharded", choices=["true", "false"], default=None, help="TGI's; true needs --num-shard")
    eager = "cuda_graphs=0; the first is vLLM's name"
    parser.add_argument(
        "--enforce-eager", "--no-cuda-graphs", dest="cuda_graphs", action="store_const", const="0", help=eager
    )
    for name, reason in IDLE.items():
        parser.add_argument(f"--{name}", nargs="?", const="", default=None, help=f"accepted: {reason}", metavar="X")
    for name, reason in REFUSED.items():
        parser.add_argument(f"--{name}", action=_Refuse, nargs="?", help=argparse.SUPPRESS, const=reason)
    parser.set_defaults(run=_serve)


def _word(alias: Alias, value: str) -> str:
    """A value as our setting spells it."""
    return alias.words.get(value, value)


class _Joined(argparse.Action):
    """A flag for a comma-separated list: given again, it adds to it."""

    def __call__(self, _: Any, namespace: argparse.Namespace, values: Any, __: str | None = None) -> None:
        before = getattr(namespace, self.dest, None)
        setattr(namespace, self.dest, values if before is None else f"{before},{values}")


class _Refuse(argparse.Action):
    """Ends the command with the reason why a flag of another server is not one of this."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        parser.error(f"{self.option_strings[0]}: {self.const}")


def _serve(options: argparse.Namespace) -> int:
    flags = {name: getattr(options, name) for name in Settings.model_fields if name not in _SECRETS}
    given = {name: value for name, value in os.environ.items() if value not in {"", "false"}}
    for name in REFUSED_VARIABLES.keys() & given.keys():
        raise SettingsError(f"variable {name}: {REFUSED_VARIABLES[name]}")
    idle = {f"--{name}": why for name, why in IDLE.items() if getattr(options, name.replace("-", "_")) is not None}
    idle |= {name: why for name, why in IDLE_VARIABLES.items() if name in given}
    if options.model_positional is not None:
        if flags["model"] not in {None, options.model_positional}:
            raise SettingsError("the model is given twice")
        flags["model"] = options.model_positional
    settings = load_settings(flags, options.config)
    if (options.sharded or given.get("SHARDED")) == "true" and settings.tensor_parallel_size < 2:
        raise SettingsError("--sharded true (or SHARDED): say over how many devices with --num-shard")
    return run(settings, idle)


# download-weights


def _download_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "download-weights", help="fetch a model", description="Fetch a model from the hub, so that serve finds it."
    )
    parser.add_argument("model", help="a hub id")
    parser.add_argument("--revision", default=None)
    parser.set_defaults(run=_download)


def _download(options: argparse.Namespace) -> int:
    say(str(locate(options.model, options.revision)))
    return 0


# compile


def _compile_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "compile", help="explain a constraint", description="Compile and explain a constraint."
    )
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--schema", metavar="FILE", help="a JSON Schema; - is stdin")
    kind.add_argument("--regex", metavar="PATTERN")
    kind.add_argument("--grammar", metavar="FILE", help="a grammar in Lark or GBNF; - is stdin")
    kind.add_argument("--structural-tag", metavar="FILE", help="a structural tag; - is stdin")
    kind.add_argument("--substring", metavar="FILE", help="a text to quote from; - is stdin")
    parser.add_argument("--model", default=Settings.model_fields["model"].default, help="whose vocabulary")
    parser.add_argument("--whitespace", choices=["json", "spaced", "compact"], default="spaced")
    parser.add_argument("--property-order", choices=["schema", "any"], default="schema")
    parser.set_defaults(run=_compile)


def _compile(options: argparse.Namespace) -> int:
    tokenizer = Tokenizer.load(options.model)
    vocabulary = Vocabulary(tokenizer.vocabulary_bytes, tokenizer.eos_token_ids)
    spelling = {"whitespace": options.whitespace, "property_order": options.property_order}
    if options.regex is not None:
        grammar = compile_regex(options.regex, vocabulary)
    elif options.grammar is not None:
        grammar = compile_ebnf(_read(options.grammar), vocabulary, **spelling)
    elif options.structural_tag is not None:
        grammar = compile_structural_tags(_read(options.structural_tag), vocabulary, **spelling)
    elif options.substring is not None:
        grammar = compile_substring(_read(options.substring), vocabulary)
    else:
        grammar = compile_json_schema(json.loads(_read(options.schema)), vocabulary, **spelling)
    explanation: Any = grammar.explain()
    say(explanation if isinstance(explanation, str) else json.dumps(explanation, indent=2, ensure_ascii=False))
    say(f"least budget: {grammar.least_budget} tokens; {grammar.nbytes} bytes; fingerprint {grammar.fingerprint}")
    return 0


# detect, chat, health: clients of a running server


def _detect_parser(commands: Any) -> None:
    parser = commands.add_parser("detect", help="was this text made here?", description="Ask a server's detector.")
    parser.add_argument("file", help="the text, its last line break aside; - is stdin")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--schema", metavar="FILE", help="the JSON Schema that it was made under")
    kind.add_argument("--regex", metavar="PATTERN", help="the regular expression that it was made under")
    kind.add_argument("--grammar", metavar="FILE", help="the grammar (Lark or GBNF) that it was made under")
    kind.add_argument("--name", help="the name of the constraint that it was made under (/v1/grammars)")
    parser.add_argument(
        "--source", metavar="FILE", action="append", help="a text that its x-source strings were quoted from; repeat"
    )
    parser.add_argument("--token-ids", action="store_true", help="the file holds a JSON array of token ids")
    parser.add_argument("--key", metavar="ID", help="look for this key only")
    parser.add_argument("--background", metavar="FILE", help="unmarked texts of the same kind, a JSON array of strings")
    parser.add_argument("--scan", action="store_true", help="look for marked passages inside longer text too")
    parser.add_argument("--picture", choices=["ansi", "html"], help="show what the key says of each token")
    _server_flags(parser)
    parser.set_defaults(run=_detect)


def _detect(options: argparse.Namespace) -> int:
    with _post(options, "/v1/watermark/detect", _detect_body(options)) as response:
        answer = json.load(response)
    picture = answer.pop("picture", None)
    if options.picture == "html":  # a page is a page, and nothing else
        say(as_page(picture, _in_words(answer)).rstrip())
        return 0
    if picture is not None:
        say(f"{picture}\n\n{legend()}\n")
    say(json.dumps(answer, indent=2))
    sys.stderr.write(_in_words(answer) + "\n")
    return 0


def _in_words(answer: dict[str, Any]) -> str:
    """The detector's answer in a sentence."""
    verdict = "marked here" if answer["watermarked"] else "not shown to be marked here"
    passages = f"; {len(answer['passages'])} marked passages inside" if answer.get("passages") else ""
    return (
        f"{verdict}: p = {answer['p_value']:.2g} (10^{answer['log10_p_value']:.1f}; "
        f"threshold {answer['threshold']:g}), {answer['scored']} of {answer['tokens']} tokens scored "
        f"as {answer['reading']}, key {answer['key_id']}, scheme {answer['scheme']}{passages}"
    )


def _detect_body(options: argparse.Namespace) -> dict[str, Any]:
    text = _read(options.file)
    if not options.token_ids:
        text = text.removesuffix("\n")  # a file's own, which no constraint knows
    body: dict[str, Any] = {"token_ids": _parsed(text, options.file)} if options.token_ids else {"text": text}
    if options.schema:
        schema = _parsed(_read(options.schema), options.schema)
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "schema", "schema": schema}}
    elif options.regex:
        body["response_format"] = {"type": "regex", "value": options.regex}
    elif options.grammar:
        body["response_format"] = {"type": "grammar", "grammar": _read(options.grammar)}
    elif options.name:
        body["formwork"] = {"grammar": options.name}
    if options.source:
        body["source"] = [_read(path) for path in options.source]
    if options.background:
        body["background"] = _texts(options.background)
    given = {"key_id": options.key, "scan": options.scan or None, "picture": options.picture}
    return body | {name: value for name, value in given.items() if value is not None}


# commonplaces


def _commonplaces_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "commonplaces",
        help="what unmarked texts have in common",
        description="Count the phrases that many unmarked texts of a kind share, and write them as a file that "
        "serve --watermark-commonplaces reads: the detector then does not count them, and its p-values hold for every "
        "key on texts of this kind. A few hundred texts do; give each kind a file of its own: a phrase counts by its "
        "share in one of them.",
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="texts of one kind, a JSON array of strings; - is stdin"
    )
    parser.add_argument("--model", default=Settings.model_fields["model"].default, help="whose vocabulary")
    parser.set_defaults(run=_commonplaces)


def _commonplaces(options: argparse.Namespace) -> int:
    tokenizer = Tokenizer.load(options.model)
    each = (commonplaces_of_texts(_texts(path), tokenizer) for path in options.files)
    say(reduce(or_, each).to_json(tokenizer.fingerprint))
    return 0


def _texts(path: str) -> list[str]:
    texts = _parsed(_read(path), path)
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path}: expected a JSON array of strings")
    return texts


def _parsed(text: str, path: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def _chat_parser(commands: Any) -> None:
    parser = commands.add_parser("chat", help="talk to a server", description="Talk to a running server.")
    parser.add_argument("--schema", metavar="FILE", help="answers conform to this JSON Schema")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--max-tokens", type=int, default=256)
    _server_flags(parser)
    parser.set_defaults(run=_chat)


def _chat(options: argparse.Namespace) -> int:
    messages: list[dict[str, str]] = []
    body: dict[str, Any] = {"temperature": options.temperature, "max_tokens": options.max_tokens, "stream": True}
    if options.schema:
        schema = json.loads(Path(options.schema).read_text("utf-8"))
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "schema", "schema": schema}}
    for line in _prompts():
        messages.append({"role": "user", "content": line})
        answer = ""
        with _post(options, "/v1/chat/completions", {**body, "messages": messages}) as response:
            for piece in _pieces(response):
                answer += piece
                sys.stdout.write(piece)
                sys.stdout.flush()
        say("")
        messages.append({"role": "assistant", "content": answer})
    return 0


def _prompts() -> Iterator[str]:
    while True:
        sys.stderr.write("> ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _pieces(response: Any) -> Iterator[str]:
    """The text of a chat stream."""
    for line in response:
        data = line.removeprefix(b"data: ").strip()
        if line.startswith(b"data: ") and data != b"[DONE]":
            chunk = json.loads(data)
            if "error" in chunk:
                raise OSError(chunk["error"]["message"])
            for choice in chunk["choices"]:
                yield choice["delta"].get("content") or ""


def _health_parser(commands: Any) -> None:
    parser = commands.add_parser("health", help="is a server ready?", description="Exit status 0 iff it is ready.")
    _server_flags(parser)
    parser.set_defaults(run=_health)


def _health(options: argparse.Namespace) -> int:
    try:
        with urllib.request.urlopen(_base(options) + "/readyz", timeout=5) as response:
            return 0 if response.status == 200 else 1
    except OSError:
        return 1


# key


def _key_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "key",
        help="make an API key",
        description="Prints a new API key on stderr, once, and on stdout the entry for the file that --api-keys-file "
        "names: formwork key --name shop >> keys.toml. Only the key's hash is in it.",
    )
    parser.add_argument("--name", default="", help="for people")
    parser.add_argument(
        "--scope",
        action="append",
        choices=[str(scope) for scope in Scope],
        help="repeat for several; default: generate and detect",
    )
    parser.add_argument("--requests-at-once", type=int, help="default: the server's")
    parser.add_argument("--requests-per-minute", type=int, help="default: the server's")
    parser.set_defaults(run=_key)


def _key(options: argparse.Namespace) -> int:
    key = make_key()
    entry = {
        "name": options.name,
        "sha256": entry_of(key).sha256,
        "scopes": options.scope or ["generate", "detect"],
        "requests_at_once": options.requests_at_once,
        "requests_per_minute": options.requests_per_minute,
    }
    sys.stderr.write(key + "\n")
    say("[[key]]")
    for name, value in entry.items():
        if value is not None:
            say(f"{name} = {json.dumps(value)}")
    return 0


def _server_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help=f"default: from {PREFIX}HOST and {PREFIX}PORT")
    parser.add_argument("--api-key", default="")


def _base(options: argparse.Namespace) -> str:
    if options.url:
        return str(options.url).rstrip("/")
    settings = load_settings()
    return f"http://{_LOCAL.get(settings.host, settings.host)}:{settings.port}"


def _post(options: argparse.Namespace, path: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    if options.api_key:
        headers["Authorization"] = f"Bearer {options.api_key}"
    request = urllib.request.Request(_base(options) + path, json.dumps(body).encode(), headers)
    try:
        return urllib.request.urlopen(request, timeout=600)
    except urllib.error.HTTPError as error:
        raise OSError(_complaint(error.read().decode(errors="replace"))) from None
    except urllib.error.URLError as error:
        raise OSError(f"no answer from {_base(options)}: {error.reason}") from None


def _complaint(body: str) -> str:
    """The message of an error reply, and which part of the request it is about."""
    try:
        error = json.loads(body)["error"]
        return f"{error['message']} ({error['param']})" if error.get("param") else str(error["message"])
    except (ValueError, KeyError, TypeError):
        return body


def _read(path: str) -> str:
    return sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")


# bench


def _bench(arguments: Sequence[str]) -> int:
    usage = f"usage: formwork bench {{{','.join(sorted(_BENCHES))}}} [--help]"
    if not arguments or arguments[0] not in _BENCHES:
        say(usage)
        return 0 if arguments and arguments[0] in {"-h", "--help"} else 2
    try:
        module = importlib.import_module(f"benchmarks.{arguments[0]}")
    except ModuleNotFoundError as error:
        sys.stderr.write(f"formwork bench {arguments[0]}: {error}; pip install 'formwork[bench]'?\n")
        return 2
    status: int | None = module.main(list(arguments[1:]))
    return status or 0


if __name__ == "__main__":
    raise SystemExit(main())
