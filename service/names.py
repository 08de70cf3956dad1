"""Constraints by name, kept over restarts where a folder is given.

What it is for: `/v1/grammars` gives names, `formwork.grammar` uses them. Each key has its own, at most a fixed number.
What may not enter: compiled plans (they belong to one vocabulary; what is kept is the constraint as it was sent).

The idea: one file a name, written whole and sealed (kind, version, checksum; no pickle), called by a hash of key and
name. What a file says is trusted no more than a request: it is checked against its own name and decoded by type.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from grammar.errors import GrammarError
from grammar.sealed import seal, unseal
from service.constraints import Constraint, ConstraintKind
from service.errors import InvalidBody, StorageUnavailable

_LIMIT = 1000
_LIMIT_BYTES = 16 << 20  # of one key's constraints, as they were sent
_KIND, _VERSION = b"named constraint", 1
_LOG = logging.getLogger(__name__)


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """What a file holds."""

    tenant: str
    name: str
    kind: ConstraintKind
    source: str
    options: str
    param: str | None
    refusal: bool

    @property
    def constraint(self) -> Constraint:
        return Constraint(self.kind, self.source, self.options, self.param, self.refusal)


@dataclass(frozen=True, slots=True)
class NameFolder:
    """A folder of named constraints, of at most so many bytes in all."""

    folder: Path
    limit_bytes: int

    def load(self) -> Iterator[tuple[str, str, Constraint]]:
        """All that is there: tenant, name, constraint. What is damaged is left alone and logged."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self.folder.glob("*.named")):
            try:
                if path.stat().st_size > self.limit_bytes:
                    raise GrammarError("larger than the folder may be")
                kept = msgspec.msgpack.decode(unseal(_KIND, _VERSION, path.read_bytes()), type=_Kept)
                if path != self._path(kept.tenant, kept.name):
                    raise GrammarError("it is not called by what it holds")
            except (OSError, GrammarError, msgspec.MsgspecError) as error:
                _LOG.warning("%s is no named constraint: %s", path, error)
                continue
            yield kept.tenant, kept.name, kept.constraint

    def write(self, tenant: str, name: str, constraint: Constraint) -> None:
        """Whole or not at all; raises InvalidBody if the folder would become too large."""
        kept = _Kept(
            tenant, name, constraint.kind, constraint.source, constraint.options, constraint.param, constraint.refusal
        )
        data = seal(_KIND, _VERSION, msgspec.msgpack.encode(kept))
        path = self._path(tenant, name)
        others = sum(each.stat().st_size for each in self.folder.glob("*.named") if each != path)
        if others + len(data) > self.limit_bytes:
            raise InvalidBody("the names kept here are as large as they may be; delete one first", param="name")
        handle, written = tempfile.mkstemp(dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(written).replace(path)
        except BaseException:
            Path(written).unlink(missing_ok=True)
            raise

    def remove(self, tenant: str, name: str) -> None:
        self._path(tenant, name).unlink(missing_ok=True)

    def _path(self, tenant: str, name: str) -> Path:
        digest = hashlib.sha256(b"\0".join((tenant.encode(), name.encode())))
        return self.folder / f"{digest.hexdigest()[:40]}.named"


@contextmanager
def _disk() -> Iterator[None]:
    """What goes wrong there is told as ours, and as what it is."""
    try:
        yield
    except OSError as error:
        _LOG.warning("the folder of names: %s", error)
        raise StorageUnavailable(f"the change could not be kept: {error.strerror}") from error


@dataclass(slots=True)
class Names:
    """The names in use; with a folder they are read from it at first, and every change is written to it."""

    kept: NameFolder | None = None
    _by_tenant: dict[str, dict[str, Constraint]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for tenant, name, constraint in self.kept.load() if self.kept is not None else ():
            self._by_tenant.setdefault(tenant, {})[name] = constraint

    def keep(self, tenant: str, name: str, constraint: Constraint) -> None:
        """Names a constraint; the same name again replaces it. Raises InvalidBody or StorageUnavailable."""
        named = self._by_tenant.setdefault(tenant, {})
        if name not in named and len(named) >= _LIMIT:
            raise InvalidBody(f"{_LIMIT} names are in use; delete one first", param="name")
        others = sum(len(each.source) for other, each in named.items() if other != name)
        if others + len(constraint.source) > _LIMIT_BYTES:
            raise InvalidBody(f"named constraints may have {_LIMIT_BYTES} characters in all", param="name")
        if self.kept is not None:
            with _disk():
                self.kept.write(tenant, name, constraint)
        named[name] = constraint

    def find(self, tenant: str, name: str) -> Constraint:
        """The constraint of this name; raises InvalidBody."""
        found = self.of(tenant).get(name)
        if found is None:
            known = ", ".join(sorted(self.of(tenant))[:20]) or "none"
            raise InvalidBody(f"no constraint is named {name[:128]!r}; known: {known}", param="formwork.grammar")
        return found

    def drop(self, tenant: str, name: str) -> bool:
        """Forgets a name; False if there was none. Raises StorageUnavailable, and then it is still there."""
        if name not in self._by_tenant.get(tenant, {}):
            return False
        if self.kept is not None:
            with _disk():
                self.kept.remove(tenant, name)
        return self._by_tenant[tenant].pop(name, None) is not None

    def of(self, tenant: str) -> Mapping[str, Constraint]:
        return self._by_tenant.get(tenant, {})
