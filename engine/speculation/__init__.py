"""engine.speculation: guesses at the tokens that follow, and how many of them a step should verify."""

from engine.speculation.cost import StepCost, cost_clock, measured
from engine.speculation.drafting import Drafter, Guess, Speculator
from engine.speculation.endings import Endings
from engine.speculation.forced import ForcedText
from engine.speculation.rates import Rates, Source
from engine.speculation.speculation import Speculation

__all__ = [
    "Drafter",
    "Endings",
    "ForcedText",
    "Guess",
    "Rates",
    "Source",
    "Speculation",
    "Speculator",
    "StepCost",
    "cost_clock",
    "measured",
]
