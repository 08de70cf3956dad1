"""Recursive grammars of strings as rules beside the others: their words in the spelling that a JSON string has."""

from collections.abc import Iterable
from dataclasses import replace

from grammar.lexical import spelled_in_json
from grammar.rules.terms import Choice, Concat, Repeat, Rules, Term, Word, renamed
from grammar.schema.atoms import Derived


class Contents:
    """The grammars that strings of one constraint may follow."""

    def __init__(self, grammars: Iterable[Derived]) -> None:
        self._prefixes = {atom: f"{atom.pointer}({number})/" for number, atom in enumerate(dict.fromkeys(grammars))}
        self._spelled: dict[bytes, Word] = {}

    def rule(self, atom: Derived) -> str:
        """The rule that derives the spellings of a grammar's texts."""
        return self._prefixes[atom] + atom.rules.start

    def beside(self, rules: Rules) -> Rules:
        """The rules with those of the strings, which a reading may enter."""
        if not self._prefixes:
            return rules
        bodies = dict(rules.bodies)
        for atom, prefix in self._prefixes.items():
            for name, body in atom.rules.bodies.items():
                bodies[prefix + name] = renamed(self._respelled(body), prefix, 0)
        roots = {self.rule(atom): 1 << 0x22 for atom in self._prefixes}
        return replace(rules, bodies=bodies, roots=roots)

    def _respelled(self, term: Term) -> Term:
        if isinstance(term, Word):
            key = term.fingerprint
            if key not in self._spelled:
                self._spelled[key] = Word(spelled_in_json(term.language))
            return self._spelled[key]
        if isinstance(term, Repeat):
            return Repeat(self._respelled(term.item), term.low, term.high)
        if isinstance(term, Concat | Choice):
            return type(term)(tuple(map(self._respelled, term.items)))
        return term
