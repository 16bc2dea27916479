"""Scoring fails unless each film of the split comes exactly once."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ray_cxr.errors import RayCxrError
from ray_cxr.train.scoring import score_split
from ray_cxr.train.worker import Worker

ROWS = np.array([7, 2, 9, 4])
"""Rows of a split, in the order in which it is read."""


class Brightness(nn.Module):
    """Logits [B, 1]: the mean of a film."""

    findings = 1

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float().mean((1, 2))[:, None]


@dataclass
class Batches:
    """A stream of films that are as bright as their row, two at a time."""

    rows: NDArray[np.int64]
    split = "validation"
    layout = SimpleNamespace(rows=ROWS, films=len(ROWS))

    def score(self) -> Any:
        for at in range(0, len(self.rows), 2):
            rows = self.rows[at : at + 2]
            pixels = np.broadcast_to(rows[:, None, None], (len(rows), 3, 3)).astype(np.uint8)
            yield SimpleNamespace(rows=rows, pixels=pixels)


def _scored(rows: Any, model: nn.Module | None = None) -> Any:
    return score_split(model or Brightness(), Batches(np.array(rows, np.int64)), Worker())  # type: ignore[arg-type]


def test_films_come_in_the_order_of_the_index_with_their_own_logits() -> None:
    rows, logits = _scored(ROWS)
    assert rows.tolist() == [2, 4, 7, 9]
    assert logits.tolist() == [[2], [4], [7], [9]] and logits.dtype == np.float32


@pytest.mark.parametrize(
    ("rows", "films"),
    [([7, 2, 9], 3), ([7, 2, 9, 4, 4], 5), ([7, 2, 9, 9], 4), ([7, 2, 9, 5], 4), ([], 0)],
    ids=["lost", "twice", "one twice and one lost", "another", "none"],
)
def test_any_other_count_fails_the_run(rows: list[int], films: int) -> None:
    sentence = f"scoring the validation split gave {films} films where 4 were planned"
    with pytest.raises(RayCxrError, match=sentence) as caught:
        _scored(rows)
    assert caught.value.exit_code == 1


def test_films_without_a_finite_logit_are_named_by_their_rows() -> None:
    class Broken(Brightness):
        def forward(self, pixels: Tensor) -> Tensor:
            logits = super().forward(pixels)
            return torch.where(logits == 9, torch.nan, logits)

    with pytest.raises(
        RayCxrError, match=r"no finite number for 1 films \(index rows 9\); train with a smaller"
    ):
        _scored(ROWS, Broken())
