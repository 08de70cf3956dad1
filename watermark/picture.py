"""A token-by-token picture of the evidence: HTML for a page, ANSI for a terminal.

Scored tokens are shaded by where their score lies in the null distribution: pale is what any text shows, strong green
is what the key asked for. In marked text strong green prevails; in other text the shades are mixed evenly. Text is
untrusted: it is escaped for HTML, and control and bidirectional characters are made visible, so that it cannot
command a terminal. The picture shows what the key says of each token: for the key's owner only.
"""

import html
import unicodedata
from collections.abc import Iterable

from watermark.detector import Standing, TokenScore

Piece = tuple[str, TokenScore | None]
"""A token's text and its score; None for a token that was no free choice."""

SHADES = 5
STYLE = """\
.wm { white-space: pre-wrap; font-family: ui-monospace, monospace; line-height: 1.6 }
.wm [data-shade] { border-radius: 2px; color: #111 }
.wm [data-shade="0"] { background: #f3f0e8 } .wm [data-shade="1"] { background: #e3efdb }
.wm [data-shade="2"] { background: #c4e5b5 } .wm [data-shade="3"] { background: #93d283 }
.wm [data-shade="4"] { background: #4fb556 }
.wm [data-unscored] { border-bottom: 1px dotted #999 }
"""
_ANSI_SHADES = (230, 194, 157, 114, 71)  # the same five in the 256-colour cube
_RESET = "\x1b[0m"
_TITLES = {
    Standing.SHORT_CONTEXT: "free, but too near the start of its value to be scored",
    Standing.REPEATED: "free, but its context was scored before",
    Standing.COMMONPLACE: "free, but texts of its kind all say this",
}


def shade_of(percentile: float) -> int:
    """0 … SHADES − 1; equally likely in unmarked text for a continuous score."""
    return min(SHADES - 1, int(percentile * SHADES))


def as_html(pieces: Iterable[Piece]) -> str:
    """A `<div class="wm">` of spans; put STYLE into the page once. No script, no inline style."""
    return f'<div class="wm">{"".join(_span(text, score) for text, score in pieces)}</div>'


def as_page(fragment: str, summary: str) -> str:
    """A page of its own around what `as_html` made: style, the detector's answer in words, what the shades mean."""
    shades = " ".join(f'<span data-shade="{shade}">{100 * shade // SHADES} %</span>' for shade in range(SHADES))
    return (
        f'<!doctype html>\n<meta charset="utf-8">\n<title>Watermark</title>\n<style>\n{STYLE}</style>\n'
        f"<p>{html.escape(summary)}</p>\n"
        f'<p class="wm">{shades} and more of unmarked tokens score lower; <span data-unscored>free, not scored</span>; '
        f"plain: no free choice</p>\n{fragment}\n"
    )


def legend() -> str:
    """What `as_ansi` shows, in its own colours."""
    shades = " ".join(
        f"\x1b[30;48;5;{colour}m {100 * shade // SHADES} % {_RESET}" for shade, colour in enumerate(_ANSI_SHADES)
    )
    return f"{shades} and more of unmarked tokens score lower; \x1b[4mfree, not scored{_RESET}; plain: no free choice"


def _span(text: str, score: TokenScore | None) -> str:
    shown = html.escape(visible(text))
    if score is None:
        return shown
    if score.percentile is None:
        return f'<span data-unscored title="{_TITLES[score.standing]}">{shown}</span>'
    return f'<span data-shade="{shade_of(score.percentile)}" title="{score.percentile:.3f}">{shown}</span>'


def as_ansi(pieces: Iterable[Piece]) -> str:
    """The same for a 256-colour terminal: shaded background when scored, underlined when free but not scored."""
    return "".join(_coloured(text, score) for text, score in pieces)


def _coloured(text: str, score: TokenScore | None) -> str:
    shown = visible(text)
    if score is None or not shown:
        return shown
    if score.percentile is None:
        return f"\x1b[4m{shown}{_RESET}"
    colour = f"\x1b[30;48;5;{_ANSI_SHADES[shade_of(score.percentile)]}m"
    # The background ends before a line break, else the terminal paints the rest of the line.
    return "\n".join(f"{colour}{line}{_RESET}" if line else "" for line in shown.split("\n"))


def visible(text: str) -> str:
    """The text with control and format characters (escape, backspace, bidirectional marks, …) replaced by a sign."""
    return "".join(char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf") else "␣" for char in text)
