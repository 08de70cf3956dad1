"""The states of one constraint: numbered when they are named, their rows filled when a walk first meets them.

A *configuration* is (state, register, stack node), interned. What a state does is written by the subclass of its
kind of constraint; what a step lacks, a row or what follows a return, is supplied here and kept in the tables.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from grammar import codes, rows
from grammar.content import Content
from grammar.errors import GrammarTooLarge
from grammar.frames.languages import Machine
from grammar.kernels import fixed
from grammar.labels import Labels
from grammar.tables import (
    BACKSLASH,
    BASE_DEPTH,
    BUMP,
    CLASSMAP,
    COLUMNS,
    COUNTED,
    DATA_SEEN,
    DEAD,
    ESCAPE,
    GAP_BLANK,
    GAP_NEWLINE,
    GAP_TAB,
    INTERNED,
    KEEP,
    KEY,
    KIND,
    LISTED,
    MAX_BLANKS,
    OFFSET,
    PLAIN,
    POP,
    QUOTE,
    SPEC,
    STACK_DATA,
    STACK_DEPTH,
    STACK_PARENT,
    STACK_ROOM,
    STACK_STATE,
    VISIBLE,
    Tables,
    operation,
)
from grammar.vocabulary import Vocabulary

Int32 = npt.NDArray[np.int32]

_STRUCTURAL: Final = b'{}[]",:-0123456789tfn \n\t'
_COLUMN: Final = {byte: i for i, byte in enumerate(_STRUCTURAL, 1)}
_ROW: Final = [DEAD] * (len(_STRUCTURAL) + 1)
_NO_NUMBER: Final = np.array([byte for byte in range(256) if byte not in b"0123456789+-.eE"])
_FIELD: Final = (1 << 28) - 1
_FEW: Final = 100


class Mask:
    """The legal tokens of one or more configurations, as bits: `row` is never written again."""

    __slots__ = ("row",)

    def __init__(self, row: Int32) -> None:
        self.row = row


class States:
    """States and rows of one constraint, filled when a walk or a step first asks for them; positions in it."""

    def __init__(self, vocabulary: Vocabulary, *, max_blanks: int, max_bytes: int) -> None:
        self.vocabulary = vocabulary
        self.outside = vocabulary.trie
        """The tokens that may come outside of strings."""
        self.tables = Tables(max(1 << 20, max_bytes // 4))
        self.tables.h[MAX_BLANKS] = max_blanks
        self.labels = Labels()
        self.max_blanks = max_blanks
        self.max_bytes = max_bytes
        self.base_bytes = 0
        """What was kept when a text under way was last brought here: it cannot do with less."""
        self._keys: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self._map = self.tables.add_map(_structural_map())
        self._blocks: dict[int, int] = {}
        self._contents: dict[int, Content] = {}
        self.configurations: list[tuple[int, int, int]] = []
        self._configuration_ids: dict[tuple[int, int, int], int] = {}
        self._masks: list[Mask | None] = []
        self._accepting: list[bool | None] = []
        self.ends = frozenset(vocabulary.eos_token_ids)
        self.moves: list[dict[int, int]] = []
        """By configuration and token: the next configuration, doubled, plus one if the token stayed inside content."""
        self._levels = np.zeros((vocabulary.trie.longest + 2, 4), np.int64)
        self.end = self.state(("end",))
        self.done = self.state(("done",))
        self.tables.stack_id(0, self.end, 0)

    def state(self, key: Any) -> int:
        """The number of the state that `key` describes; its row is filled later."""
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = self.tables.add_states(1)
            self._keys.append(key)
        return found

    def key_of(self, state: int) -> Any:
        """What the state is, as its key says."""
        return self._keys[state]

    def fill(self, state: int) -> None:
        """Write the state's row."""
        key = self._keys[state]
        row = _ROW.copy()
        if self.write(key, row):
            row[_COLUMN[0x20]] = operation(GAP_BLANK)
            row[_COLUMN[0x0A]] = operation(GAP_NEWLINE)
            row[_COLUMN[0x09]] = operation(GAP_TAB)
        self.set_row(state, row)

    def set_row(self, state: int, row: list[int]) -> None:
        """Store a structural row."""
        tables = self.tables
        offset = tables.add_cells(row)
        tables.set_row(state, offset, self._map)

    def fill_next(self, state: int) -> int | None:  # noqa: ARG002  (nothing is an answer)
        """A state whose row is needed wherever this one's is."""
        return None

    def machine_block(self, machine: Machine, kind: int, tag: Any, *, strict: bool = False) -> int:
        """Copy a machine's states into the tables; the first one's number. Labels become pops."""
        known = self._blocks.get(id(machine))
        if known is not None:
            return known
        tables = self.tables
        states = len(machine.labels)
        base = tables.add_states(states)
        self._keys.extend([(tag, base)] * states)
        self._blocks[id(machine)] = base
        content = self._contents[base] = Content(self.vocabulary, machine, base)
        columns = machine.table.shape[1]
        if columns + 3 > 255:
            raise GrammarTooLarge("an automaton over more than 250 kinds of bytes")
        width = columns + (1 if kind == PLAIN else 3)
        offset = tables.take(states * width)
        final, escape = (operation(KEEP), -1) if kind == PLAIN else (operation(POP), operation(ESCAPE))
        cells = tables.block(offset, states * width)
        rows.lay_out(fixed(machine.table), fixed(machine.labels), base, final, escape, cells)
        ends = (base, base + states)
        tables.part(OFFSET, *ends)[:] = offset + 1 + np.arange(states, dtype=np.int32) * width
        tables.part(CLASSMAP, *ends)[:] = tables.add_map(_byte_classes(machine, kind))
        if kind != PLAIN:
            most = -1 if machine.most is None else machine.most
            spec = tables.add_spec(base, minimum=machine.least, maximum=most, strict=strict)
            tables.part(SPEC, *ends)[:] = spec
            if content.is_counted:
                tables.add_counts(spec, content.needed.reshape(-1))
            tables.part(KIND, *ends)[:] = COUNTED if content.is_counted else kind
        return base

    def machine_at(self, state: int) -> Machine:
        """The machine that a string, key or number state belongs to."""
        return self.content_at(state).machine

    def content_at(self, state: int) -> Content:
        """The machine's states, and what plain content does to them."""
        return self._contents[self._keys[state][1]]

    def configuration(self, state: int, register: int, stack: int) -> int:
        """The interned configuration."""
        key = (state, register, stack)
        found = self._configuration_ids.get(key)
        if found is None:
            found = self._configuration_ids[key] = len(self.configurations)
            self.configurations.append(key)
            self._masks.append(None)
            self._accepting.append(None)
            self.moves.append({})
        return found

    def accepts(self, configuration: int) -> bool:
        """Whether the text may end in this configuration."""
        found = self._accepting[configuration]
        if found is None:
            found = self._accepting[configuration] = self.is_accepting(*self.configurations[configuration])
        return found

    def is_accepting(self, state: int, register: int, stack: int) -> bool:
        """Whether the text may end in this configuration."""
        tables = self.tables
        if state == self.done:
            return True
        if stack != 0 or tables.get(KIND, state) != PLAIN:
            return False
        if not tables.is_filled(state):
            self.fill(state)
        cell = tables.cell(state, 0)
        return cell >= 0 and cell >> 26 == KEEP and register == 0

    def _begin(self, state: int, register: int, stack: int) -> npt.NDArray[np.int64]:
        """Set up what a walk from here reads and reports."""
        tables = self.tables
        tables.reserve_scratch(0)
        self._levels[0] = (state, register, stack, 0)
        meta = tables.h
        meta[BUMP] = meta[INTERNED] = tables.stacks
        kind = tables.get(KIND, state)
        meta[VISIBLE] = 1 if kind in (KEY, LISTED) else 0
        meta[DATA_SEEN] = 1 if kind == KEY and register >> 32 else 0
        meta[BASE_DEPTH] = tables.get(STACK_DEPTH, stack)
        return meta

    def _fill_missing(self, work: npt.NDArray[np.int64]) -> int:
        """Fill what the noted places lack; how many things that was."""
        count = 0
        for code, number, label in _distinct(work):
            count += self._fill_one(code, number, label)
        return count

    def _fill_one(self, code: int, number: int, label: int) -> int:
        """Supply what a step said was missing; 1 if that added to the tables."""
        tables = self.tables
        if code == codes.UNFILLED:
            if tables.is_filled(number):
                return 0
            self.fill(number)
        elif code == codes.NO_RETURN:
            target = self.returned(number, label)
            tables.set_return(number, label, target)
            self._fill_ahead(target)
        else:
            tables.reserve_scratch(2 * int(tables.h[STACK_ROOM]))
            return 0
        return 1

    def _fill_ahead(self, target: int) -> None:
        """Fill what follows a return: a vocabulary as large as today's has tokens that go on there, so that to wait for
        the walk to ask would be one round more for each of them."""
        following: int | None = target
        while following is not None and following != DEAD and not self.tables.is_filled(following):
            self.fill(following)
            following = self.fill_next(following)

    def _interned(self, node: int, scratch: int) -> int:
        """The permanent node of a stack whose top is scratch."""
        node, chain = self._chain(node, scratch)
        for return_state, data in reversed(chain):
            node = self.tables.stack_id(node, return_state, data)
        return node

    def _chain(self, node: int, base: int) -> tuple[int, list[tuple[int, int]]]:
        """The interned node below the scratch part, and the scratch part from the top down."""
        tables, chain = self.tables, []
        while node >= base:
            chain.append((tables.get(STACK_STATE, node), tables.get(STACK_DATA, node)))
            node = tables.get(STACK_PARENT, node)
        return node, chain

    def write(self, key: Any, row: list[int]) -> bool:
        """Write the cells of the state that `key` describes; whether whitespace may come first."""
        raise NotImplementedError

    def returned(self, parent: int, label: int) -> int:
        """The state that follows when a child returns `label` to `parent`; DEAD if none may."""
        raise NotImplementedError


def _distinct(work: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """What the noted places lack, once each: (code, state, label), sorted."""
    if len(work) < _FEW:
        noted = work[:, 5:].tolist()
        return sorted({(code, at, label if code == codes.NO_RETURN else 0) for code, at, label in noted})
    # Thousands of places that lack the same few things are told apart faster as one number each.
    labels = np.where(work[:, 5] == codes.NO_RETURN, work[:, 7], 0)
    packed = np.unique(work[:, 5] << 56 | work[:, 6] << 28 | labels).tolist()
    return [(each >> 56, each >> 28 & _FIELD, each & _FIELD) for each in packed]


def _byte_classes(machine: Machine, kind: int) -> npt.NDArray[np.uint8]:
    """The column of each byte, raw and decoded, in the rows of a machine."""
    found, columns = np.zeros(COLUMNS, np.uint8), machine.table.shape[1]
    found[:256] = machine.classes
    if kind == PLAIN:
        found[:256][_NO_NUMBER] = columns
        return found
    found[256:288] = machine.classes[:32]
    found[QUOTE], found[BACKSLASH] = machine.classes[0x22], machine.classes[0x5C]
    found[:32] = columns
    found[0x22], found[0x5C] = columns + 1, columns + 2
    return found


def _structural_map() -> npt.NDArray[np.uint8]:
    found = np.zeros(COLUMNS, np.uint8)
    for byte, column in _COLUMN.items():
        found[byte] = column
    return found


def column(byte: int) -> int:
    """The cell of a structural byte in a row."""
    return _COLUMN[byte]
