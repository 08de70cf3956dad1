"""Compiling every kernel before the first request needs one: a second or two, a fraction of one from the disk cache."""

import numpy as np

from watermark.embedder import Embedder
from watermark.keys import Key
from watermark.schemes import SCHEMES, Contexts, Kind
from watermark.schemes import scheme as scheme_of


def warm() -> None:
    """Run each scheme once as the sampler and the detector do; no result is kept."""
    ids, logits = np.arange(5, dtype=np.int32), np.zeros(5, dtype=np.float32)
    key = Key.derive(bytes(16), id="warming")
    for name in SCHEMES:
        scheme = scheme_of(name)
        embedder = Embedder(scheme, key)
        context = (1, 2, 3, 4)
        for greedy in (False, True):
            embedder.choose(ids, logits, context, Kind.PROSE, 0.5, greedy=greedy)
            embedder.choose(ids, logits, (), Kind.PROSE, 0.5, greedy=greedy)
        scheme.scores(np.array([1], dtype=np.int64), Contexts.of([context[4 - scheme.h(Kind.PROSE) :]]), key)
