"""Which bytes may come next in a JSON text under a schema: the slow, obvious reference for masks.

A reader is a set of threads, each one way to read the text so far; a thread is a stack of half-read values and only
exists while it can be finished. Where the text may be read in two ways, there are two threads. So a text is a viable
prefix iff a thread is left, and complete iff a thread has closed the root value. Assumed beside JSON Schema itself: no
duplicate keys, no lone surrogates, numbers judged by value in any spelling (`frugal`: see json_numbers.py), except that
what must be an integer has neither point nor exponent where whitespace is not "json".
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any

from tests.oracles import regular
from tests.oracles.json_containers import Array, Meaning, Object, example
from tests.oracles.json_numbers import NumberRule
from tests.oracles.json_schemas import KINDS, Branch, Goal, booleans, number_rule, string_language
from tests.oracles.regular import Language

Whitespace = str  # "json", "spaced" or "compact"
ESCAPES = {ord(k): ord(v) for k, v in zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True)}


class Phase(Enum):
    """Where in a container the text stands."""

    FIRST = "after the opening bracket"
    NEXT = "after a comma"
    COLON = "after a key"
    VALUE = "after a colon"
    AFTER = "after a value"


@dataclass(frozen=True, slots=True)
class Gap:
    """Whitespace read so far: nothing, one blank, or a newline and so many blanks."""

    blank: bool = False
    indent: int | None = None

    def take(self, byte: int, style: Whitespace, phase: Phase, limit: int) -> "Gap | None":
        if style == "compact" or (style == "spaced" and phase not in (Phase.NEXT, Phase.VALUE)):
            return None
        if self.indent is not None:
            return Gap(indent=self.indent + 1) if byte in b" \t" and self.indent < limit else None
        if self.blank or byte not in b" \n" or (style == "spaced" and byte != 0x20):
            return None
        return Gap(blank=True) if byte == 0x20 else Gap(indent=0)

    def done(self, style: Whitespace, phase: Phase) -> bool:
        return style != "spaced" or phase not in (Phase.NEXT, Phase.VALUE) or self.blank


@dataclass(frozen=True, slots=True)
class Root:
    """Before the value."""

    goal: Goal


@dataclass(frozen=True, slots=True)
class Word:
    """Inside true, false or null."""

    rest: bytes


@dataclass(frozen=True, slots=True)
class Number:
    """Inside a number."""

    rule: NumberRule
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """Inside a string: what may still come, and the bytes of an unfinished character. Keys collect their text."""

    language: Language
    pending: bytes = b""
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Items:
    """Inside an array, between its items."""

    array: Array
    phase: Phase = Phase.FIRST
    gap: Gap = Gap()


@dataclass(frozen=True, slots=True)
class Members:
    """Inside an object, between its parts; `goal` is what the value under way must meet."""

    object: Object
    phase: Phase = Phase.FIRST
    gap: Gap = Gap()
    goal: Goal = frozenset()


Frame = Root | Word | Number | Text | Items | Members
Thread = tuple[Frame, ...]  # the innermost last; () is a finished value
Threads = frozenset[Thread]


class Reference:
    """The reference for one schema and one way to write it."""

    def __init__(
        self,
        schema: Any,
        *,
        whitespace: Whitespace = "json",
        property_order: str = "any",
        max_whitespace: int = 64,
        frugal: bool = False,
    ) -> None:
        self.reading = Meaning(schema)
        self.whitespace, self.max_whitespace = whitespace, max_whitespace
        self.frugal = frugal
        self.ordered = property_order == "schema"
        self.known: dict[tuple[Threads, int], Threads] = {}

    @cached_property
    def start(self) -> Threads:
        """Before the first byte; empty if nothing satisfies the schema."""
        goal = self.reading.goal
        return frozenset({(Root(goal),)}) if self.reading.possible(goal) else frozenset()

    def step(self, threads: Threads, byte: int) -> Threads:
        """After one more byte."""
        key = (threads, byte)
        if key not in self.known:
            self.known[key] = frozenset(new for thread in threads for new in self.thread(thread, byte))
        return self.known[key]

    def feed(self, threads: Threads, text: bytes) -> Threads:
        """After more bytes."""
        for byte in text:
            threads = self.step(threads, byte)
        return threads

    def accepting(self, threads: Threads) -> bool:
        """Is the text so far a whole valid value?"""
        return any(not thread or (len(thread) == 1 and finished(thread[0])) for thread in threads)

    def viable(self, text: bytes) -> bool:
        """Can this text be completed?"""
        return bool(self.feed(self.start, text))

    def complete(self, text: bytes) -> bool:
        """Is this text a valid value?"""
        return self.accepting(self.feed(self.start, text))

    def mask(self, threads: Threads, tokens: Iterable[bytes]) -> set[int]:
        """The token ids that may come next, end tokens aside: every token tried."""
        return {i for i, token in enumerate(tokens) if token and self.feed(threads, token)}

    # ------------------------------------------------------------ one thread

    def thread(self, thread: Thread, byte: int) -> Iterator[Thread]:
        if not thread:
            return
        *outer, frame = thread
        below = tuple(outer)
        match frame:
            case Root(goal):
                yield from self.value(goal, byte, ())
            case Word(rest):
                if rest[0] == byte:
                    yield (*below, Word(rest[1:])) if rest[1:] else below
            case Number(rule, text):
                yield from self.number(rule, text, byte, below)
            case Text():
                yield from self.text(frame, byte, below)
            case Items():
                yield from self.items(frame, byte, below)
            case Members():
                yield from self.members(frame, byte, below)

    def value(self, goal: Goal, byte: int, below: Thread) -> Iterator[Thread]:
        """The first byte of a value."""
        for kind in KINDS:
            branches = list(self.reading.branches(goal, kind))
            whole = all(any(atom[0] == "integer" for atom in branch) for branch in branches)
            for branch in branches:
                for frame in self.opened(goal, kind, branch, byte, whole=whole):
                    yield (*below, frame)

    def opened(self, goal: Goal, kind: str, branch: Branch, byte: int, *, whole: bool) -> Iterator[Frame]:
        match kind, chr(byte):
            case "null", "n":
                yield Word(b"ull")
            case "boolean", "t" | "f":
                yield from truth(branch, byte)
            case "number", "-" | "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9":
                rule = number_rule(branch, frugal=self.frugal, plain=whole and self.whitespace != "json")
                if rule.viable(chr(byte)):
                    yield Number(rule, chr(byte))
            case "string", '"':
                language = string_language(branch)
                if regular.possible(language):
                    yield Text(language)
            case ("array", "[") | ("object", "{"):
                yield from self.container(goal, branch, byte)

    def container(self, goal: Goal, branch: Branch, byte: int) -> Iterator[Frame]:
        possible = self.reading.possible
        if byte == ord("["):
            array = Array.start(branch)
            if array.completable(possible):
                yield Items(array)
            return
        members = Object.start(branch, self.order(goal) if self.ordered else None)
        if members.completable(self.reading, possible):
            yield Members(members)

    def number(self, rule: NumberRule, text: str, byte: int, below: Thread) -> Iterator[Thread]:
        longer = text + chr(byte)
        if byte < 0x80 and rule.viable(longer):
            yield (*below, Number(rule, longer))
        if below and rule.complete(text):
            yield from self.thread(below, byte)

    def text(self, frame: Text, byte: int, below: Thread) -> Iterator[Thread]:
        if byte == ord('"') and not frame.pending:
            if regular.nullable(regular.after(frame.language, regular.END)):
                yield from self.closed(frame, below)
            return
        pending = frame.pending + bytes([byte])
        char = decoded(pending)
        if char is not None:
            language = regular.after(frame.language, char)
            if regular.possible(language):
                key = None if frame.key is None else frame.key + chr(char)
                yield (*below, Text(language, b"", key))
        elif any(regular.possible_within(frame.language, low, high) for low, high in reachable(pending)):
            yield (*below, replace(frame, pending=pending))

    def closed(self, frame: Text, below: Thread) -> Iterator[Thread]:
        """After a closing quote; the object beneath a key learns it, and must be able to go on with it."""
        if frame.key is None:
            yield below
            return
        *outer, members = below
        assert isinstance(members, Members)
        grown = members.object.with_key(frame.key)
        if grown.completable(self.reading, self.reading.possible):
            yield (*outer, replace(members, object=grown, phase=Phase.COLON, gap=Gap()))

    def items(self, frame: Items, byte: int, below: Thread) -> Iterator[Thread]:
        gap = frame.gap.take(byte, self.whitespace, frame.phase, self.max_whitespace)
        if gap is not None:
            yield (*below, replace(frame, gap=gap))
        if not frame.gap.done(self.whitespace, frame.phase):
            return
        array, possible = frame.array, self.reading.possible
        if byte == ord("]") and frame.phase != Phase.NEXT and array.closable():
            yield below
        usable = [(goal, new) for goal, new in array.items(possible) if new.completable(possible)]
        if frame.phase == Phase.AFTER:
            if byte == ord(",") and usable:
                yield (*below, Items(array, Phase.NEXT))
            return
        for goal, follower in usable:
            yield from self.value(goal, byte, (*below, Items(follower, Phase.AFTER)))

    def members(self, frame: Members, byte: int, below: Thread) -> Iterator[Thread]:
        gap = frame.gap.take(byte, self.whitespace, frame.phase, self.max_whitespace)
        if gap is not None:
            yield (*below, replace(frame, gap=gap))
        if not frame.gap.done(self.whitespace, frame.phase):
            return
        match frame.phase, chr(byte):
            case Phase.FIRST | Phase.AFTER, "}" if frame.object.closable():
                yield below
            case Phase.AFTER, "," if any(self.keys(frame.object)):
                yield (*below, replace(frame, phase=Phase.NEXT, gap=Gap()))
            case Phase.FIRST | Phase.NEXT, '"':
                for follower, goal, texts in self.keys(frame.object):
                    yield (*below, Members(follower, Phase.NEXT, Gap(), goal), Text(texts, b"", ""))
            case Phase.COLON, ":":
                yield (*below, replace(frame, phase=Phase.VALUE, gap=Gap()))
            case Phase.VALUE, _:
                yield from self.value(frame.goal, byte, (*below, Members(frame.object, Phase.AFTER)))

    def keys(self, members: Object) -> Iterator[tuple[Object, Goal, Language]]:
        """Keys after which the object can still be finished."""
        possible = self.reading.possible
        for texts, goal, follower, key in members.keys(self.reading, possible):
            sample = example(texts) if key.name is None else key.name
            if follower.with_key(sample).completable(self.reading, possible):
                yield follower, goal, texts

    # ------------------------------------------------------------ property order

    def order(self, goal: Goal) -> tuple[str, ...] | None:
        """Named properties in order of appearance, then other required names; None (any order) for constants."""
        schemas = [self.reading.nodes[node] for node, _ in sorted(goal)]
        constants = {id(schema) for schema in self.reading.constants.values()}
        if any(isinstance(s, dict) and (id(s) in constants or "const" in s or "enum" in s) for s in schemas):
            return None
        names: dict[str, None] = {}
        for collect in (self.named, self.demanded):
            for schema in schemas:
                names.update(dict.fromkeys(collect(schema, frozenset())))
        return tuple(names)

    def applied(self, schema: dict[str, Any]) -> Iterator[Any]:
        """The subschemas applied to the same value, in order of appearance."""
        for keyword, value in schema.items():
            if keyword in ("allOf", "anyOf", "oneOf"):
                yield from value
            elif keyword in ("if", "then", "else"):
                yield value
            elif keyword == "$ref":
                yield self.reading.resolve(value)
            elif keyword == "dependentSchemas":
                yield from value.values()

    def named(self, schema: Any, above: frozenset[int]) -> Iterator[str]:
        if not isinstance(schema, dict) or id(schema) in above:
            return
        yield from schema.get("properties", {})
        for part in self.applied(schema):
            yield from self.named(part, above | {id(schema)})

    def demanded(self, schema: Any, above: frozenset[int]) -> Iterator[str]:
        if not isinstance(schema, dict) or id(schema) in above:
            return
        yield from schema.get("required", [])
        for part in self.applied(schema):
            yield from self.demanded(part, above | {id(schema)})


def truth(branch: Branch, byte: int) -> Iterator[Frame]:
    """true or false, if the atoms allow it."""
    if (byte == ord("t")) in booleans(branch):
        yield Word(b"rue" if byte == ord("t") else b"alse")


def finished(frame: Frame) -> bool:
    """Only a number may end without a closing byte."""
    return isinstance(frame, Number) and frame.rule.complete(frame.text)


# ---------------------------------------------------------------- characters in a JSON string


def decoded(pending: bytes) -> int | None:
    """The code point that these bytes spell, if they are whole."""
    if pending[0] == 0x5C:
        return _escaped(pending)
    if pending[0] < 0x20:
        return None
    try:
        return ord(pending.decode())
    except (UnicodeDecodeError, TypeError):
        return None


def _escaped(pending: bytes) -> int | None:
    if len(pending) == 2 and pending[1] in ESCAPES:
        return ESCAPES[pending[1]]
    if not well_formed(pending) or len(pending) < 6:
        return None
    high = int(pending[2:6], 16)
    if not 0xD800 <= high <= 0xDBFF:
        return high
    return None if len(pending) < 12 else 0x10000 + ((high - 0xD800) << 10) + int(pending[8:12], 16) - 0xDC00


def well_formed(pending: bytes) -> bool:
    """Is this a prefix of one backslash-u escape or of a pair of them?"""
    hexadecimal = b"0123456789abcdefABCDEF"
    for i, byte in enumerate(pending):
        allowed = (b"\\", b"u", *(hexadecimal,) * 4)[i % 6]
        if byte not in allowed:
            return False
    return len(pending) <= 12


def reachable(pending: bytes) -> list[tuple[int, int]]:
    """The code points that unfinished bytes can become."""
    if pending[0] == 0x5C:
        return _reachable_escape(pending)
    if not 0xC2 <= pending[0] <= 0xF4:
        return []
    length = 2 if pending[0] < 0xE0 else 3 if pending[0] < 0xF0 else 4
    if len(pending) >= length or any(not 0x80 <= byte <= 0xBF for byte in pending[1:]):
        return []
    bits = pending[0] & (0x7F >> length)
    for byte in pending[1:]:
        bits = bits << 6 | byte & 0x3F
    missing = 6 * (length - len(pending))
    low, high = bits << missing, (bits + 1 << missing) - 1
    return clipped(max(low, (0, 0x80, 0x800, 0x10000)[length - 1]), min(high, 0x10FFFF))


def _reachable_escape(pending: bytes) -> list[tuple[int, int]]:
    if len(pending) <= 2:
        return clipped(0, 0x10FFFF) if pending in (b"\\", b"\\u") else []
    if not well_formed(pending):
        return []
    low, high = int(pending[2:6].ljust(4, b"0"), 16), int(pending[2:6].ljust(4, b"f"), 16)
    direct = clipped(low, high) if len(pending) < 6 else []
    first, last = max(low, 0xD800), min(high, 0xDBFF)
    if first > last:
        return direct
    digits = pending[8:12]
    tail, end = int(digits.ljust(4, b"0") or b"0", 16), int(digits.ljust(4, b"f") or b"ffff", 16)
    tail, end = max(tail, 0xDC00), min(end, 0xDFFF)
    if tail > end:
        return direct
    pair = 0x10000 + ((first - 0xD800) << 10) + tail - 0xDC00, 0x10000 + ((last - 0xD800) << 10) + end - 0xDC00
    return [*direct, pair]


def clipped(low: int, high: int) -> list[tuple[int, int]]:
    """The range without the surrogates."""
    return [(max(low, a), min(high, b)) for a, b in regular.SCALARS if max(low, a) <= min(high, b)]
