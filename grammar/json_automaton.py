"""JSON on the automaton: for each kind of state its cells, and what follows when a child value or a key returns.

States are keyed by what they wait for: ("value", formula…), ("object", frame), ("member", …). The walk's tables hold
only numbers; every decision of the schema is taken here, once per state.
"""

from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from grammar.automaton import Automaton
from grammar.codes import RECORDED_LABEL
from grammar.formula import TRUE, Formula, Formulas
from grammar.frames.arrays import UNKNOWN, ArrayFrame, Item
from grammar.frames.languages import Machine, number_machine, string_machine
from grammar.frames.members import Shape
from grammar.frames.objects import Member, ObjectFrame
from grammar.frames.remaining import WordLists, ending_with, listed_words, word_holds
from grammar.frames.satisfy import Satisfiability
from grammar.json_completions import Completions
from grammar.kernels import fixed
from grammar.lexical.graphs import key_reach
from grammar.masks import bit_words
from grammar.options import JsonOptions
from grammar.places import PlaceKind
from grammar.pointers import open_pointer, opening_bracket
from grammar.schema.atoms import (
    ALL_TYPES,
    ARRAY,
    FALSE_VALUE,
    NULL,
    NUMBER,
    OBJECT,
    STRING,
    TRUE_VALUE,
    Constant,
    Contains,
    ItemCount,
    OfType,
    PropertyCount,
    Unique,
    possible_types,
    restrict,
)
from grammar.schema.constants import constant_in
from grammar.states import column
from grammar.tables import ALLOW_OFFSET, DEAD, KEY, LISTED, PLAIN, POP, PUSH, SPEC, STACK_STATE, STEP, operation
from grammar.tables import STRING as STRING_KIND
from grammar.vocabulary import Vocabulary

_PLACES: Final = {
    "in key": PlaceKind.KEY,
    "in string": PlaceKind.STRING,
    "in pattern": PlaceKind.PATTERN_STRING,
    "in enum": PlaceKind.ENUM,
    "in words": PlaceKind.ENUM,
    "in number": PlaceKind.NUMBER,
    "word": PlaceKind.LITERAL,
    "blank": PlaceKind.WHITESPACE,
    "end": PlaceKind.END,
    "done": PlaceKind.END,
    **dict.fromkeys(
        ("start", "value", "object", "after member", "next key", "colon", "array", "after item", "next item"),
        PlaceKind.PUNCTUATION,
    ),
}
_WORDS: Final = {TRUE_VALUE: b"true", FALSE_VALUE: b"false", NULL: b"null"}
_OPENING: Final = {0x22: STRING, 0x7B: OBJECT, 0x5B: ARRAY}
Tracked = tuple[Formula, ...]


class JsonAutomaton(Automaton):
    """The automaton of one formula over JSON values, in one spelling."""

    def __init__(self, vocabulary: Vocabulary, pool: Formulas, root: Formula, options: JsonOptions) -> None:
        super().__init__(vocabulary, max_blanks=options.max_whitespace, max_bytes=options.limits.bytes)
        self.outside = vocabulary.structural_trie
        self.pool = pool
        self.root_formula = root
        self.gaps = options.whitespace == "json"
        self.spaced = options.whitespace == "spaced"
        self.strict = options.whitespace != "json"
        self.satisfiable = Satisfiability(pool, ordered=options.property_order == "schema", strict=self.strict)
        self._entries: dict[tuple[int, tuple[int, ...], bool], list[tuple[int, int]]] = {}
        self._strings: dict[tuple[int, tuple[int, ...]], Machine] = {}
        self._numbers_of: dict[tuple[int, tuple[int, ...]], Machine] = {}
        self._recorded: dict[int, Machine] = {}
        self._key_blocks: dict[int, int] = {}
        self._word_lists = WordLists()
        self._allow_offsets: dict[tuple[int, int], int] = {}
        self.start = self.state(("start", root))
        self.completions = Completions(self)
        self.may_owe_others = _asks_for_others(pool)

    # ---------------------------------------------------------------- rows

    def write(self, key: Any, row: list[int]) -> bool:  # noqa: C901  (one case for each kind of state)
        """Write the cells of the state that `key` describes; whether whitespace may come first."""
        match key[0]:
            case "start":
                self._values(row, key[1], (), self.end)
                return False
            case "value":
                return self._write_value(row, key[1], key[2])
            case "object":
                return self._write_object(row, key[1])
            case "after member":
                return self._write_after(row, b"}", key[1], ("next key", key[1]), more=bool(key[1].allowed))
            case "next key":
                self._push_key(row, key[1])
                return self.gaps
            case "colon":
                row[column(0x3A)] = operation(STEP, self._spaced(("value", key[1], key[2])))
                return self.gaps
            case "array":
                return self._write_array(row, key[1])
            case "after item":
                return self._write_after(row, b"]", key[1], ("next item", key[1]), more=key[1].surely_goes_on)
            case "next item":
                self._items(row, key[1])
                return self.gaps
            case "blank":
                row[column(0x20)] = operation(STEP, self.state(key[1]))
                return False
            case _:
                return False

    def fill_next(self, state: int) -> int | None:
        """As `Automaton.fill_next`: behind a key its colon and its value are asked for together."""
        key = self.key_of(state)
        return self._spaced(("value", key[1], key[2])) if key[0] == "colon" and not self.spaced else None

    def _write_value(self, row: list[int], frame: ObjectFrame, number: int) -> bool:
        member = frame.member(number)
        assert member is not None
        self._values(row, member.goal, member.tracked, self.state(("member", frame, number)))
        return self.gaps

    def _write_object(self, row: list[int], frame: ObjectFrame) -> bool:
        self._close(row, 0x7D, frame)
        if frame.allowed:
            self._push_key(row, frame)
        return self.gaps

    def _write_array(self, row: list[int], frame: ArrayFrame) -> bool:
        self._close(row, 0x5D, frame)
        self._items(row, frame)
        return self.gaps

    def _write_after(
        self, row: list[int], close: bytes, frame: ObjectFrame | ArrayFrame, following: Any, *, more: bool
    ) -> bool:
        self._close(row, close[0], frame)
        if more:
            row[column(0x2C)] = operation(STEP, self._spaced(following))
        return self.gaps

    def _close(self, row: list[int], byte: int, frame: ObjectFrame | ArrayFrame) -> None:
        verdict = frame.verdict()
        if verdict is not None:
            mark = RECORDED_LABEL if frame.recorded else 0
            row[column(byte)] = operation(POP, self.labels.number(verdict) + mark)

    def _spaced(self, key: Any) -> int:
        return self.state(("blank", key) if self.spaced else key)

    def _items(self, row: list[int], frame: ArrayFrame) -> None:
        item = frame.item
        if item is not None:
            listed = self._listed_item(frame, item) if frame.is_recorded else None
            self._values(
                row,
                item.goal if listed is None else self._no_string(item.goal),
                item.tracked,
                self.state(("item", frame)),
                recorded=frame.is_recorded,
            )
            if listed is not None:
                row[column(0x22)] = listed
            for byte, kind in _OPENING.items():
                if not frame.surely_takes(kind):
                    row[column(byte)] = DEAD

    def _listed_item(self, frame: ArrayFrame, item: Item) -> int | None:
        """The push of an item's string, if a list says what it can be, and what it tells: the frame knows what is left.

        The list's automaton is one for all frames, and the label of a word says which it was.
        """
        words = listed_words(restrict(self.pool, item.goal, STRING))
        if not words or any(word_holds(restrict(self.pool, f, STRING), "") is None for f in item.tracked):
            return None
        held = self._word_lists.holding(words)
        returning = self.state(("listed item", frame, held))
        if not self.tables.get(ALLOW_OFFSET, returning):
            self.tables.put(ALLOW_OFFSET, returning, self.tables.add_cells(bit_words(held.bits(words), held.size)))
        base = self._reaching_block(held.machine, LISTED, "in words", held.size)
        return operation(PUSH, self.tables.push_id(returning, base))

    def _no_string(self, goal: Formula) -> Formula:
        return self.pool.all_of([goal, self.pool.literal(OfType(ALL_TYPES - {STRING}))])

    def _push_key(self, row: list[int], frame: ObjectFrame) -> None:
        returning = self.state(("key", frame))
        base = self._key_block(frame.shape)
        self.tables.put(ALLOW_OFFSET, returning, self._allow(frame))
        row[column(0x22)] = operation(PUSH, self.tables.push_id(returning, base, key=True))

    def _allow(self, frame: ObjectFrame) -> int:
        ident = (id(frame.shape), frame.allowed)
        found = self._allow_offsets.get(ident)
        if found is None:
            found = self._allow_offsets[ident] = self.tables.add_cells(bit_words(frame.allowed, frame.shape.words))
        return found

    def _key_block(self, shape: Shape) -> int:
        found = self._key_blocks.get(id(shape))
        if found is None:
            machine = shape.machine
            recorded = np.array([c.name is None for c in shape.classes])
            labels = machine.labels.copy()
            labels[labels >= 0] += np.where(recorded[labels[labels >= 0]], RECORDED_LABEL, 0).astype(np.int32)
            marked = Machine(machine.classes, machine.table, labels)
            self._kept = [*getattr(self, "_kept", []), marked]
            found = self._key_blocks[id(shape)] = self._reaching_block(marked, KEY, "in key", shape.words)
        return found

    def _reaching_block(self, machine: Machine, kind: int, tag: str, words: int) -> int:
        """The block of a machine whose frames allow some of its labels; with what each of its states can reach."""
        found = self._blocks.get(id(machine))
        if found is None:
            labels = np.where(machine.labels >= 0, machine.labels & (RECORDED_LABEL - 1), -1).astype(np.int32)
            reach = key_reach(fixed(machine.table), fixed(labels), words)
            found = self.machine_block(machine, kind, tag, strict=self.strict)
            self.tables.add_reach(self.tables.get(SPEC, found), reach.reshape(-1), words)
        return found

    # ---------------------------------------------------------------- values

    def _values(
        self, row: list[int], goal: Formula, tracked: Tracked, returning: int, *, recorded: bool = False
    ) -> None:
        entry = self._entry(goal, tracked, recorded=recorded)
        first = operation(PUSH, self.tables.add_pushes(returning, [child for _, child in entry]))
        for push, (where, _) in enumerate(entry, first):
            row[where] = push

    def _entry(self, goal: Formula, tracked: Tracked, *, recorded: bool) -> list[tuple[int, int]]:
        """(column, child state) for each way that a value can begin."""
        key = (goal.number, tuple(f.number for f in tracked), recorded)
        found = self._entries.get(key)
        if found is None:
            found = self._entries[key] = self._beginnings(goal, tracked, RECORDED_LABEL if recorded else 0)
        return found

    def _beginnings(self, goal: Formula, tracked: Tracked, mark: int) -> list[tuple[int, int]]:
        pool, judge, found = self.pool, self.satisfiable, []
        types = possible_types(goal)
        for kind, word in _WORDS.items():
            if kind in types and restrict(pool, goal, kind) is TRUE:
                label = self.labels.number(tuple(restrict(pool, f, kind) is TRUE for f in tracked))
                found.append((column(word[0]), self._word(word, label + mark)))
        for kind in (STRING, NUMBER, OBJECT, ARRAY):
            if kind not in types or not judge.may_be(goal, kind):
                continue
            asked = restrict(pool, goal, kind)
            told = tuple(restrict(pool, f, kind) for f in tracked)
            if kind == STRING:
                found.extend(judge.attempt(partial(self._string, asked, told, mark), otherwise=[]))
            elif kind == NUMBER:
                found.extend(judge.attempt(partial(self._number, asked, told, mark), otherwise=[]))
            elif kind == OBJECT:
                found.append(
                    (column(0x7B), self.state(("object", judge.objects.start(asked, told, recorded=bool(mark)))))
                )
            else:
                found.append(
                    (column(0x5B), self.state(("array", judge.arrays.frame(asked, told, recorded=bool(mark)))))
                )
        return found

    def _word(self, word: bytes, label: int) -> int:
        """The state after the first letter of true, false or null."""
        key = ("word", word, label)
        known = self._numbers.get(key)
        if known is not None:
            return known
        first = self.tables.add_states(len(word) - 1)
        self._keys.extend([key] * (len(word) - 1))
        self._numbers[key] = first
        classmap = np.zeros(290, np.uint8)
        letters = sorted(set(word[1:]))
        for i, byte in enumerate(letters, 1):
            classmap[byte] = i
        number = self.tables.add_map(classmap)
        for i, byte in enumerate(word[1:]):
            row = [DEAD] * (len(letters) + 1)
            last = i == len(word) - 2
            row[classmap[byte]] = operation(POP, label) if last else operation(STEP, first + i + 1)
            offset = self.tables.add_cells(row)
            self.tables.set_row(first + i, offset, number)
        return first

    def string_of(self, goal: Formula, tracked: Tracked) -> Machine:
        """The machine of a string goal."""
        key = (goal.number, tuple(f.number for f in tracked))
        machine = self._strings.get(key)
        if machine is None:
            make = partial(string_machine, self.pool, goal, tracked, self.labels.number)
            machine = self._strings[key] = make() if tracked else self.satisfiable.string(goal)
        return machine

    def least_string(self, goal: Formula, tracked: Tracked) -> tuple[int, bytes]:
        """A short string of a goal, without its quotes, and the label that it returns."""
        return self.completions.least_word(self.string_of(goal, tracked))

    def number_of(self, goal: Formula, tracked: Tracked) -> Machine:
        """The machine of a number goal."""
        key = (goal.number, tuple(f.number for f in tracked))
        machine = self._numbers_of.get(key)
        if machine is None:
            make = partial(number_machine, self.pool, goal, tracked, self.labels.number)
            machine = self._numbers_of[key] = make() if tracked else self.satisfiable.number(goal)
        return machine

    def _marked(self, machine: Machine, mark: int) -> Machine:
        """The machine with recorded labels; kept, for blocks are known by the identity of their machine."""
        if not mark:
            return machine
        found = self._recorded.get(id(machine))
        if found is None:
            found = replace(machine, labels=np.where(machine.labels >= 0, machine.labels + mark, -1).astype(np.int32))
            self._recorded[id(machine)] = found
        return found

    def _string(self, goal: Formula, tracked: Tracked, mark: int) -> list[tuple[int, int]]:
        machine = self._marked(self.string_of(goal, tracked), mark)
        free = goal is TRUE or machine.least > 0 or machine.most is not None
        tag = "in enum" if machine.literal else "in string" if free else "in pattern"
        block = self.machine_block(machine, STRING_KIND, tag, strict=self.strict and machine.literal)
        return [(column(0x22), block)]

    def _number(self, goal: Formula, tracked: Tracked, mark: int) -> list[tuple[int, int]]:
        machine = self._marked(self.number_of(goal, tracked), mark)
        base = self.machine_block(machine, PLAIN, "in number")
        return [(column(b), base + machine.step(0, b)) for b in b"-0123456789" if machine.step(0, b) >= 0]

    # ---------------------------------------------------------------- places and plans

    def finish(self, state: int, register: int, stack: int) -> tuple[int, bytes]:
        """A completion of the top frame: the label it then returns, and its bytes (the closing one included)."""
        return self.completions.finish(state, register, stack)

    def place_kind(self, configuration: int) -> PlaceKind:
        """What the next token would be part of."""
        return _PLACES[self.key_of(self.configurations[configuration][0])[0]]

    def pointer(self, configuration: int, text: bytes) -> str:
        """The JSON Pointer, in the instance, of the value that the next token belongs to."""
        del configuration
        return open_pointer(text)

    def owes_others(self, state: int) -> bool:
        """Whether the frame of this state still owes keys or items that must differ from those that came."""
        key = self.key_of(state)
        frame = (key[1] if key[0] == "blank" else key)[1]
        if isinstance(frame, ArrayFrame):
            return frame.is_recorded and frame.verdict() is None
        return isinstance(frame, ObjectFrame) and frame.owes_keys(besides=key[0] == "key")

    def used_at_worst(self, parent: int, label: int, used: int) -> int:
        """As `Automaton.used_at_worst`: the shortest unused key, for that is the one a later key would have been."""
        key, number = self.key_of(parent), label & (RECORDED_LABEL - 1)
        if key[0] != "key" or key[1].shape.classes[number].name is not None or not key[1].owes_further_keys:
            return used
        shortest = self.completions.unused_key(key[1].shape, number, self.tables.used_keys(used))
        return self.tables.used_with(used, shortest)

    def bounds(self, state: int, parent: int | None) -> dict[int, int] | None:
        """As `Automaton.bounds`; None where keys that come later depend on the keys so far."""
        key = self.key_of(state)
        match key[0]:
            case "end" | "done":
                return {0: 0}
            case "in string" | "in enum" | "in pattern" | "in number":
                machine = self.machine_at(state)
                far = self.completions.farthest(machine, string=key[0] != "in number")
                return dict.fromkeys(np.unique(machine.labels[machine.labels >= 0]).tolist(), far)
            case "in words":
                assert parent is not None
                return self._word_bounds(state, parent)
            case "in key":
                assert parent is not None
                frame = self.key_of(parent)[1]
                return None if frame.owes_further_keys else self.completions.key_bounds(frame)
        if self.owes_others(state):
            return None
        label, text = self.finish(state, 0, 0)
        return {label: len(text)}

    def _word_bounds(self, state: int, parent: int) -> dict[int, int] | None:
        """One word stands for all: what follows them differs in what is left only, where nothing is told of them."""
        _, frame, held = self.key_of(parent)
        if frame.tracked or frame.item.judged:
            return None
        machine, left = self.machine_at(state), self.words_left(parent)
        some = machine.labels[ending_with(machine, left).argmax()]
        return {int(some): self.completions.longest_word(held)}

    def bounds_above(self, ways: dict[int, int], parent: int) -> dict[int, int] | None:
        """As `Automaton.bounds_above`; the many keys of a simple object are bounded together."""
        key = self.key_of(parent)
        together = self.completions.simple_bound(key[1]) if key[0] == "key" else None
        if together is None:
            return super().bounds_above(ways, parent)
        return {together[0]: together[1] + max(ways.values(), default=0)}

    def open_value(self, configuration: int, text: bytes) -> bytes:
        """What was read so far of an open key or item that later ones must differ from; empty where none must."""
        state, _, stack = self.configurations[configuration]
        key, parent = self.key_of(state), self.key_of(self.tables.get(STACK_STATE, stack))
        bound = parent[0] == "item" and parent[1].is_recorded and parent[1].verdict() is None
        if bound and key[0] in ("object", "after member", "array", "after item"):
            return text[opening_bracket(text) :]
        if bound and key[0] == "in number":
            return text[len(text.rstrip(b"0123456789+-.eE")) :]
        if (bound and key[0] != "word") or (parent[0] == "key" and parent[1].owes_further_keys):
            return self.raw_string(text)
        return b""

    # ---------------------------------------------------------------- returns

    def returned(self, parent: int, label: int) -> int:
        """The state that follows when a child returns `label` to `parent`; DEAD if none may."""
        key = self.key_of(parent)
        match key[0]:
            case "end":
                return self.done
            case "key":
                return self._after_key(key[1], label & (RECORDED_LABEL - 1))
            case "member":
                return self._after_member(key[1].member(key[2]), label)
            case "listed item":
                return self._after_word(key[1].item, key[2].words[label])
            case "item":
                value = UNKNOWN if key[1].is_recorded else None
                return self._after_item(key[1].item, label & (RECORDED_LABEL - 1), value)
            case _:
                return DEAD

    def _after_key(self, frame: ObjectFrame, number: int) -> int:
        # What follows the colon is worked out where it is met: most keys that one token closes are never taken.
        return self.state(("colon", frame, number)) if frame.allowed >> number & 1 else DEAD

    def _after_member(self, member: Member, label: int) -> int:
        verdict = self.labels.verdict(label)
        false = [a for a, held in zip(member.judged, verdict, strict=True) if not held]
        return self.state(("after member", member.next.settled(false)))

    def _after_item(self, item: Item, label: int, value: Constant | None) -> int:
        return self.state(("after item", item.frame.after(item.judged, self.labels.verdict(label), value)))

    def _after_word(self, item: Item, word: str) -> int:
        verdict = tuple(bool(word_holds(restrict(self.pool, f, STRING), word)) for f in item.tracked)
        return self.state(("after item", item.frame.after(item.judged, verdict, (STRING, word))))

    def returned_item(self, parent: int, label: int, state: int, text: bytes | None) -> int:
        """As `returned`, for an item whose value, which ends in `state`, is to be remembered."""
        item = self.key_of(parent)[1].item
        if text is None:
            return self.returned_at_worst(parent, label)
        return self._after_item(item, label & (RECORDED_LABEL - 1), self._last_value(self.key_of(state), text))

    def returned_at_worst(self, parent: int, label: int) -> int:
        """As `returned`; an item that is not known is taken for the shortest, which a later one would have been."""
        key = self.key_of(parent)
        if key[0] != "item" or not self.owes_others(parent):
            return self.returned(parent, label)
        item, number = key[1].item, label & (RECORDED_LABEL - 1)
        shortest = constant_in(self.completions.value(item.goal, item.tracked)[1])
        frame = item.frame.after(item.judged, self.labels.verdict(number), shortest)
        return self.state(("after item", frame)) if frame.feasible else self.returned(parent, label)

    def _last_value(self, key: Any, text: bytes) -> Constant:
        """The value that is open at the end of `text`, as if it were closed there."""
        match key[0]:
            case "word":
                return constant_in(key[1])
            case "in number":
                return constant_in(text[len(text.rstrip(b"0123456789+-.eE")) :])
            case "object" | "after member":
                return constant_in(text[opening_bracket(text) :] + b"}")
            case "array" | "after item":
                return constant_in(text[opening_bracket(text) :] + b"]")
            case _:
                return STRING, self.open_string(text).decode()


def _asks_for_others(pool: Formulas) -> bool:
    """Whether two members or more are asked for, or items that differ."""
    literals = pool.literals
    if any(isinstance(a, PropertyCount) and (a.least > 1 or (not positive and a.most)) for a, positive in literals):
        return True
    if not any(isinstance(a, Unique) for a, _ in literals):
        return False
    several = (
        isinstance(a, Contains) or (isinstance(a, ItemCount) and (a.least > 1 or not positive))
        for a, positive in literals
    )
    return any(several)
