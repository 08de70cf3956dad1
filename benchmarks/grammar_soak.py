"""Does a grammar keep growing with what is generated? Random texts of one recursive schema, and the process's memory.

    formwork bench grammar --soak 1000000

Texts are drawn at random under the masks of a recursive schema, one after the other, each closed within its budget;
every tenth is long. Printed: resident memory after the warm-up and at the end, the most that the grammar kept, and how
often its automaton was made anew. The process must not grow once the grammar has met its limit for the first time.
"""

import json
import random
import resource
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.grammar_engines import END, load_tokenizer
from grammar import Grammar, Vocabulary, compile_json_schema, warm
from grammar.options import GrammarLimits

RECURSIVE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "kind": {"enum": ["leaf", "branch"]},
        "size": {"type": "number"},
        "children": {"type": "array", "items": {"$ref": "#"}},
        "next": {"$ref": "#"},
    },
    "additionalProperties": {"type": ["integer", "boolean", "string"], "maxLength": 40},
}


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def some_legal(row: npt.NDArray[np.int32], chooser: random.Random) -> list[int]:
    """Up to eight ids whose bits are set, from words of the row drawn at random."""
    words, found = np.flatnonzero(row), list[int]()
    for _ in range(8):
        at = int(words[chooser.randrange(len(words))])
        bits = int(row[at]) & 0xFFFFFFFF
        found.append(32 * at + chooser.choice([bit for bit in range(32) if bits >> bit & 1]))
    return found


def generate(grammar: Grammar, chooser: random.Random, tokens: int, row: npt.NDArray[np.int32]) -> int:
    """One random text of about so many tokens, then closed within what it needs; the number of tokens."""
    matcher, spelled, taken = grammar.matcher(), grammar.automaton.vocabulary.tokens, 0
    while not (matcher.is_accepting and taken):
        matcher.fill_mask(row, None if taken < tokens else matcher.tokens_to_finish)
        # Half of the draws are among short tokens: those that open and close what a text is made of.
        picked = some_legal(row, chooser)
        token = min(picked, key=lambda t: len(spelled[t])) if chooser.random() < 0.5 else picked[0]
        if not matcher.advance(token):
            raise AssertionError(f"token {token} was in the mask and was not taken")
        taken += 1
    json.loads(matcher.text)
    return taken


def soak(tokens: int, megabytes: int, seed: int) -> int:
    """Generate so many tokens under a limit on the grammar's bytes, and print."""
    tokenizer = load_tokenizer()
    vocabulary = Vocabulary(tokenizer.tokens, [END])
    warm(vocabulary)
    limits = GrammarLimits(bytes=megabytes << 20)
    grammar, chooser = compile_json_schema(RECURSIVE, vocabulary, limits=limits), random.Random(seed)
    row = np.zeros(vocabulary.words, np.int32)
    print(f"{tokens:,} tokens, limit {megabytes} MiB, seed {seed}")
    print("| tokens | resident, MiB | grammar, MiB | made anew | CPU, s |\n|--:|--:|--:|--:|--:|")
    taken = texts = anew = 0
    held, most, started, next_line = grammar.automaton, 0, time.process_time(), 0
    while taken < tokens:
        taken += generate(grammar, chooser, 3000 if texts % 10 == 9 else 200, row)
        texts += 1
        anew, held, most = anew + (grammar.automaton is not held), grammar.automaton, max(most, grammar.nbytes)
        if taken >= next_line:
            seconds = time.process_time() - started
            print(f"| {taken:,} | {resident() >> 20} | {grammar.nbytes >> 20} | {anew} | {seconds:.0f} |", flush=True)
            next_line += tokens // 10
    seconds = time.process_time() - started
    print(f"| {taken:,} | {resident() >> 20} | {grammar.nbytes >> 20} | {anew} | {seconds:.0f} |")
    print(f"the most that the grammar kept: {most >> 20} MiB; {texts} texts")
    return 0
