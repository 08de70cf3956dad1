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
    formats: Literal["assert", "narrow", "annotation"] = "assert"
    """`narrow`: a format of which whole kinds of texts cannot be offered (`hostname`: A-labels) is offered without
    them, not refused."""
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

    @property
    def is_tidy(self) -> bool:
        """Whether texts are spelled as writers of JSON spell them, so that more is forced and nothing surprises."""
        return self.whitespace != "json"

    @property
    def spelling(self) -> list[str]:
        """What no text under these options has although JSON allows it."""
        return [*([_ORDERED] if self.property_order == "schema" else []), self._gaps(), *_ALWAYS]

    def _gaps(self) -> str:
        if self.whitespace == "json":
            return (
                "between tokens stand nothing, one blank, or one newline and at most "
                f"{self.max_whitespace} blanks or tabs; nothing stands around the value"
            )
        gaps = '", " and ": "' if self.whitespace == "spaced" else '"," and ":"'
        return (
            f"{gaps} separate members and items, and nothing else; listed strings and keys have no needless escapes, "
            "numbers that must be integers neither point nor exponent"
        )


_ORDERED = "properties come in the order in which the schema names them, others last"
_ALWAYS = (
    "no key comes twice in one object",
    "no string has a lone surrogate",
    "numbers have at most 40 digits on each side of the point and 4 in the exponent, unless a constant needs more",
)
_ALLOWED = {
    "property_order": ("any", "schema"),
    "whitespace": ("json", "spaced", "compact"),
    "formats": ("assert", "narrow", "annotation"),
}
