"""A marked request is the same tokens whatever happens around it and to it, under every scheme."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from engine.messages import Generate, Mark
from engine.model import ModelRunner, RunnerConfig
from tests.engine.houses import Answer, House, drive, house, request
from tests.engine.model.families import VOCABULARY, build_family
from tests.engine.slots import SlotRunner
from tests.engine.test_constrained import GRAMMAR, constrained, made, text_of
from watermark import SCHEMES

PROMPT = [1 + place * place % 60 for place in range(41)]
SAID = 40
TEMPERATURES = {name: 0.0 if name.startswith(("kgw", "unigram")) else 0.9 for name in SCHEMES}


def marked(scheme: str, name: str = "marked") -> Generate:
    plain = request(name, PROMPT, max_tokens=SAID, temperature=TEMPERATURES[scheme], seed=4, ignore_eos=True)
    return msgspec.structs.replace(plain, mark=Mark(scheme=scheme, key_id="test", tenant="t"))


def alone(scheme: str) -> Answer:
    """In one piece: no neighbours, no sharing, no shortage."""
    roomy = house(SlotRunner(pages=256), sharing=False, max_batch_tokens=400)
    return drive(roomy, [marked(scheme)])["marked"]


def among_others(one: Generate) -> tuple[House, Answer]:
    """Prompts of all lengths beside it: marked, unmarked and greedy; they come and go before it ends."""
    others = [request(f"r{size}", range(1, 2 + size), max_tokens=3 + size, temperature=size % 2) for size in range(9)]
    others[2] = msgspec.structs.replace(others[2], mark=one.mark)
    crowded = house(SlotRunner(pages=256), max_sequences=10, max_batch_tokens=400)
    return crowded, drive(crowded, [*others[:5], one, *others[5:]])["marked"]


def in_chunks(one: Generate) -> tuple[House, Answer]:
    """Its prompt is computed five tokens at a time."""
    narrow = house(SlotRunner(pages=256), max_batch_tokens=5, sharing=False)
    answer = drive(narrow, [one])["marked"]
    assert narrow.loop.stats().steps >= len(PROMPT) / 5 + SAID - 1
    return narrow, answer


def over_cached_pages(one: Generate) -> tuple[House, Answer]:
    """The same prompt was computed before, for another key."""
    assert one.mark is not None
    shared = house(SlotRunner(pages=256), max_batch_tokens=400)
    other = msgspec.structs.replace(one.mark, tenant="someone else")
    drive(shared, [msgspec.structs.replace(one, request_id="before", mark=other)])
    answer = drive(shared, [one])["marked"]
    assert answer.finish is not None
    assert answer.finish.cached_tokens == len(PROMPT) - 1
    return shared, answer


def preempted(one: Generate) -> tuple[House, Answer]:
    """Out of pages, it gives its own back and is computed anew, again and again."""
    small = house(SlotRunner(pages=24), max_batch_tokens=60)
    urgent = [request(f"r{n}", [n + 2] * 9, max_tokens=30, temperature=1.0, ignore_eos=True) for n in range(3)]
    answer = drive(small, [one, *(msgspec.structs.replace(each, priority=-1) for each in urgent)])["marked"]
    assert small.scheduler.preemptions > 0
    return small, answer


@pytest.mark.parametrize("happens", [among_others, in_chunks, over_cached_pages, preempted])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_happens_around_a_marked_request_changes_nothing(
    scheme: str, happens: Callable[[Generate], tuple[House, Answer]]
) -> None:
    """Tokens, log-probs, and what the response says of its mark."""
    wanted = alone(scheme)
    assert wanted.finish is not None
    assert wanted.finish.mark.applied
    _, answer = happens(marked(scheme))
    assert answer.tokens == wanted.tokens
    assert answer.finish is not None
    assert answer.finish.mark == wanted.finish.mark


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_resumed_request_goes_on_under_its_mark(scheme: str) -> None:
    """The engine died; another is given what was said and what that promised. Tokens and report are the same."""
    wanted = alone(scheme)
    for cut in (1, 7, SAID - 1):
        again = msgspec.structs.replace(
            marked(scheme), emitted=wanted.ids[:cut], evidence=wanted.outputs[cut - 1].evidence
        )
        resumed = drive(house(SlotRunner(pages=256)), [again])["marked"]
        assert resumed.tokens == wanted.tokens[cut:]
        assert (resumed.finish and resumed.finish.mark) == (wanted.finish and wanted.finish.mark)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_guesses_change_nothing(scheme: str) -> None:
    """A deterministic draft: each position is chosen from its own prefix, the guess kept iff it is the choice."""
    one = constrained("marked", temperature=TEMPERATURES[scheme], seed=2)
    one = msgspec.structs.replace(one, mark=Mark(scheme=scheme, key_id="test"))
    plain, guessing = made(drafts=False), made()
    without, with_drafts = drive(plain, [one])["marked"], drive(guessing, [one])["marked"]
    assert GRAMMAR.fingerprint == one.grammar
    assert json.loads(text_of(without))
    assert without.tokens == with_drafts.tokens
    assert without.finish is not None
    assert with_drafts.finish is not None
    assert without.finish.mark == with_drafts.finish.mark
    assert with_drafts.finish.guessed, "something was guessed"


@pytest.mark.parametrize("scheme", ["gumbel", "kgw"])
def test_it_holds_with_a_model_and_its_cache(scheme: str, tmp_path: Path) -> None:
    """A tiny Llama on the CPU, whose rows do not depend on their batch: crowded, chunked, shared and short of pages."""
    build_family("llama").save_pretrained(tmp_path)
    prompt = [3 + token % (VOCABULARY - 3) for token in PROMPT]
    one = msgspec.structs.replace(marked(scheme), prompt=prompt)
    others = [
        request(f"r{size}", prompt[:size], max_tokens=60, temperature=1.0, ignore_eos=True) for size in (3, 17, 33)
    ]
    others = [msgspec.structs.replace(each, priority=-1) for each in others]

    def run(requests: list[Generate], pages: int, max_batch_tokens: int) -> tuple[House, Answer]:
        runner = ModelRunner(RunnerConfig(path=str(tmp_path), pages=pages, threads=1))
        it = house(runner, max_batch_tokens=max_batch_tokens)
        return it, drive(it, requests)["marked"]

    _, wanted = run([one], 12, 100)
    small, answer = run([one, *others], 9, 13)
    assert small.scheduler.preemptions > 0
    assert answer.ids == wanted.ids
    assert [token.logprob for token in answer.tokens] == pytest.approx([token.logprob for token in wanted.tokens])
