"""The texts of finite regular expressions: against Python's own matcher over all short texts, and at their limits."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grammar import GrammarError, GrammarTooLarge, UnsatisfiableConstraint, words_of

_ATOMS = st.sampled_from(["a", "b", "[ab]", "é", "(a|bb)", "a?", "(ab){1,2}"])


@given(st.lists(_ATOMS, min_size=1, max_size=4))
def test_the_list_is_what_matches(atoms: list[str]) -> None:
    """Every text of the alphabet that Python matches, and no other, in order and once."""
    pattern = "".join(atoms)
    texts = ("".join(letters) for size in range(9) for letters in itertools.product("ab", repeat=size))
    plain = {text for text in texts if re.fullmatch(pattern, text)}
    found = words_of(pattern, 1000)
    assert found == sorted(set(found), key=str.encode)
    assert {word for word in found if "é" not in word and len(word) < 9} == plain
    assert all(re.fullmatch(pattern, word) for word in found)


def test_what_cannot_be_listed_is_told_why() -> None:
    """No end, too many (counted, not tried), or none."""
    with pytest.raises(GrammarError, match="without end"):
        words_of("a*", 10)
    with pytest.raises(GrammarTooLarge, match="1099511627776 texts"):
        words_of("[abcd]{20}", 10)
    with pytest.raises(UnsatisfiableConstraint):
        words_of("a(?!b)b", 10)
