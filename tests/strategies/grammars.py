"""Small context-free grammars over three letters, and their spellings."""

from hypothesis import strategies as st

from tests.oracles.context_free import ContextFree, Productions

ALPHABET = b"abc"
NAMES = ("start", "one", "two", "six")


def productions() -> st.SearchStrategy[Productions]:
    """Up to four rules; recursive, ambiguous, nullable and barren ones included."""
    letters = st.sampled_from([bytes([byte]) for byte in ALPHABET])
    return st.integers(1, len(NAMES)).flatmap(
        lambda count: st.fixed_dictionaries(
            {
                name: st.lists(
                    st.lists(st.one_of(letters, letters, st.sampled_from(NAMES[:count])), max_size=3),
                    min_size=1,
                    max_size=3,
                )
                for name in NAMES[:count]
            }
        )
    )


def lark(grammar: ContextFree) -> str:
    """In Lark's spelling."""
    return "\n".join(
        f"{name}: " + " | ".join(" ".join(_symbol(s) for s in symbols) for symbols in alternatives)
        for name, alternatives in grammar.productions.items()
    )


def gbnf(grammar: ContextFree) -> str:
    """In GBNF."""
    return "\n".join(
        f"{name} ::= " + " | ".join(" ".join(_symbol(s) for s in symbols) or '""' for symbols in alternatives)
        for name, alternatives in grammar.productions.items()
    )


def _symbol(symbol: bytes | str) -> str:
    return f'"{symbol.decode()}"' if isinstance(symbol, bytes) else symbol
