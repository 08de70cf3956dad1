"""A process that compiles constraints: `python -m service.compile_worker`, spoken to over its stdin and stdout.

What it is for: hostile schemas cost this process its life at worst. It limits its own CPU time per job and its address
space; the service limits the wall time and kills it. What may not enter: the network, files, state kept between jobs.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from engine.marking import FreeChoice, free_choices
from engine.reading import read
from grammar import (
    Grammar,
    GrammarError,
    GrammarTooLarge,
    Vocabulary,
    compile_choice,
    compile_ebnf,
    compile_json_schema,
    compile_regex,
    compile_structural_tags,
    compile_substring,
    compile_tools,
    load_grammar,
    warm,
    words_of,
)
from service.compile_protocol import (
    LENGTH,
    Answer,
    Choices,
    Compile,
    Compiled,
    Job,
    Listed,
    ListWords,
    Refused,
    Replay,
    Replayed,
    Setup,
    Warm,
    decode_task,
    frame,
)
from service.constraints import ConstraintKind

_BUILDERS: dict[str, Callable[..., Grammar]] = {
    ConstraintKind.JSON_SCHEMA: compile_json_schema,
    ConstraintKind.REGEX: compile_regex,
    ConstraintKind.CHOICE: compile_choice,
    ConstraintKind.EBNF: compile_ebnf,
    ConstraintKind.STRUCTURAL_TAGS: compile_structural_tags,
    ConstraintKind.SUBSTRING: compile_substring,
    ConstraintKind.TOOLS: compile_tools,
}


def main() -> None:
    """Answers jobs until stdin closes."""
    # Whatever prints by mistake must not reach the pipe of answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)


def serve(tasks: BinaryIO, answers: BinaryIO) -> None:
    """The loop of one worker."""
    setup = _read(tasks)
    if not isinstance(setup, Setup):
        raise SystemExit("the first frame must be Setup")
    vocabulary = Vocabulary(setup.tokens, setup.eos_token_ids, setup.special_tokens)
    warm(vocabulary)
    _limit_memory(setup.memory_bytes)
    _write(answers, Warm())
    while (job := _read(tasks)) is not None:
        assert not isinstance(job, Setup)
        _limit_cpu(setup.cpu_s)
        _write(answers, answer(job, vocabulary))


def answer(job: Job, vocabulary: Vocabulary) -> Answer:
    """The job's result; a refusal is a result too."""
    try:
        match job:
            case Replay():
                return _replayed(job, vocabulary)
            case ListWords():
                return Listed(words=words_of(job.regex, job.most))
            case Compile():
                return _compiled(job, vocabulary)
    except GrammarError as error:
        return Refused(
            error=type(error).__name__,
            message=error.message,
            pointer=error.pointer,
            keyword=error.keyword,
            reason=error.reason,
        )
    except (RecursionError, MemoryError) as error:
        return Refused(error=GrammarTooLarge.__name__, message=f"the constraint is too large ({type(error).__name__})")
    except Exception as error:  # the outermost guard of this process: a defect of ours, told as such
        return Refused(error="internal", message=f"{type(error).__name__}: {error}")


def _compiled(job: Compile, vocabulary: Vocabulary) -> Compiled:
    started = time.perf_counter()
    source: Any = json.loads(job.source)
    options: dict[str, Any] = json.loads(job.options)
    grammar = _BUILDERS[job.kind](source, vocabulary, **options)
    data = grammar.to_bytes()
    return Compiled(
        fingerprint=grammar.fingerprint,
        data=data,
        least_budget=grammar.least_budget,
        nbytes=len(data),
        compile_s=time.perf_counter() - started,
        explanation=grammar.explain(),
    )


def _replayed(job: Replay, vocabulary: Vocabulary) -> Replayed:
    if job.plan is None:
        ends = frozenset(vocabulary.eos_token_ids)
        tokens = list(itertools.takewhile(lambda token: token not in ends, job.tokens))
        special = frozenset(vocabulary.special_tokens.values())
        spelled = [b"" if token in special else vocabulary.tokens[token] for token in tokens]
        found = read(tokens, spelled, job.context)
        return Replayed(readings={name: _told(choices) for name, choices in found.items()})
    grammar = load_grammar(job.plan, vocabulary)
    choices = free_choices(grammar, job.tokens, vocabulary.eos_token_ids, job.context)
    return Replayed(readings={"constraint": _told(choices)}, illegal=_first_illegal(grammar, job.tokens))


def _told(choices: list[FreeChoice]) -> Choices:
    return Choices(
        np.array([choice.place for choice in choices], np.int32).tobytes(),
        np.array([len(choice.position.context) for choice in choices], np.uint8).tobytes(),
        np.array([choice.position.kind for choice in choices], np.uint8).tobytes(),
    )


def _first_illegal(grammar: Grammar, tokens: list[int]) -> int | None:
    matcher = grammar.matcher()
    return next((index for index, token in enumerate(tokens) if not matcher.advance(token)), None)


def _read(tasks: BinaryIO) -> Setup | Job | None:
    head = tasks.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    task: Setup | Job = decode_task(tasks.read(length))
    return task


def _write(answers: BinaryIO, message: Warm | Answer) -> None:
    answers.write(frame(message))
    answers.flush()


def _limit_memory(limit_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes if hard < 0 else min(limit_bytes, hard), hard))


def _limit_cpu(seconds: float) -> None:
    """The kernel ends the process when this job has used so much more CPU time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(usage.ru_utime + usage.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard < 0 else min(limit, hard), hard))


if __name__ == "__main__":
    main()
