"""One model over several ranks: each holds a share of every layer, and they add up what their shares gave.

What it is for: `division` says which part of a dimension is one rank's, `plans` which tensors of a family are divided
and how, `shares` reads a rank's part of a checkpoint and makes the model that fits it, `group` is how ranks talk. What
may not enter: processes (`engine.team` starts them), scheduling, sampling: only rank 0 has those.

The idea: attention is divided by heads, the MLP by its width, the vocabulary by rows (Megatron-LM, arXiv:1909.08053). A
layer's first projections are divided by outputs, so each rank goes on alone; the last by inputs, so that what the ranks
have are summands. Two sums a layer, one for the embedding, and rank 0 collects the logits.
"""

from engine.model.parallel.division import Division
from engine.model.parallel.group import Group, ProcessGroup
from engine.model.parallel.plans import PARALLEL_TYPES, divide, plan_of
from engine.model.parallel.rules import Plan
from engine.model.parallel.shares import join, load_share, share_norms, whole_columns, whole_output

__all__ = [
    "PARALLEL_TYPES",
    "Division",
    "Group",
    "Plan",
    "ProcessGroup",
    "divide",
    "join",
    "load_share",
    "plan_of",
    "share_norms",
    "whole_columns",
    "whole_output",
]
