"""Which watermark a request gets, and finding it again.

What it is for: the server's policy, the key ring, and the detector. What may not enter: how a scheme works
(watermark/), which positions are eligible (the grammar's replay), what is told of a text (detection).
"""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engine.messages import Mark
from service.errors import Forbidden
from watermark import Commonplaces, Detector, KeyRing, Reason, default_scheme

_LOG = logging.getLogger(__name__)
Policy = Literal["default", "enforce", "off"]
CONTEXT = 8  # tokens before a choice that are kept: more than any scheme reads
SCHEMES = (default_scheme(greedy=False), default_scheme(greedy=True))


@dataclass(frozen=True)
class Marker:
    """The server's watermark."""

    policy: Policy
    ring: KeyRing
    threshold: float
    key_file: str | None = None  # where the engine reads the same ring
    context: int = CONTEXT
    commonplaces: Commonplaces | None = None  # what the detector never counts

    def mark(self, wanted: bool | None, *, greedy: bool, tenant: str | None) -> tuple[Mark | None, Reason | None]:
        """The mark to ask the engine for, or why there is none."""
        if self.policy == "off":
            if wanted:
                raise Forbidden("this server does not watermark", param="formwork.watermark")
            return None, Reason.DISABLED
        if wanted is False:
            if self.policy == "enforce":
                raise Forbidden("this server watermarks every response", param="formwork.watermark")
            return None, Reason.NOT_REQUESTED
        scheme = default_scheme(greedy=greedy)
        return Mark(scheme=scheme.name, key_id=self.ring.active, tenant=tenant), None

    def detector(self, tenant: str | None, key_id: str | None = None) -> Detector:
        """Looks for every key of the tenant under the schemes the server marks with. Raises UnknownKey."""
        keys = self.ring if key_id is None else [self.ring.key(key_id, tenant)]
        return Detector(SCHEMES, keys, tenant)


def make_marker(policy: Policy, threshold: float, keys: str, key_file: str) -> Marker:
    """The ring from settings; without any, one fresh key, whose marks nobody finds after the service has ended."""
    if key_file:
        return Marker(policy, KeyRing.from_file(key_file), threshold, key_file)
    ring = KeyRing.from_environment({"FORMWORK_WATERMARK_KEYS": keys})
    if ring is not None:
        return Marker(policy, ring, threshold, _written(keys))
    if policy != "off":
        _LOG.warning("no watermark key is configured: a key made now marks this run only (FORMWORK_WATERMARK_KEYS)")
    path = _fresh_path()
    return Marker(policy, KeyRing.create_file(path, "generated"), threshold, path)


def with_commonplaces(marker: Marker, setting: str, folder: Path, vocabulary: str) -> Marker:
    """The marker with the detector's own commonplaces, if there are any. Raises CommonplacesError."""
    return replace(marker, commonplaces=Commonplaces.of_model(setting, folder, vocabulary))


def _fresh_path() -> str:
    return str(Path(tempfile.mkdtemp(prefix="formwork-keys-")) / "keys.toml")


def _written(keys: str) -> str:
    """The engine reads its ring from a file of this user alone, so that no secret is in argv or on a socket."""
    path = _fresh_path()
    entries = [entry.strip().partition(":") for entry in keys.split(",")]
    lines = [f'active = "{entries[0][0]}"', "[keys]", *(f'"{name}" = "{secret}"' for name, _, secret in entries)]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return path


def discard_key_file(marker: Marker, configured: str) -> None:
    """Removes the ring's temporary file."""
    if marker.key_file and marker.key_file != configured:
        place = Path(marker.key_file)
        place.unlink(missing_ok=True)
        place.parent.rmdir()
