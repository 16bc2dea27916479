"""The shipped jobs of real films: each trains two steps, and its films look the same wherever the model is."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_cxr.evaluate.predict import predict
from ray_cxr.job import Job, load_job
from ray_cxr.model.calibration import probabilities
from ray_cxr.model.freeze import train_mode
from ray_cxr.model.saved import ModelCard, load_model, save_model
from ray_cxr.storage import Folder
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import Stream
from ray_cxr.train import epoch
from ray_cxr.train.scoring import score_split
from ray_cxr.train.session import open_session
from ray_cxr.train.worker import Worker

JOBS = sorted((Path(__file__).resolve().parents[2] / "jobs").glob("nih-*.yaml"))
BACKBONES = {
    "resnet34", "densenet121", "resnext50_32x4d", "inception_v3", "efficientnet_b0", "tf_efficientnet_lite0",
    "convnext_tiny", "vit_tiny_patch16_224",
}  # fmt: skip
SMALLEST_PX = {"inception_v3": 75}


def test_the_shipped_jobs_are_of_these_backbones() -> None:
    assert {load_job(path).model.backbone for path in JOBS} == BACKBONES


@pytest.mark.parametrize("path", JOBS, ids=lambda p: p.stem)
def test_a_shipped_job_is_named_alike_everywhere(path: Path) -> None:
    job, text = load_job(path), path.read_text(encoding="utf-8")
    assert job.out == f"runs/{path.stem}"
    for command in ("prepare jobs/", "train jobs/", "evaluate runs/"):
        assert f"ray-cxr {command}{path.stem}" in text
    assert job.stream.image_px <= job.shards.image_px, "films would be blown up"


@pytest.mark.parametrize("path", JOBS, ids=lambda p: p.stem)
def test_a_shipped_job_trains_two_steps_on_real_films(path: Path, nih_dataset: str, tmp_path: Path) -> None:
    backbone = load_job(path).model.backbone
    small = [
        f"dataset={nih_dataset}", f"out={tmp_path}", f"stream.image_px={SMALLEST_PX.get(backbone, 64)}",
        "stream.batch_size=8", "train.workers=0", "model.weights=none",
    ]  # fmt: skip
    session = open_session(load_job(path, small), Worker(threads=1))
    epoch.prepare_epoch(session, 1)
    train_mode(session.ddp)
    plan = session.train_stream.plan(1)
    batches = session.train_stream.train(plan)
    before = {n: p.detach().clone() for n, p in session.model.named_parameters()}
    for step in range(2):
        assert math.isfinite(epoch.train_step(session, plan, step, next(batches)))
    batches.close()  # type: ignore[attr-defined]
    for name, parameter in session.model.named_parameters():
        assert torch.equal(before[name], parameter) != parameter.requires_grad, name


@pytest.mark.parametrize("kind", ["imagenet", "dataset", "none"])
def test_a_film_has_the_same_logits_in_train_evaluate_and_predict(
    kind: str, nih_job: Callable[..., Job], nih_dataset: str, shared_data: Path
) -> None:
    job = nih_job(f"dataset={nih_dataset}", f"stream.normalisation={kind}", "model.backbone=test_vit")
    session = open_session(job, Worker(threads=1))
    trained = score_split(session.model, session.validation_stream, Worker(threads=1))
    assert trained is not None
    rows, logits = trained
    normalisation = session.model.normalisation
    assert normalisation.kind == kind
    card = ModelCard(
        backbone="test_vit", findings=session.findings, image_px=64, stored_px=session.dataset.image_px,
        normalisation=normalisation, fingerprint=session.dataset.fingerprint, protocol="sampled", epoch=1,
        mean_auroc=0.5,
    )  # fmt: skip
    save_model(Folder(job.out) / "best", session.model, card)

    loaded, card = load_model(Folder(job.out) / "best")
    assert card.normalisation == normalisation
    settings = StreamSettings(image_px=card.image_px, augmentation="none", batch_size=64)
    evaluated = score_split(
        loaded, Stream.open(session.dataset, "validation", settings, seed=0), Worker(threads=1)
    )
    assert evaluated is not None
    assert np.array_equal(evaluated[0], rows)
    assert np.allclose(evaluated[1], logits, atol=1e-5)

    names = session.dataset.index["image_id"].iloc[rows[:6]]
    files = [str(shared_data / "nih/images" / name) for name in names]
    out = f"{job.out}/scores.parquet"
    table = predict(Folder(job.out), files, out, lambda what, total: None, lambda count: None)
    expected = probabilities(logits[:6], None, session.findings)
    assert np.allclose(table[[f"prob_{f}" for f in session.findings]], expected, atol=1e-5)
    assert float(np.std(logits, axis=0).min()) > 1e-4, "the films differ"
