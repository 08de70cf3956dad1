"""Weights in fewer bits: which schemes, who makes or reads them, and what they are to our products.

What it is for: `chosen` decides (`schemes`), `load_quantized` loads. Who does what: transformers and the schemes' own
packages make weights and, on a GPU, multiply (`requests`); on a CPU our products multiply codes (`coded`), taken out of
the packages' modules (`libraries`) or read from a checkpoint without them (`checkpoints`). What may not enter: kernels,
devices' executors.
"""

from engine.model.quantization.checkpoints import Part
from engine.model.quantization.coded import CodedLinear, CodedWeight
from engine.model.quantization.loading import load_quantized, quantize_share, stored_bytes
from engine.model.quantization.schemes import SCHEMES, Quantization, Scheme, chosen, dtype_of, reads_here

__all__ = [
    "SCHEMES",
    "CodedLinear",
    "CodedWeight",
    "Part",
    "Quantization",
    "Scheme",
    "chosen",
    "dtype_of",
    "load_quantized",
    "quantize_share",
    "reads_here",
    "stored_bytes",
]
