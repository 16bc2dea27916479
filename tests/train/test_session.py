"""What training begins with: the memory format of the model."""

from collections.abc import Callable

import pytest
import torch

from ray_cxr.job import Job, load_job
from ray_cxr.train.session import open_session, wants_channels_last
from ray_cxr.train.worker import Worker


def test_memory_format_is_what_is_asked_for_and_changes_logits_by_rounding_only(
    nih_job: Callable[..., Job], nih_dataset: str
) -> None:
    films = torch.randint(0, 256, (4, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    logits = {}
    for asked in (True, False):
        job = nih_job(f"dataset={nih_dataset}", f"train.channels_last={asked}")
        session = open_session(job, Worker())
        stem = session.model.network.get_parameter("stem.0.weight")
        assert stem.is_contiguous(memory_format=torch.channels_last) is asked
        logits[asked] = session.model(films).detach()
        session.close()
    assert torch.allclose(logits[True], logits[False], atol=1e-5)
    assert float(logits[True].std()) > 1e-4


@pytest.mark.parametrize(
    ("asked", "cpu", "cuda"), [("auto", True, False), ("true", True, True), ("false", False, False)]
)
def test_auto_goes_by_the_device(asked: str, cpu: bool, cuda: bool) -> None:
    job = load_job(None, [f"train.channels_last={asked}"])
    assert wants_channels_last(job, torch.device("cpu")) is cpu
    assert wants_channels_last(job, torch.device("cuda")) is cuda
