"""The best reading is told, every try is paid for, and what everybody says is not counted."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.toy_language import ToyLanguage
from engine.tokenizer import Tokenizer
from service.cli import main
from service.detection import Reading, Readings, commonplaces_of, judged, leaving_out, pictured, told
from service.marking import SCHEMES, discard_key_file, make_marker, with_commonplaces
from tests.service.houses import make_tokenizer
from watermark import (
    CommonplacesError,
    Detector,
    Embedder,
    KeyRing,
    Kind,
    Position,
    Positions,
    UnknownKey,
    default_scheme,
)

RING = KeyRing({"new": bytes(range(32)), "old": bytes(range(1, 33))})
LANGUAGE = ToyLanguage()
THRESHOLD = 1e-4


def choices(positions: list[Position]) -> Reading:
    return Reading(np.arange(len(positions)), Positions.of(positions))


def written(length: int, seed: int, key_id: str | None = None, kind: Kind = Kind.VALUE) -> list[Position]:
    rng = np.random.default_rng(seed)
    embedder = None if key_id is None else Embedder(default_scheme(greedy=False), RING.key(key_id))
    return LANGUAGE.write(length, lambda: float(rng.random()), embedder, kind=kind)


def detector(*key_ids: str) -> Detector:
    return Detector(SCHEMES, [RING.key(key_id) for key_id in key_ids] or RING)


def spelled(count: int) -> list[bytes]:
    return [bytes([97 + place % 26]) for place in range(count)]


def test_the_reading_that_shows_most_is_told() -> None:
    """Scored as prose, the contexts of a value are the wrong ones."""
    marked = written(60, 1, "old")
    readings: Readings = {"text": choices(written(60, 2)), "json": choices(marked)}
    facts = told(judged(detector(), readings, None, scan=False, threshold=THRESHOLD), spelled(60), THRESHOLD)
    assert (facts["reading"], facts["scheme"], facts["key_id"]) == ("json", "gumbel", "old")
    assert facts["watermarked"]
    assert facts["eligible"] == 60
    assert len(facts["evidence"]) == 4


def test_every_reading_is_a_try() -> None:
    """Two readings, two keys and two schemes: p times eight."""
    marked = choices(written(60, 1, "old"))
    single = detector("old").score_each(marked.positions)[0]
    finding = judged(detector(), {"json": marked, "text": choices([])}, None, scan=False, threshold=THRESHOLD)
    assert finding.best.log_adjusted - single.log_p == pytest.approx(math.log(8))


def test_a_marked_passage_is_told_with_its_words() -> None:
    """Inside ten times as much text, where the whole is diluted."""
    text = [*written(600, 3, kind=Kind.PROSE), *written(60, 1, "new", kind=Kind.PROSE)]
    finding = judged(detector(), {"text": choices(text)}, None, scan=True, threshold=THRESHOLD)
    (passage,) = told(finding, spelled(len(text)), THRESHOLD)["passages"]
    assert abs(passage["first_token"] - 600) < 30
    assert passage["last_token"] > 640
    assert passage["text"] == b"".join(spelled(660)[passage["first_token"] : passage["last_token"] + 1]).decode()
    assert passage["key_id"] == "new"


def test_what_all_unmarked_texts_say_is_not_counted() -> None:
    """A phrase that the key happens to like is in every text, marked or not."""
    phrase = written(40, 5, "new")
    background: list[Readings] = [{"json": choices([*phrase, *written(10, 100 + n)])} for n in range(20)]
    text: Readings = {"json": choices([*phrase, *written(10, 7)])}
    without = judged(detector(), text, None, scan=False, threshold=THRESHOLD)
    against = judged(detector(), text, leaving_out(background, None), scan=False, threshold=THRESHOLD)
    assert without.best.adjusted < THRESHOLD < against.best.adjusted
    kept = judged(detector(), text, leaving_out([], commonplaces_of(background)), scan=False, threshold=THRESHOLD)
    assert kept.best == against.best
    assert leaving_out([], None) is None


def test_the_detectors_own_commonplaces_join_those_of_the_question() -> None:
    """Each list takes out what it holds."""
    one, other = written(30, 5, "new"), written(30, 6, "new")
    own = commonplaces_of([{"json": choices([*one, *written(10, 100 + n)])} for n in range(20)])
    background: list[Readings] = [{"json": choices([*other, *written(10, 200 + n)])} for n in range(20)]
    text: Readings = {"json": choices([*one, *other, *written(10, 7)])}
    finding = judged(detector(), text, leaving_out(background, own), scan=False, threshold=THRESHOLD)
    assert finding.best.scored <= 12


def test_commonplaces_are_counted_once_and_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`formwork commonplaces` writes the file that `--watermark-commonplaces` reads."""
    folder = make_tokenizer(tmp_path)
    texts = [json.dumps({"title": f"The quiet {word}"}) for word in ("river", "garden", "clock", "piano")]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    assert main(["commonplaces", str(tmp_path / "texts.json"), "--model", str(folder)]) == 0
    path = tmp_path / "counted.json"
    path.write_text(capsys.readouterr().out)
    tokenizer = Tokenizer.load(folder)
    marker = make_marker("default", THRESHOLD, "a:" + "00" * 32, "")
    own = with_commonplaces(marker, str(path), folder, tokenizer.fingerprint).commonplaces
    assert own is not None
    quiet = tokenizer.encode("quiet")
    assert own.holds(Position(quiet[2], tuple(quiet[:2]), Kind.VALUE)), "inside the value"
    assert not own.holds(Position(tokenizer.encode("o")[0], tuple(tokenizer.encode("pian"))[-2:], Kind.VALUE))
    with pytest.raises(CommonplacesError, match="another tokenizer"):
        with_commonplaces(marker, str(path), folder, "another")
    assert with_commonplaces(marker, "", folder, "any") == marker
    (folder / "commonplaces.json").write_text(path.read_text())
    assert with_commonplaces(marker, "", folder, tokenizer.fingerprint).commonplaces == own, "the model's own"
    assert with_commonplaces(marker, "off", folder, tokenizer.fingerprint) == marker
    discard_key_file(marker, "")


@pytest.mark.parametrize(
    ("content", "complaint"), [("[", "is not JSON"), ('{"a": 1}', "array of strings"), ("[]", "array")]
)
def test_texts_that_are_none_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, complaint: str
) -> None:
    """With the file's name, and status 2."""
    path = tmp_path / "texts.json"
    path.write_text(content)
    assert main(["commonplaces", str(path), "--model", str(make_tokenizer(tmp_path))]) == 2
    assert main(["detect", str(path), "--background", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.count(complaint) == 2
    assert told.count(str(path)) == 2


@pytest.mark.parametrize(("form", "start"), [("html", "<div"), ("ansi", "a")])
def test_the_picture_shows_every_token(form: str, start: str) -> None:
    """Forced ones too; half a character waits for its other half."""
    positions = written(30, 1, "new")
    finding = judged(
        detector(),
        {"json": Reading(np.arange(2, 2 + len(positions)), Positions.of(positions))},
        None,
        scan=False,
        threshold=THRESHOLD,
    )
    data = [b"a", b"b", *[b"<"] * 29, "é".encode()[:1], "é".encode()[1:]]
    picture = pictured(finding, data, form)  # type: ignore[arg-type]
    assert picture.startswith(start)
    assert "é" in picture
    assert "�" not in picture
    assert picture.count("&lt;" if form == "html" else "<") >= 29


def test_a_marker_looks_for_old_keys_and_refuses_unknown_ones(tmp_path: Path) -> None:
    """Rotation: what the old key marked is still found."""
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"active": "new", "keys": {"new": "00" * 32, "old": "11" * 32}}))
    marker = make_marker("default", THRESHOLD, "", str(keys))
    mark, reason = marker.mark(None, greedy=False, tenant="someone")
    assert mark is not None
    assert (mark.key_id, mark.tenant, reason) == ("new", "someone", None)
    embedder = Embedder(default_scheme(greedy=False), KeyRing.from_file(keys).key("old", "someone"))
    rng = np.random.default_rng(1)
    text = LANGUAGE.write(60, lambda: float(rng.random()), embedder, kind=Kind.VALUE)
    assert marker.detector("someone").score(text).key_id == "old"
    assert marker.detector("someone").score(text).adjusted < THRESHOLD
    assert marker.detector("someone else").score(text).adjusted > THRESHOLD
    with pytest.raises(UnknownKey):
        marker.detector(None, "none")


def test_keys_are_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """A command line is read by every user of the machine."""
    with pytest.raises(SystemExit):
        main(["serve", "--watermark-keys", "a:" + "00" * 32])
    assert "unknown arguments" in capsys.readouterr().err


ANSWER: dict[str, Any] = {
    **{"watermarked": True, "p_value": 2e-9, "log10_p_value": -8.7, "threshold": 1e-4, "reading": "json"},
    **{"scheme": "gumbel", "key_id": "new", "scored": 60, "tokens": 80},
}


@contextmanager
def answering(status: int, answer: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that says one thing; its address and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.parametrize(("form", "start"), [("html", "<!doctype html>"), ("ansi", "\x1b[30m"), (None, "{")])
def test_the_terminal_shows_answer_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str | None, start: str
) -> None:
    """HTML is a page of its own; in a terminal the picture has a legend, and a sentence says what was found."""
    path = tmp_path / "text"
    path.write_text("a text")
    picture = {"html": '<div class="wm">a text</div>', "ansi": "\x1b[30ma text\x1b[0m"}
    answer = ANSWER | ({"picture": picture[form]} if form else {})
    flags = ["--picture", form] if form else []
    with answering(200, answer) as (url, asked):
        assert main(["detect", str(path), "--url", url, "--name", "letters", "--source", str(path), *flags]) == 0
    assert asked[0]["text"] == "a text"
    assert asked[0]["source"] == ["a text"]
    assert asked[0]["formwork"] == {"grammar": "letters"}
    told = capsys.readouterr()
    assert told.out.startswith(start)
    assert "marked here: p = 2e-09 (10^-8.7; threshold 0.0001), 60 of 80 tokens" in told.out + told.err
    if form == "html":
        assert told.out.rstrip().endswith("</div>")
    else:
        assert json.loads(told.out[told.out.index("{") :]) == ANSWER


def test_what_is_wrong_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The server's message, no server, no file, no token ids."""
    path = tmp_path / "text"
    path.write_text("a text")
    refusal = {"error": {"message": "this text does not satisfy the constraint", "param": "text"}}
    with answering(400, refusal) as (url, _):
        assert main(["detect", str(path), "--url", url]) == 2
    assert capsys.readouterr().err == "formwork detect: this text does not satisfy the constraint (text)\n"
    for arguments, complaint in [
        ([str(path), "--url", "http://127.0.0.1:1"], "no answer from http://127.0.0.1:1"),
        ([str(tmp_path / "none")], "No such file"),
        ([str(path), "--token-ids"], f"{path} is not JSON"),
        ([str(path), "--schema", str(path)], f"{path} is not JSON"),
    ]:
        assert main(["detect", *arguments]) == 2
        assert complaint in capsys.readouterr().err
