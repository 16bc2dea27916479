"""The legend of axes and label values that every docstring of the package speaks in.

    B   films in a batch            C   channels (1 = gray, 3 = what pretrained stems expect)
    H   rows of pixels, top first   W   columns of pixels; the patient's right is on the viewer's left
    F   findings, in the order of `findings` of the job, the model's outputs and `model.json`
    K   canonical streams that an epoch's order is made of
    N   films of a split, or of a data set

Labels are float32: 1 = present, 0 = absent, NaN = not labelled. Pixels are uint8 0..255, bright = dense
(bone is white, air is black: DICOM's MONOCHROME2), until the model's normalisation makes them float32.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
"""Gray films: [H, W] or [B, H, W], uint8."""

Labels: TypeAlias = NDArray[np.float32]
"""[N, F] float32: 0, 1, or NaN = not labelled."""

Scores: TypeAlias = NDArray[np.float64]
"""[N, F] float64 probabilities, 0..1."""

Rows: TypeAlias = NDArray[np.int64]
"""Row numbers in `index.parquet`."""
