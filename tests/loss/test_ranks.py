"""The gradient of a step is the same on 1, 2 and 4 ranks, with any micro-batches: real gloo processes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

WORKER = Path(__file__).parent / "ranks_worker.py"


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """`<loss> <ranks> <micro-batches>` → the gradient that rank 0 is left with."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder)], capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, torch.Tensor] = torch.load(folder / "out.pt", weights_only=True)
    return found


@pytest.mark.parametrize("kind", ["weighted_bce", "focal", "asymmetric"])
def test_gradient_is_the_same_however_films_are_dealt_out(
    gradients: dict[str, torch.Tensor], kind: str
) -> None:
    """Labels are missing unevenly: whole ranks see no film that is labelled for a finding, and ranks differ in films."""
    whole = gradients[f"{kind} 1 1"]
    assert whole.abs().min() > 1e-6
    others = [f"{kind} {ranks} {parts}" for ranks in (1, 2, 4) for parts in (1, 3)]
    assert set(others) <= set(gradients)
    for name in others:
        np.testing.assert_allclose(gradients[name], whole, rtol=1e-9, atol=1e-12, err_msg=name)
