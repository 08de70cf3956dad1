"""How a JSON constraint is to be spelled, and what it may cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class GrammarLimits:
    """Bounds on one grammar; past one, compilation or the walk raises GrammarTooLarge."""

    time: float = 10.0
    """Seconds a caller should give a compile worker; the grammar room itself has no clock."""
    bytes: int = 256 << 20
    """Tables and masks of one grammar; masks beyond it are dropped and computed again."""
    depth: int = 200
    """Nesting of the schema."""
    repeats: int = 20_000
    """Copies of its body that a counted repeat may be unrolled to."""


@dataclass(frozen=True, slots=True)
class JsonOptions:
    """The options of `compile_json_schema`."""

    property_order: Literal["any", "schema"] = "any"
    whitespace: Literal["json", "spaced", "compact"] = "json"
    max_whitespace: int = 64
    formats: Literal["assert", "annotation"] = "assert"
    documents: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    """The text that strings under `"x-source": "input"` quote from."""
    limits: GrammarLimits = field(default_factory=GrammarLimits)

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if not isinstance(self.source, str | None):
            raise ValueError(f"source must be a text to quote from, not {type(self.source).__name__}")
        if not 0 <= self.max_whitespace <= 1 << 16:
            raise ValueError("max_whitespace must be between 0 and 65536")


_ALLOWED = {
    "property_order": ("any", "schema"),
    "whitespace": ("json", "spaced", "compact"),
    "formats": ("assert", "annotation"),
}
