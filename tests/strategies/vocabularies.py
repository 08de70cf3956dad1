"""Toy vocabularies whose tokens cross every border of a JSON text, and ways to cut a text into tokens."""

from random import Random

PIECES = [
    *('{"', '":', '": ', '": "', '", "', '","', '"}', '"]', "}}", "}]", "],", "},", "[[", "[]", "{}", '""', '"a"'),
    *('a":', '"b', 'b"', "ab", "aa", "aab", '{"a"', '{"a":', '"é"', "true", "fals", "null", "nul", "tru", "l,"),
    *(
        "12",
        "100",
        "1.",
        ".5",
        "0e",
        "e1",
        "-1",
        "1]",
        "2}",
        "0,",
        "1, ",
        " 1",
        "99",
        "000",
        "\n  ",
        "\n\t",
        "  ",
        " \n",
    ),
    *("\\u00", "\\u", '\\"', "\\\\", "u00", "61", "é", "éa", "😀", "D83D", "\\uDE00", ": [", ', "', ' "'),
]
BROKEN = [b"\xc3", b"\xa9\x61", b"\xf0\x9f", b"\x98\x80", b'\x80"', b"a\xc3", b"\xff"]
SPECIAL = [b"", b"", b""]  # two special ids and a padding id at the end


def byte_level() -> list[bytes]:
    """Special ids first, all 256 bytes, merges, some of them twice, padding at the end."""
    merged = [piece.encode() for piece in PIECES]
    return [b"", b"", *(bytes([byte]) for byte in range(256)), *merged, *BROKEN, b"a", b'{"', b"", b"", b""]


def sentence_pieces() -> list[bytes]:
    """Words with their blank, characters, then the byte-fallback tokens: most bytes have two ids."""
    words = [b" true", b" a", b"a b", b' "', b" {", b" [", b" 1", b" 12", b" null"]
    characters = [chr(code).encode() for code in range(0x20, 0x7F)] + ["é".encode(), "😀".encode()]
    return [b"", b"", b"", *(bytes([byte]) for byte in range(256)), *words, *characters]


def sparse() -> list[bytes]:
    """Forty tokens and no byte-fallback: much cannot be spelled, and dead ends lurk."""
    single = [c.encode() for c in '{}[]":, 0125-.ae\\ub\n']
    pieces = ['{"a"', '"b"', "true", "null", "false", '": ', "12", '""', '"a', 'b"', "}]", "\\u006", "1.5", "é"]
    return [b"", *single, *(piece.encode() for piece in pieces), b"\xc3", b""]


def cut(text: bytes, tokens: list[bytes], random: Random) -> list[int]:
    """Token ids that spell the text, each drawn among those that fit (every byte must be a token)."""
    ids, at = [], 0
    while at < len(text):
        fitting = [i for i, token in enumerate(tokens) if token and text.startswith(token, at)]
        ids.append(random.choice(fitting))
        at += len(tokens[ids[-1]])
    return ids
