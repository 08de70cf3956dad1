"""The texts of a regular expression that has finitely many, one by one."""

from grammar.errors import GrammarError, GrammarTooLarge, UnsatisfiableConstraint
from grammar.lexical import DEAD, Dfa, compile_regex


def words_of(regex: str, most: int) -> list[str]:
    """All texts that the expression matches as a whole, in the order of their bytes.

    GrammarError if there is no end of them, GrammarTooLarge if there are more than `most`, UnsatisfiableConstraint if
    there are none. O(states × classes) before the first text is made.
    """
    language = compile_regex(regex)
    if language.is_empty:
        raise UnsatisfiableConstraint("no text matches this regular expression", keyword="regex")
    if not language.is_finite:
        raise GrammarError("this regular expression matches texts without end", keyword="regex")
    count = _counted(language)
    if count > most:
        raise GrammarTooLarge(
            f"this regular expression matches {count} texts; at most {most} are listed", keyword="regex"
        )
    return _listed(language)


def _counted(language: Dfa) -> int:
    """How many words there are: each state's are its own end and those of the states behind it."""
    known: dict[int, int] = {}
    todo = [language.start]
    while todo:
        state = todo[-1]
        behind = [language.step(state, byte) for byte in range(256)]
        unknown = {target for target in behind if target != DEAD} - known.keys()
        if unknown:
            todo += sorted(unknown)
        else:
            known[state] = int(language.accepting[state]) + sum(known[target] for target in behind if target != DEAD)
            todo.pop()
    return known[language.start]


def _listed(language: Dfa) -> list[str]:
    found: list[str] = []
    todo = [(language.start, b"")]
    while todo:
        state, word = todo.pop()
        if language.accepting[state]:
            found.append(word.decode())
        steps = ((byte, language.step(state, byte)) for byte in range(255, -1, -1))
        todo += [(target, word + bytes([byte])) for byte, target in steps if target != DEAD]
    return found
