"""Moves: where a token leads, the text before read back only where a key or an item must differ from earlier ones."""

from typing import Final

import numpy as np
import numpy.typing as npt

from grammar import codes, steps
from grammar.destinations import Destinations
from grammar.places import PlaceKind
from grammar.pointers import opening_quote
from grammar.tables import (
    ARGUMENT,
    BUMP,
    DEAD,
    INTERNED,
    KEEP,
    KEY,
    KIND,
    MISSING,
    MISSING_LABEL,
    PLAIN,
    POP,
    SHIFT,
    STACK_DATA,
    STACK_PARENT,
    STACK_STATE,
)
from grammar.vocabulary import Vocabulary

Int32 = npt.NDArray[np.int32]

MAX_FORCED: Final = 1 << 16
MOST_REMEMBERED: Final = 1 << 14
"""Positions whose forced text is remembered, if it is at most `SHORT_FORCED` bytes long."""
SHORT_FORCED: Final = 256

Position = tuple[int, int, int]
"""State, register and stack node."""


class Moves(Destinations):
    """Steps by tokens and bytes, remembered where nothing but the configuration bears on them."""

    def __init__(self, vocabulary: Vocabulary, *, max_blanks: int, max_bytes: int) -> None:
        super().__init__(vocabulary, max_blanks=max_blanks, max_bytes=max_bytes)
        self._moves_known = 0
        self._key_moves: dict[tuple[int, int, bytes], int] = {}
        """Moves out of keys that are remembered as used: by what was read of the key, too."""
        self._forced: dict[int, bytes] = {}

    def advance(self, configuration: int, token: int, text: bytes | bytearray) -> tuple[int, bool] | None:
        """The configuration after `token`, and whether the token began inside the content where that stands (a string,
        key, number or free text); None if it is illegal.

        `text` is all that was generated before: keys that may not be used twice are read back from it.
        """
        known = self.moves[configuration].get(token)
        if known is None:
            begun = self._begun_key(configuration, text)
            known = None if begun is None else self._key_moves.get((configuration, token, begun))
            if known is None:
                known = self._moved(configuration, token, text, begun)
        return None if known is None else (known >> 1, bool(known & 1))

    def _begun_key(self, configuration: int, text: bytes | bytearray) -> bytes | None:
        """What was read so far of the key that is open, as spelled; None elsewhere."""
        if self.tables.get(KIND, self.configurations[configuration][0]) != KEY:
            return None
        return self.raw_string(_recent(text, b""))

    def _moved(self, configuration: int, token: int, text: bytes | bytearray, begun: bytes | None) -> int | None:
        text_bytes, starts = self.vocabulary.spelled
        first, last = starts[token], starts[token + 1]
        if first == last or token in self.ends:
            return None
        found = self._run(configuration, text_bytes, first, last, text)
        if found is None:
            return None
        after, stayed, cacheable, by_key = found
        kind = self.place_kind(after)
        move = after << 1 | (stayed and (kind <= PlaceKind.ENUM or kind is PlaceKind.FREE))
        if cacheable:
            self.moves[configuration][token] = move
            self._moves_known += 1
        elif begun is not None and by_key:
            self._key_moves[configuration, token, begun] = move
        return move

    def run(self, configuration: int, spelled: bytes, text: bytes | bytearray | None) -> tuple[int, bool, bool] | None:
        """Step through bytes: (configuration, no frame entered or left, the text before did not matter).

        Without `text`, a key that closes is not remembered as used: for looking ahead along plans.
        """
        found = self._run(configuration, np.frombuffer(spelled, np.uint8), 0, len(spelled), text)
        return None if found is None else found[:3]

    def _run(
        self,
        configuration: int,
        spelled: npt.NDArray[np.uint8],
        first: int,
        last: int,
        text: bytes | bytearray | None,
    ) -> tuple[int, bool, bool, bool] | None:
        """As `run`, over a part of an array; and whether no more of the text before mattered than the open key."""
        tables, at, flags, cacheable, at_key = self.tables, first, 0, True, False
        state, register, stack = self.configurations[configuration]
        tables.reserve_scratch(4 * (last - first))
        while True:
            scratch = tables.stacks
            code, at, state, register, stack, flags = steps.run(
                tables.mem, tables.h, scratch, spelled, at, last, state, register, stack, flags
            )
            if code == codes.STUCK:
                return None
            if stack >= scratch:
                stack = self._interned(stack, scratch)
            if at == last:
                return self.configuration(state, register, stack), not flags, cacheable, at_key
            if code != codes.RECORDED:
                self._fill_one(code, int(tables.h[MISSING]), int(tables.h[MISSING_LABEL]))
            else:
                if not cacheable or not self._goes_on_blindly((state, register, stack), spelled[at:last].tobytes()):
                    return None
                cacheable, flags = False, 1
                at_key = tables.get(KIND, state) == KEY
                more = spelled[first:at].tobytes()
                before = None if text is None else _recent(text, more) if at_key else bytes(text) + more
                moved = self._taking_recorded((state, register, stack), int(spelled[at]), before)
                if moved is None:
                    return None
                state, register, stack = moved
                at += 1
                if at == last:
                    return self.configuration(state, register, stack), False, False, at_key

    def _goes_on_blindly(self, at: Position, rest: bytes) -> bool:
        """Whether a token that closes what is to be remembered can go on, if it was an item, whatever its value.

        That is all that a mask can tell: a token that goes on into the next value is nowhere legal.
        """
        if self.tables.get(KIND, at[0]) == KEY:
            return True
        moved = self._taking_recorded(at, rest[0], None)
        for byte in rest[1:]:
            if moved is None or self.tables.get(KIND, moved[0]) != PLAIN or byte in codes.CONTENT:
                return False
            moved = self._taking(moved, byte)
        return moved is not None

    def _taking(self, at: Position, byte: int) -> Position | None:
        """Where one byte leads that closes nothing recorded; None if it cannot come."""
        tables = self.tables
        while True:
            scratch = tables.stacks
            tables.h[BUMP] = tables.h[INTERNED] = scratch
            code, state, register, stack = steps.step(tables.mem, tables.h, *at, byte)
            if code == codes.OK:
                return int(state), int(register), self._interned(int(stack), scratch)
            if code in (codes.STUCK, codes.RECORDED):
                return None
            missing = np.zeros((1, 8), np.int64)
            missing[0, 5:] = (code, tables.h[MISSING], tables.h[MISSING_LABEL])
            self._fill_missing(missing)

    def _taking_recorded(self, at: Position, byte: int, text: bytes | None) -> Position | None:
        """Where a byte leads that closes something recorded (a number ends with what follows it); None if it cannot."""
        tables = self.tables
        while True:
            state, _, stack = at
            if not tables.is_filled(state):
                self.fill(state)
            cell = tables.cell(state, byte)
            is_key = tables.get(KIND, state) == KEY
            if not is_key and (cell < 0 or cell >> SHIFT not in (POP, KEEP)):
                return self._taking(at, byte)
            parent, data = tables.get(STACK_STATE, stack), tables.get(STACK_DATA, stack)
            label = cell & ARGUMENT
            if is_key or label < codes.RECORDED_LABEL:
                target = self.returned(parent, label)
            else:
                target = self.returned_item(parent, label, state, text)
            if target == DEAD:
                return None
            if is_key and text is not None:
                data = tables.used_with(data, self.open_string(text))  # The key may not come again.
            elif is_key:
                data = self.used_at_worst(parent, label, data)
            at = target, data << 32, tables.get(STACK_PARENT, stack)
            if cell >> SHIFT == POP:
                return at

    def forced_bytes(self, configuration: int, text: bytes | bytearray) -> bytes:
        """The bytes that every completion begins with: as long as one byte only can follow and the text may not end.

        Remembered where nothing but the configuration bears on them.
        """
        known = self._forced.get(configuration)
        if known is not None:
            return known
        found, by_itself = self._forced_from(configuration, bytes(text))
        if by_itself and len(found) <= SHORT_FORCED:
            if len(self._forced) >= MOST_REMEMBERED:
                self._forced.clear()
            self._forced[configuration] = found
        return found

    def _forced_from(self, configuration: int, text: bytes) -> tuple[bytes, bool]:
        """As `forced_bytes`, and whether the text before did not matter."""
        found, by_itself = bytearray(), True
        while len(found) < MAX_FORCED and not self.accepts(configuration):
            state, register, stack = self.configurations[configuration]
            self._begin(state, register, stack)
            code, byte = steps.only_byte(self.tables.mem, self.tables.h, state, register, stack)
            if code != codes.OK:
                missing = np.zeros((1, 8), np.int64)
                missing[0, 5:] = (code, self.tables.h[MISSING], self.tables.h[MISSING_LABEL])
                self._fill_missing(missing)
                continue
            moved = None if byte < 0 else self.run(configuration, bytes([byte]), text + found)
            if moved is None:
                by_itself = by_itself and byte < 0  # The text before may have been what stood in the way.
                break
            found.append(byte)
            configuration, by_itself = moved[0], by_itself and moved[2]
        return bytes(found), by_itself

    @staticmethod
    def raw_string(text: bytes) -> bytes:
        """The content, as spelled, of the string that is open at the end of `text`."""
        return text[opening_quote(text) + 1 :]

    def open_string(self, text: bytes) -> bytes:
        """As `raw_string`, decoded."""
        return _decoded(self.raw_string(text))

    def place_kind(self, configuration: int) -> PlaceKind:
        """What the next token would be part of."""
        raise NotImplementedError

    def returned_item(self, parent: int, label: int, state: int, text: bytes | None) -> int:
        """As `returned`, for an item whose value, which ends in `state`, is to be remembered."""
        raise NotImplementedError

    def used_at_worst(self, parent: int, label: int, used: int) -> int:  # noqa: ARG002  (nothing is remembered here)
        """The set of used keys after a key that is not known: the one whose absence makes the rest longest joined it.

        `label` is what the key returned to `parent`.
        """
        return used


def _recent(text: bytes | bytearray, more: bytes) -> bytes:
    """`more` behind as much of `text` as holds what is open at its end: to copy all of it would cost more and more."""
    room = 256
    while room < len(text):
        tail = bytes(text[-room:]) + more
        at = tail.rfind(b'"')
        # A quote behind backslashes that reach the cut may or may not be escaped.
        while at >= 0 and tail[at - 1 : at] == b"\\" and tail[:at].rstrip(b"\\") and not _is_open(tail, at):
            at = tail.rfind(b'"', 0, at)
        if at > 0 and tail[:at].rstrip(b"\\"):
            return tail
        room *= 8
    return bytes(text) + more


def _is_open(text: bytes, at: int) -> bool:
    """Whether the quote at `at` is preceded by an even number of backslashes."""
    return (at - len(text[:at].rstrip(b"\\"))) % 2 == 0


def _decoded(raw: bytes) -> bytes:
    import json  # noqa: PLC0415

    return json.loads(b'"' + raw + b'"').encode() if b"\\" in raw else raw
