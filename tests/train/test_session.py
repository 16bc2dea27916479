"""What training begins with: the memory format of the model, what a seed decides, the device."""

from collections.abc import Callable

import pytest
import torch

from ray_cxr.errors import InputError
from ray_cxr.job import Job, load_job
from ray_cxr.train.fit import fit
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


def test_a_seed_decides_order_augmentation_and_new_layers(
    nih_job: Callable[..., Job], nih_dataset: str
) -> None:
    def begun(seed: int) -> tuple[str, torch.Tensor, torch.Tensor]:
        """Order of the first epoch, films of its first step, weights of the classifier."""
        session = open_session(nih_job(f"dataset={nih_dataset}", f"seed={seed}"), Worker())
        plan = session.train_stream.plan(1)
        batches = session.train_stream.train(plan)
        batch = next(batches)
        batches.close()  # type: ignore[attr-defined]
        session.close()
        weights = session.model.network.get_parameter("head.fc.weight").detach()
        return plan.hash, torch.from_numpy(batch.pixels.copy()), weights

    first, again, other = begun(1), begun(1), begun(2)
    assert first[0] == again[0] != other[0]
    assert torch.equal(first[1], again[1]) and not torch.equal(first[1], other[1])
    assert torch.equal(first[2], again[2]) and not torch.equal(first[2], other[2])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(nih_job: Callable[..., Job], nih_dataset: str) -> None:
    job = nih_job(f"dataset={nih_dataset}", "train.gpu=true")
    with pytest.raises(InputError, match=r"train\.gpu: got true, but this machine has no usable GPU"):
        fit(job, "", lambda event: None)
