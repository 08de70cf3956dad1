"""The watermark: keyed choices that leave a trace, and the statistics that find it.

What may not enter: models, grammars, scheduling, HTTP. The engine calls `Embedder` for each free choice; the service
replays a text's grammar and hands the free choices to `Detector`. Both sides read the same keyed function
(`watermark.prf`) under the same key (`watermark.keys`), and there is no second copy of either. Nothing here imports
torch but `watermark.tensors`, and Triton but `watermark.triton_words`.
"""

from watermark.commonplaces import Commonplaces
from watermark.detector import Detection, Detector, Standing, TokenScore
from watermark.embedder import Embedder, Reason, Report
from watermark.errors import CommonplacesError, KeyRingError, SchemeError, UnknownKey, WatermarkError
from watermark.gathering import LeaveOut, Position, Positions
from watermark.keys import Key, KeyRing
from watermark.scan import Passage
from watermark.schemes import SCHEMES, Choice, Kind, Scheme, default_scheme, scheme
from watermark.warming import warm

__all__ = [
    "SCHEMES",
    "Choice",
    "Commonplaces",
    "CommonplacesError",
    "Detection",
    "Detector",
    "Embedder",
    "Key",
    "KeyRing",
    "KeyRingError",
    "Kind",
    "LeaveOut",
    "Passage",
    "Position",
    "Positions",
    "Reason",
    "Report",
    "Scheme",
    "SchemeError",
    "Standing",
    "TokenScore",
    "UnknownKey",
    "WatermarkError",
    "default_scheme",
    "scheme",
    "warm",
]
