"""What a plan is made of: which tensors are cut where, which outputs are added up, what attention is told.

What it is for: the words in which `plans` and `told` say how a family is divided. What may not enter: families, the
doing of it (`shares`).

The idea: names are those that checkpoints use and those that the modelling code uses (transformers fuses experts while
it loads), matched from their end. What no rule names is held whole by every rank: norms, routers, positions, low-rank
projections of latent attention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from engine.model.parallel.division import Cut, Division, Span, even, even_halves, once, vocabulary

Count = Literal["heads", "kv_heads", "part"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A tensor whose name ends like `pattern` is cut in dimension `dim`."""

    pattern: str
    dim: int
    cut: Cut


@dataclass(frozen=True, slots=True)
class Plan:
    """What is divided, what is added up, and what attention modules must be told about it."""

    rules: tuple[Rule, ...] = ()
    sums: tuple[str, ...] = ()  # modules whose outputs are summands
    norms: tuple[str, ...] = ()  # root-mean-square norms over all heads
    lists: Mapping[str, Count] = field(default_factory=dict)  # modules that list one for each head
    # Attributes of attention modules: numbers of this rank's heads, or numbers of which a rank has its part.
    attributes: Mapping[str, Count] = field(default_factory=dict)

    def __add__(self, other: Plan) -> Plan:
        return Plan(
            self.rules + other.rules,
            self.sums + other.sums,
            self.norms + other.norms,
            {**self.lists, **other.lists},
            {**self.attributes, **other.attributes},
        )

    def rule(self, name: str) -> Rule | None:
        """The rule for a tensor, if it is divided."""
        return next((rule for rule in self.rules if re.search(rf"(^|\.)(?:{rule.pattern})$", name)), None)

    def cut_of(self, layer: str, *, by: Literal["outputs", "inputs"]) -> Cut | None:
        """How a linear layer is cut on one side, if it is: its bias is cut with its outputs, or added once."""
        weight, bias = self.rule(f"{layer}.weight"), self.rule(f"{layer}.bias")
        if weight is None or bias is None or (bias.cut is weight.cut) != (by == "outputs"):
            return None
        return weight.cut

    def is_sum(self, name: str) -> bool:
        """Are a module's outputs summands?"""
        return any(re.search(rf"(^|\.)(?:{pattern})$", name) for pattern in self.sums)

    def is_shared_norm(self, name: str) -> bool:
        """Does a module normalise over what is divided?"""
        return any(re.search(rf"(^|\.)(?:{pattern})$", name) for pattern in self.norms)

    def own_of(self, name: str, division: Division) -> Span | None:
        """Which modules of a list are this rank's, if it lists one for each head."""
        counts = (count for pattern, count in self.lists.items() if re.search(rf"(^|\.)(?:{pattern})$", name))
        return next((division.queries if count == "heads" else division.keys for count in counts), None)


def by_outputs(names: str, cut: Cut, *, transposed: bool = False) -> Plan:
    """Linear layers of which each rank computes some outputs; `transposed` for weights (in, out)."""
    return Plan((Rule(rf"(?:{names})\.weight", int(transposed), cut), Rule(rf"(?:{names})\.bias", 0, cut)))


def by_inputs(names: str, cut: Cut, *, transposed: bool = False) -> Plan:
    """Linear layers that see some inputs on each rank; their outputs are summands, the bias is added once."""
    rules = Rule(rf"(?:{names})\.weight", 1 - int(transposed), cut), Rule(rf"(?:{names})\.bias", 0, once)
    return Plan(rules, sums=(names,))


WORDS = Plan(
    (
        Rule(r"(?:embed_tokens|embed_in|wte|word_embeddings|lm_head|embed_out)\.weight", 0, vocabulary),
        Rule(r"(?:lm_head|embed_out)\.bias", 0, vocabulary),
    )
)
EXPERTS = (
    # as transformers holds them: (experts, 2 · width, hidden) and (experts, hidden, width)
    Plan(
        (Rule(r"experts\.gate_up_proj", 1, even_halves), Rule(r"experts\.down_proj", 2, even)),
        sums=(r"mlp\.experts|block_sparse_moe\.experts",),
    )
    # as checkpoints do, each by itself
    + by_outputs(r"experts\.\d+\.(?:gate_proj|up_proj|w1|w3)", even)
    + by_inputs(r"experts\.\d+\.(?:down_proj|w2)", even)
)
COUNTED = Plan(attributes={"num_heads": "heads", "num_key_value_heads": "kv_heads"})
