"""Labelled phrases: what the classification texts are made of.

What it is for: one table of label sets, each label with the phrases that call for it. What may not enter: prompts.
"""

from __future__ import annotations


def _phrases(*lines: str) -> tuple[str, ...]:
    """The phrases of some lines, which bars part."""
    return tuple("|".join(lines).split("|"))


LABELLED: dict[str, dict[str, tuple[str, ...]]] = {
    "sentiment": {
        "positive": _phrases(
            "I love it|great quality|works perfectly|very happy with it|the best I ever had",
            "wonderful service|I would buy it again|excellent|amazing|highly recommended|it made my day",
            "really good|delicious",
        ),
        "negative": _phrases(
            "I hate it|it broke after a day|terrible quality|very disappointed|a waste of money",
            "awful service|never again|it does not work|the worst I ever had|too late and damaged",
            "really bad|boring|it is useless",
        ),
        "neutral": _phrases(
            "it arrived on Monday|it is a normal one|it is okay|nothing special|as described",
            "it does its job|the box is brown|average|neither good nor bad|I have used it twice",
        ),
    },
    "category": {
        "billing": _phrases(
            "I was charged twice|my invoice is wrong|I want a refund|the payment failed", "update my credit card"
        ),
        "technical": _phrases(
            "the app crashes|I see an error message|the page does not load|it will not start", "the update fails"
        ),
        "shipping": _phrases(
            "my parcel has not arrived|where is my order|the package is late|wrong delivery address",
            "the courier lost it",
        ),
        "account": _phrases(
            "I forgot my password|I cannot log in|please delete my account|change my user name", "my account is locked"
        ),
    },
    "topic": {
        "sports": _phrases(
            "the team won the match|she scored two goals|the race ended in a draw", "the coach praised the players"
        ),
        "politics": _phrases(
            "the parliament voted on the law|the minister resigned|the election is on Sunday",
            "the president gave a speech",
        ),
        "technology": _phrases(
            "the new phone has a faster chip|the software got an update|the robot can walk", "the startup built an app"
        ),
        "science": _phrases(
            "researchers found a new planet|the experiment confirmed the theory",
            "the telescope saw a galaxy|a cell divides",
        ),
        "business": _phrases(
            "the shares rose by ten percent|the company cut its costs|profits fell last year",
            "the bank raised its rates",
        ),
    },
    "urgency": {
        "high": _phrases(
            "please help immediately|this is an emergency|we need it right now|everything is down",
            "as soon as possible",
        ),
        "low": _phrases("no hurry|whenever you have time|just a small question|it can wait|next month is fine"),
    },
    "spam": {
        "spam": _phrases(
            "you won a prize, click here|cheap pills online|earn money fast|claim your free gift now",
            "limited offer, act now",
        ),
        "ham": _phrases(
            "see you at lunch|the meeting moved to three|here are the notes|call me when you are home", "happy birthday"
        ),
    },
    "language": {
        "English": _phrases("where is the station|I would like a coffee|the house is old|see you tomorrow"),
        "German": _phrases("wo ist der Bahnhof|ich hätte gern einen Kaffee|das Haus ist alt|bis morgen"),
        "French": _phrases("où est la gare|je voudrais un café|la maison est vieille|à demain"),
        "Spanish": _phrases("dónde está la estación|quisiera un café|la casa es vieja|hasta mañana"),
    },
}
