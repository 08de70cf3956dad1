"""The automaton of one constraint over one vocabulary: states filled when first needed, configurations, memoised masks.

A *configuration* is (state, register, stack node), interned. Its mask is computed once by the compiled walk; masks are
shared between configurations that one token cannot tell apart: the key of a mask is the state, the saturated register
and only as many ancestors as some token returned to. Python fills a state's row when a walk first meets it.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from grammar import rows, walk
from grammar.content import Content
from grammar.errors import GrammarTooLarge
from grammar.frames.languages import Machine
from grammar.frames.objects import ObjectFrame
from grammar.kernels import fixed
from grammar.labels import Labels
from grammar.places import PlaceKind
from grammar.pointers import opening_quote
from grammar.tables import (
    ARGUMENT,
    BACKSLASH,
    BASE_DEPTH,
    BUMP,
    CLASSMAP,
    COLUMNS,
    COUNTED,
    DATA_SEEN,
    DEAD,
    ESCAPE,
    FLAT,
    GAP_BLANK,
    GAP_NEWLINE,
    GAP_TAB,
    INTERNED,
    KEEP,
    KEY,
    KIND,
    MAX_BLANKS,
    MISSING,
    MISSING_LABEL,
    OFFSET,
    PLAIN,
    POP,
    QUOTE,
    REACH,
    SHIFT,
    SPEC,
    SPEC_OFFSET,
    SPEC_WORDS,
    STACK_DATA,
    STACK_DEPTH,
    STACK_PARENT,
    STACK_ROOM,
    STACK_STATE,
    VISIBLE,
    Tables,
    operation,
)
from grammar.trie import Trie
from grammar.vocabulary import Vocabulary

Int32 = npt.NDArray[np.int32]

_STRUCTURAL: Final = b'{}[]",:-0123456789tfn \n\t'
_COLUMN: Final = {byte: i for i, byte in enumerate(_STRUCTURAL, 1)}
_ROW: Final = [DEAD] * (len(_STRUCTURAL) + 1)
_NO_NUMBER: Final = np.array([byte for byte in range(256) if byte not in b"0123456789+-.eE"])
_FIELD: Final = (1 << 28) - 1
_FEW: Final = 100
MAX_FORCED: Final = 1 << 16
MAX_STATIONS: Final = 512
FEW_ENDS: Final = 256
"""Room for the places where the tokens of one mask lead; more is made when it is needed."""


Position = tuple[int, int, int]
"""State, register and stack node."""


class Mask:
    """The legal tokens of one or more configurations; `ends` says whether the text may end here."""

    __slots__ = ("row",)

    def __init__(self, row: Int32) -> None:
        self.row = row


class Automaton:
    """States and rows of one constraint. Subclasses say what fills a state and what follows a return."""

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
        self.places: list[int] = []
        self._key_live: dict[tuple[int, bool], npt.NDArray[np.bool_]] = {}
        self._blocks: dict[int, int] = {}
        self._contents: dict[int, Content] = {}
        self.configurations: list[tuple[int, int, int]] = []
        self._configuration_ids: dict[tuple[int, int, int], int] = {}
        self._masks: list[Mask | None] = []
        self._accepting: list[bool | None] = []
        self.ends = frozenset(vocabulary.eos_token_ids)
        self._ahead: list[tuple[bytes, list[int]] | None] = []
        self.moves: list[dict[int, int]] = []
        """By configuration and token: the next configuration, doubled, plus one if the token stayed inside content."""
        self._moves_known = 0
        self._key_moves: dict[tuple[int, int, bytes], int] = {}
        """Moves out of keys that are remembered as used: by what was read of the key, too."""
        self._shared: dict[tuple[Any, ...], Mask] = {}
        self._views: dict[tuple[int, int], list[tuple[int, bool]]] = {}
        self._rows: dict[int, Mask] = {}
        self._levels = np.zeros((vocabulary.trie.longest + 2, 4), np.int64)
        self._work = np.zeros((1 << 8, 8), np.int64)
        self._noted = np.zeros((1 << 8, 8), np.int64)
        self._ends = np.zeros((FEW_ENDS, 5), np.int64)
        self.end = self.state(("end",))
        self.done = self.state(("done",))
        self.tables.stack_id(0, self.end, 0)

    # ---------------------------------------------------------------- states

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
        offset = tables.take_cells(states * width)
        final, escape = (operation(KEEP), -1) if kind == PLAIN else (operation(POP), operation(ESCAPE))
        cells = tables.part(FLAT, offset, tables.cells)
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

    # ---------------------------------------------------------------- masks

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

    def mask(self, configuration: int) -> Mask:
        """The legal tokens, end tokens included."""
        found = self._masks[configuration]
        if found is None:
            found = self._masks[configuration] = self._find_mask(configuration)
        return found

    def _find_mask(self, configuration: int) -> Mask:
        return self._seen(*self.configurations[configuration])[0]

    def _seen(self, state: int, register: int, stack: int) -> tuple[Mask, int, bool]:
        """The mask, and what it depends on: so many ancestors, and whether their data."""
        saturated = self._saturated(state, register)
        same = self._alike(state)
        views = self._views.setdefault((same, saturated), [])
        for visible, with_data in views:
            found = self._shared.get(self._mask_key(same, saturated, register, stack, visible, with_data))
            if found is not None:
                return found, visible, with_data
        row, visible, with_data = self._compute(state, register, stack)
        if (visible, with_data) not in views:
            views.append((visible, with_data))
        if self.is_accepting(state, register, stack):
            row |= self.vocabulary.eos_row
        mask = self._mask_of(row)
        self._shared[self._mask_key(same, saturated, register, stack, visible, with_data)] = mask
        return mask, visible, with_data

    def _mask_of(self, row: Int32) -> Mask:
        """The mask with this content: equal rows are held once."""
        ident = rows.content_hash(row)
        known = self._rows.get(ident)
        if known is not None and rows.equal(known.row, fixed(row)):
            return known
        row.setflags(write=False)
        mask = Mask(row)
        self._rows.setdefault(ident, mask)
        return mask

    def _mask_key(
        self, state: int, saturated: int, register: int, stack: int, visible: int, with_data: bool
    ) -> tuple[Any, ...]:
        tables = self.tables
        states, data = [], []
        for _ in range(visible):
            states.append(tables.get(STACK_STATE, stack))
            data.append(tables.get(STACK_DATA, stack))
            stack = tables.get(STACK_PARENT, stack)
        if with_data:
            return (state, saturated, tuple(states), register >> 32, tuple(data))
        return (state, saturated, tuple(states))

    def _alike(self, state: int) -> int:
        """The state, or another with the same masks: digits are counted, but no token spells forty."""
        tag, base = self._keys[state][0], self._keys[state][-1]
        if tag != "in number":
            return state
        return int(base + self._contents[base].alike[state - base])

    def _saturated(self, state: int, register: int) -> int:
        """The register as far as one token can tell."""
        kind = self.tables.get(KIND, state)
        if kind == PLAIN:
            low = register & 0xFFFFFFFF
            return max(low, 2 + self.max_blanks - self.vocabulary.trie.longest) if low >= 2 else low
        if kind != COUNTED or register & 31:
            return register
        return self.content_at(state).saturated(register >> 32)

    def accepts(self, configuration: int) -> bool:
        """Whether the text may end in this configuration."""
        found = self._accepting[configuration]
        if found is None:
            found = self._accepting[configuration] = self.is_accepting(*self.configurations[configuration])
        return found

    def resting_places(self, configuration: int) -> list[tuple[Int32, int]]:
        """For a configuration in a string or key that may go on as it likes: (plain tokens, where they lead).

        All of whole characters, which lead back to where they began, or, where characters are counted, those of each
        length. Empty elsewhere.
        """
        state, register, stack = self.configurations[configuration]
        kind = self.tables.get(KIND, state)
        if kind == PLAIN or register & 31:
            return []
        content = self.content_at(state)
        at = state - content.base
        if kind == COUNTED:
            return self._places_by_length(configuration, content.machine) if at == 0 and content.is_any else []
        if at not in content.free:
            return []
        if kind == KEY:
            frame = self._frame_at(stack)
            if register or not frame.shape.is_simple or not self._key_lives(content, frame)[at]:
                return []
        return [(self.vocabulary.settled_row, configuration)]

    def _places_by_length(self, configuration: int, machine: Machine) -> list[tuple[Int32, int]]:
        state, register, stack = self.configurations[configuration]
        count, found = register >> 32, []
        for length, row in self.vocabulary.settled_lengths:
            if machine.most is not None and count + length > machine.most:
                break
            after = count + length if machine.most is not None else min(count + length, max(machine.least, count))
            found.append((row, self.configuration(state, after << 32, stack)))
        return found

    def ends_of(self, configuration: int, trie: Trie) -> tuple[Int32, tuple[Int32, list[int]], list[int | None]]:
        """The legal tokens of `trie`, and for each the index of the configuration it leads to, in the list beside.

        The last list has for each one of its tokens if they closed a key or item not yet remembered as used there.
        """
        tables, vocabulary = self.tables, self.vocabulary
        self.mask(configuration)
        arrays = (*trie.arrays, *self._pure_parts(configuration, trie))
        lists = np.empty(vocabulary.size, np.int32), np.empty(vocabulary.size, np.int32)
        while True:
            self._begin(*self.configurations[configuration])
            slots = np.empty(1 << (2 * len(self._ends)).bit_length(), np.int32)
            count, distinct, pending = walk.collect(
                tables.mem, tables.h, *arrays, self._levels, self._work, *lists, self._ends, slots
            )
            if distinct == len(self._ends):
                self._ends = np.zeros((4 * distinct, 5), np.int64)
            elif pending:
                self._fill_missing(self._work[: min(pending, len(self._work))].copy())
            else:
                break
        found = self._ends[:distinct].tolist()
        # Interning overwrites the scratch region, so the chains are read out first.
        scratch = tables.stacks
        chains = [self._chain(st, scratch) for _, _, st, _, _ in found]
        numbers = []
        for (s, reg, _, _, _), (base, above) in zip(found, chains, strict=True):
            node = base
            for return_state, data in reversed(above):
                node = tables.stack_id(node, return_state, data)
            numbers.append(self.configuration(s, reg, node))
        return lists[0][:count], (lists[1][:count], numbers), [end[4] if end[3] else None for end in found]

    def _pure_parts(self, configuration: int, trie: Trie) -> tuple[npt.NDArray[np.bool_], int, npt.NDArray[np.bool_]]:
        """Subtrees of plain content only, and where it leads back: the string's first state, free states from it on."""
        state, register, _ = self.configurations[configuration]
        if trie is not self.vocabulary.trie or self.tables.get(KIND, state) == PLAIN or register & 31:
            return np.zeros(len(trie.byte), np.bool_), 0, np.zeros(0, np.bool_)
        content = self.content_at(state)
        free = np.zeros(len(content.machine.labels), np.bool_)
        free[list(content.free)] = True
        return self.vocabulary.pure, content.base, free

    def stations_of(self, configuration: int) -> list[tuple[int, int, list[tuple[int, int]]]] | None:
        """Where one token can lead, roughly: (state, interned stack node, what was pushed above it, last first).

        All states of one string or key automaton are taken for its first. None: too many to tell.
        """
        state, register, stack = self.configurations[configuration]
        tables, vocabulary = self.tables, self.vocabulary
        self.mask(configuration)
        # Without a quote in it no token leaves a string; then it stays within the one automaton.
        in_string = tables.get(KIND, state) != PLAIN
        trie = vocabulary.special_trie if in_string and not register & 31 else vocabulary.trie
        found = np.zeros((MAX_STATIONS, 2), np.int64)
        while True:
            self._begin(state, register, stack)
            arrays = (trie.byte, trie.end, trie.token, trie.depth)
            count, pending = walk.stations(tables.mem, tables.h, *arrays, self._levels, self._work, found)
            if not pending:
                break
            self._fill_missing(self._work[: min(pending, len(self._work))].copy())
        if count == MAX_STATIONS:
            return None
        places = found[:count].tolist()
        if in_string:
            places.append([self.content_at(state).base, stack])
        return [(s, *self._chain(st, tables.stacks)) for s, st in places]

    def view_of(self, configuration: int) -> tuple[Any, ...]:
        """What one token can tell of a configuration: those of one view have the same mask."""
        self.mask(configuration)
        state, register, stack = self.configurations[configuration]
        saturated, same = self._saturated(state, register), self._alike(state)
        for visible, with_data in self._views.get((same, saturated), ()):
            key = self._mask_key(same, saturated, register, stack, visible, with_data)
            if key in self._shared:
                # States that are alike for one token may differ in what remains to be written.
                return (state, *key)
        return (configuration,)

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

    def _compute(self, state: int, register: int, stack: int) -> tuple[Int32, int, bool]:
        """Walk: the row, how many ancestors it depends on, and whether it depends on data."""
        tables = self.tables
        if not tables.is_filled(state):
            self.fill(state)
        loose = self._loose_key(state, register, stack)
        if loose is not None:
            return self._compute_key(state, register, stack, loose)
        row, tries = self._begun(state, register, stack)
        meta = self._begin(state, register, stack)
        # What follows a quote is the same for all tokens that have one inside: it is made known once, first.
        begin = 0x22 if tables.get(KIND, state) != PLAIN and not register & 31 else -1
        for trie, start in tries:
            self._levels[0, 1] = start
            if not self._walk(trie, begin, -1, row):
                self._walk(trie, -1, begin, row)
        return row, int(meta[VISIBLE]), bool(meta[DATA_SEEN])

    def _loose_key(self, state: int, register: int, stack: int) -> int | None:
        """For a key that may still become any: the state of a key that is none of the names, if that is another."""
        if self.tables.get(KIND, state) != KEY or register & 31:
            return None
        content = self.content_at(state)
        frame = self._frame_at(stack)
        if len(content.free) != 1 or not frame.shape.is_simple:
            return None
        if not self._key_lives(content, frame)[state - content.base]:
            return None
        (at,) = content.free
        loose = content.base + at
        return None if state == loose and register == 0 else loose

    def _compute_key(self, state: int, register: int, stack: int, loose: int) -> tuple[Int32, int, bool]:
        """As `_compute`, from the mask of a key that is none of the names: few tokens go on along one."""
        mask, visible, with_data = self._seen(loose, 0, stack)
        row = mask.row.copy()
        meta = self._begin(state, register, stack)
        tables, trie = self.tables, self.vocabulary.special_trie
        pending = walk.walk_named(tables.mem, tables.h, *trie.arrays, loose, self._levels, self._work, row)
        if pending > len(self._work):
            self._work = np.zeros((2 * pending, 8), np.int64)
            return self._compute_key(state, register, stack, loose)
        self._complete(trie, pending, row)
        return row, max(int(meta[VISIBLE]), visible), bool(meta[DATA_SEEN]) or with_data

    def _walk(self, trie: Trie, begin: int, skip: int, row: Int32) -> bool:
        """Walk as `walk.walk_children` does, filling what is missing, until nothing is; whether that was all."""
        tables = self.tables
        pending, is_all = walk.walk_children(
            tables.mem, tables.h, *trie.arrays, trie.tops, begin, skip, self._levels, self._work, row
        )
        if pending > len(self._work):
            self._work = np.zeros((2 * pending, 8), np.int64)
            return self._walk(trie, begin, skip, row)
        self._complete(trie, pending, row)
        return is_all

    def _complete(self, trie: Trie, pending: int, row: Int32) -> None:
        """Fill what the noted places lack and walk on from them."""
        tables, arrays = self.tables, trie.arrays
        while pending:
            # What is noted next goes to the other list.
            before, self._work, self._noted = self._work, self._noted, self._work
            self._fill_missing(before[:pending])
            noted = pending
            while True:
                pending = walk.resume(tables.mem, tables.h, *arrays, self._levels, before, noted, self._work, row)
                if pending <= len(self._work):
                    break
                self._work = np.zeros((2 * pending, 8), np.int64)

    def _begin(self, state: int, register: int, stack: int) -> npt.NDArray[np.int64]:
        """Set up what a walk from here reads and reports."""
        tables = self.tables
        tables.reserve_scratch(0)
        self._levels[0] = (state, register, stack, 0)
        meta = tables.h
        meta[BUMP] = meta[INTERNED] = tables.stacks
        kind = tables.get(KIND, state)
        meta[VISIBLE] = 1 if kind == KEY else 0
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
        if code == walk.UNFILLED:
            if tables.is_filled(number):
                return 0
            self.fill(number)
        elif code == walk.NO_RETURN:
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

    def fill_next(self, state: int) -> int | None:  # noqa: ARG002  (nothing is an answer)
        """A state whose row is needed wherever this one's is."""
        return None

    def _begun(self, state: int, register: int, stack: int) -> tuple[Int32, list[tuple[Trie, int]]]:
        """The row to begin with, and tries of the tokens that remain to be walked, each with its register."""
        vocabulary, kind = self.vocabulary, self.tables.get(KIND, state)
        if kind == PLAIN:
            return np.zeros(vocabulary.words, np.int32), [(self.outside, register)]
        if register & 31:
            return np.zeros(vocabulary.words, np.int32), [(vocabulary.trie, register)]
        content = self.content_at(state)
        at = state - content.base
        if kind != KEY:
            row, tries = content.begin(at, register >> 32)
            return row, [(trie, count << 32) for trie, count in tries]
        frame = self._frame_at(stack)
        if not frame.shape.is_simple or not self._key_lives(content, frame)[at]:
            is_open = bool(frame.allowed & frame.shape.rest)
            row = content.plain_row(at, *self._key_reach(content, frame), is_finite=not is_open)
            return row, [(vocabulary.special_trie, register)]
        is_loose = register == 0 and at in content.free
        return vocabulary.slices[-1].copy(), [
            (vocabulary.ending_trie if is_loose else vocabulary.special_trie, register)
        ]

    def machine_at(self, state: int) -> Machine:
        """The machine that a string, key or number state belongs to."""
        return self.content_at(state).machine

    def content_at(self, state: int) -> Content:
        """The machine's states, and what plain content does to them."""
        return self._contents[self._keys[state][1]]

    def _frame_at(self, stack: int) -> ObjectFrame:
        """The object that the key above this stack node belongs to."""
        frame: ObjectFrame = self._keys[self.tables.get(STACK_STATE, stack)][1]
        return frame

    def _key_lives(self, content: Content, frame: ObjectFrame) -> npt.NDArray[np.bool_]:
        """[state]: whether the key may still become an open one that the object allows; for simple shapes.

        Without patterns every text goes on as some open key, if one is allowed: all characters' beginnings live.
        """
        allowed = bool(frame.allowed & frame.shape.rest)
        found = self._key_live.get((content.base, allowed))
        if found is None:
            machine = content.machine
            found = (machine.table[:, machine.classes[0x61]] >= 0) & allowed
            self._key_live[content.base, allowed] = found
        return found

    def _key_reach(self, content: Content, frame: ObjectFrame) -> tuple[Int32, Int32]:
        """The classes that each state of a key's machine can reach, and those that the object allows, as bit sets."""
        spec = self.tables.get(SPEC, content.base)
        words, offset = self.tables.get(SPEC_WORDS, spec), self.tables.get(SPEC_OFFSET, spec)
        reach = self.tables.part(REACH, offset, offset + len(content.machine.labels) * words).reshape(-1, words)
        return fixed(reach), fixed(bit_words(frame.allowed, words))

    # ---------------------------------------------------------------- moves

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
            code, at, state, register, stack, flags = walk.run(
                tables.mem, tables.h, scratch, spelled, at, last, state, register, stack, flags
            )
            if code == walk.STUCK:
                return None
            if stack >= scratch:
                stack = self._interned(stack, scratch)
            if at == last:
                return self.configuration(state, register, stack), not flags, cacheable, at_key
            if code != walk.RECORDED:
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
            if moved is None or self.tables.get(KIND, moved[0]) != PLAIN or byte in walk.CONTENT:
                return False
            moved = self._taking(moved, byte)
        return moved is not None

    def _taking(self, at: Position, byte: int) -> Position | None:
        """Where one byte leads that closes nothing recorded; None if it cannot come."""
        tables = self.tables
        while True:
            scratch = tables.stacks
            tables.h[BUMP] = tables.h[INTERNED] = scratch
            code, state, register, stack = walk.step(tables.mem, tables.h, *at, byte)
            if code == walk.OK:
                return int(state), int(register), self._interned(int(stack), scratch)
            if code in (walk.STUCK, walk.RECORDED):
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
            if is_key or label < walk.RECORDED_LABEL:
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

    def forced_bytes(self, configuration: int, text: bytes) -> bytes:
        """The bytes that every completion begins with: as long as one byte only can follow and the text may not end."""
        found = bytearray()
        while len(found) < MAX_FORCED and not self.accepts(configuration):
            state, register, stack = self.configurations[configuration]
            self._begin(state, register, stack)
            code, byte = walk.only_byte(self.tables.mem, self.tables.h, state, register, stack)
            if code != walk.OK:
                missing = np.zeros((1, 8), np.int64)
                missing[0, 5:] = (code, self.tables.h[MISSING], self.tables.h[MISSING_LABEL])
                self._fill_missing(missing)
                continue
            moved = None if byte < 0 else self.run(configuration, bytes([byte]), text + found)
            if moved is None:
                break
            found.append(byte)
            configuration = moved[0]
        return bytes(found)

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

    def returned_item(self, parent: int, label: int, state: int, text: bytes | None) -> int:
        """As `returned`, for an item whose value, which ends in `state`, is to be remembered."""
        raise NotImplementedError

    @staticmethod
    def raw_string(text: bytes) -> bytes:
        """The content, as spelled, of the string that is open at the end of `text`."""
        return text[opening_quote(text) + 1 :]

    def open_string(self, text: bytes) -> bytes:
        """As `raw_string`, decoded."""
        return _decoded(self.raw_string(text))

    def write(self, key: Any, row: list[int]) -> bool:
        """Write the cells of the state that `key` describes; whether whitespace may come first."""
        raise NotImplementedError

    def finish(self, state: int, register: int, stack: int) -> tuple[int, bytes]:
        """A completion of the top frame: the label it then returns, and its bytes (the closing one included)."""
        raise NotImplementedError

    def owes_others(self, state: int) -> bool:  # noqa: ARG002  (nothing is remembered here)
        """Whether the frame of this state still owes keys or items that must differ from those that came."""
        return False

    def used_at_worst(self, parent: int, label: int, used: int) -> int:  # noqa: ARG002  (nothing is remembered here)
        """The set of used keys after a key that is not known: the one whose absence makes the rest longest joined it.

        `label` is what the key returned to `parent`.
        """
        return used

    def returned_at_worst(self, parent: int, label: int) -> int:
        """As `returned`, for plans: what came may be just what they would have written next."""
        return self.returned(parent, label)

    def bounds(self, state: int, parent: int | None) -> dict[int, int] | None:  # noqa: ARG002  (no bound is an answer)
        """For each label that the frame of `state` may return: the most bytes until then, in any state that a string
        automaton of this first state can be in. None: not known. `parent`: the state it returns to, for keys."""
        return None

    def bounds_above(self, ways: dict[int, int], parent: int) -> dict[int, int] | None:
        """What `bounds` says of the frame of `parent`, which gets one of these labels after so many bytes."""
        found: dict[int, int] = {}
        for label, size in ways.items():
            target = self.returned(parent, label)
            onward = {} if target == DEAD else self.bounds(target, None)
            if onward is None:
                return None
            for outer, more in onward.items():
                found[outer] = max(size + more, found.get(outer, 0))
        return found

    def place_kind(self, configuration: int) -> PlaceKind:
        """What the next token would be part of."""
        raise NotImplementedError

    def open_value(self, configuration: int, text: bytes) -> bytes:  # noqa: ARG002  (nothing is remembered here)
        """What was read so far of an open key or item that later ones must differ from; empty where none must."""
        return b""

    def pointer(self, configuration: int, text: bytes) -> str:
        """The JSON Pointer, in the instance, of the value that the next token belongs to."""
        raise NotImplementedError

    def returned(self, parent: int, label: int) -> int:
        """The state that follows when a child returns `label` to `parent`; DEAD if none may."""
        raise NotImplementedError

    # ---------------------------------------------------------------- limits

    @property
    def nbytes(self) -> int:
        """Memory of tables and masks, roughly."""
        rows = len(self._rows) * (self.vocabulary.words * 4 + 300)
        moves = 100 * self._moves_known + 250 * len(self._key_moves)
        return self.kept_bytes + rows + moves + len(self._shared) * 300

    @property
    def kept_bytes(self) -> int:
        """The part of it that `trim` does not drop: rows of states, stacks and positions, which matchers refer to."""
        return self.tables.nbytes + len(self.configurations) * 450

    def trim(self) -> None:
        """Drop masks and remembered moves when over the limit: they are computed again when asked for."""
        if self.nbytes <= self.max_bytes:
            return
        self._masks = [None] * len(self._masks)
        self.moves = [{} for _ in self.moves]
        self._key_moves.clear()
        self._moves_known = 0
        self._shared.clear()
        self._views.clear()
        self._rows.clear()


def _distinct(work: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """What the noted places lack, once each: (code, state, label), sorted."""
    if len(work) < _FEW:
        noted = work[:, 5:].tolist()
        return sorted({(code, at, label if code == walk.NO_RETURN else 0) for code, at, label in noted})
    # Thousands of places that lack the same few things are told apart faster as one number each.
    labels = np.where(work[:, 5] == walk.NO_RETURN, work[:, 7], 0)
    packed = np.unique(work[:, 5] << 56 | work[:, 6] << 28 | labels).tolist()
    return [(each >> 56, each >> 28 & _FIELD, each & _FIELD) for each in packed]


def bit_words(bits: int, words: int) -> Int32:
    """A bit set as 32-bit words."""
    return np.frombuffer(bits.to_bytes(4 * words, "little"), np.int32)


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


def column(byte: int) -> int:
    """The cell of a structural byte in a row."""
    return _COLUMN[byte]
