"""Constraints by name.

What it is for: `/v1/grammars` gives names, `formwork.grammar` uses them. Each key has its own, at most a fixed number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.constraints import Constraint
from service.errors import InvalidBody

_LIMIT = 1000


@dataclass(slots=True)
class Names:
    _by_tenant: dict[str, dict[str, Constraint]] = field(default_factory=dict)

    def keep(self, tenant: str, name: str, constraint: Constraint) -> None:
        """Names a constraint; the same name again replaces it."""
        named = self._by_tenant.setdefault(tenant, {})
        if name not in named and len(named) >= _LIMIT:
            raise InvalidBody(f"{_LIMIT} names are in use; delete one first", param="name")
        named[name] = constraint

    def find(self, tenant: str, name: str) -> Constraint:
        """The constraint of this name; raises InvalidBody."""
        found = self.of(tenant).get(name)
        if found is None:
            known = ", ".join(sorted(self.of(tenant))[:20]) or "none"
            raise InvalidBody(f"no constraint is named {name[:128]!r}; known: {known}", param="formwork.grammar")
        return found

    def drop(self, tenant: str, name: str) -> bool:
        """Forgets a name; False if there was none."""
        return self._by_tenant.get(tenant, {}).pop(name, None) is not None

    def of(self, tenant: str) -> Mapping[str, Constraint]:
        return self._by_tenant.get(tenant, {})
