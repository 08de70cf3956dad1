"""Pictures show the evidence, and untrusted text stays text."""

from watermark import Standing, TokenScore
from watermark.picture import SHADES, STYLE, as_ansi, as_html, as_page, legend, shade_of, visible

STRONG = TokenScore(Standing.SCORED, 0.99)
PALE = TokenScore(Standing.SCORED, 0.01)
SHORT = TokenScore(Standing.SHORT_CONTEXT)
REPEATED = TokenScore(Standing.REPEATED)


def test_html_shades_scored_tokens_and_marks_the_others() -> None:
    """One span a scored token; forced text is plain."""
    page = as_html([("{", None), ("a", SHORT), ("b", STRONG), ("c", PALE), ("d", REPEATED)])
    assert page.startswith('<div class="wm">{<span data-unscored')
    assert '<span data-shade="4" title="0.990">b</span>' in page
    assert '<span data-shade="0" title="0.010">c</span>' in page
    assert "scored before" in page
    assert page.endswith("</div>")


def test_html_is_escaped() -> None:
    """Text cannot leave its span."""
    page = as_html([("<script>&\"'", None), ("</span><b>", STRONG)])
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;&amp;&quot;&#x27;" in page


def test_a_terminal_cannot_be_commanded() -> None:
    """Escape sequences and bidirectional overrides become signs; line breaks stay."""
    assert visible("a\x1b[2Jb\u202ec\r\n\td") == "a␣[2Jb␣c␣\n\td"
    shown = as_ansi([("\x1b]0;x\x07", STRONG)])
    assert shown.count("\x1b") == 2


def test_ansi_ends_its_colour_before_a_line_break() -> None:
    """And underlines what was free but not scored."""
    assert as_ansi([("a\n\nb", STRONG)]).count("\x1b[0m") == 2
    assert as_ansi([("a", SHORT)]) == "\x1b[4ma\x1b[0m"
    assert as_ansi([("plain", None), ("", STRONG)]) == "plain"


def test_every_shade_has_a_style() -> None:
    """From the palest to the strongest."""
    assert [shade_of(p) for p in (0.0, 0.2, 0.5, 0.99, 1.0)] == [0, 1, 2, 4, 4]
    assert all(f'data-shade="{shade}"' in STYLE for shade in range(SHADES))


def test_a_page_stands_alone_and_says_what_its_shades_mean() -> None:
    """No script, nothing loaded; what is told is escaped."""
    page = as_page(as_html([("word", TokenScore(Standing.SCORED, 0.9))]), "p < 0.1 & more")
    assert page.startswith("<!doctype html>")
    assert STYLE in page
    assert "p &lt; 0.1 &amp; more" in page
    assert '<span data-shade="4" title="0.900">word</span>' in page
    assert "<script" not in page
    assert "://" not in page


def test_the_legend_shows_every_shade_and_resets_the_terminal() -> None:
    assert all(f"48;5;{colour}m" in legend() for colour in (230, 194, 157, 114, 71))
    assert legend().count("\x1b[0m") == SHADES + 1
