"""The schemes by name, and which one is used when nobody says."""

from watermark.errors import SchemeError
from watermark.schemes.base import Choice, Contexts, Draws, Kind, Scheme
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.kgw import Kgw, SelfHash, Unigram
from watermark.schemes.synthid import SynthId

__all__ = [
    "SCHEMES",
    "Choice",
    "Contexts",
    "Draws",
    "Gumbel",
    "Kgw",
    "Kind",
    "Scheme",
    "SelfHash",
    "default_scheme",
    "scheme",
]

SCHEMES: dict[str, type[Scheme]] = {each.name: each for each in (Kgw, SelfHash, Unigram, Gumbel, SynthId)}


def scheme(name: str, **parameters: float) -> Scheme:
    """The scheme of this name with these parameters (its defaults for the rest)."""
    if name not in SCHEMES:
        raise SchemeError(f"unknown watermark scheme {name!r}; known: {', '.join(SCHEMES)}")
    try:
        return SCHEMES[name](**parameters)
    except TypeError:
        raise SchemeError(f"watermark scheme {name!r} does not take all of: {', '.join(parameters)}") from None


def default_scheme(*, greedy: bool) -> Scheme:
    """Keyed Gumbel where tokens are drawn; near-tie green lists at temperature 0, where there is no noise to key."""
    return Kgw() if greedy else Gumbel()
