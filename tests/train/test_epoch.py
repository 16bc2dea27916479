"""What a step does with precision, compilation, and figures that are not finite."""

import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ray_cxr.config import to_yaml
from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.job import Job
from ray_cxr.stream.collate import Batch
from ray_cxr.stream.plan import EpochPlan
from ray_cxr.train import epoch
from ray_cxr.train.fit import fit
from ray_cxr.train.session import Session, open_session
from ray_cxr.train.worker import Worker


def _lines(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(job.out) / "history.jsonl").read_text().splitlines()]


def _begin(job: Job) -> tuple[Session, EpochPlan, Batch]:
    """A session before its first step, and that step's films."""
    session = open_session(job, Worker())
    epoch.prepare_epoch(session, 1)
    epoch.train_mode(session.ddp)
    plan = session.train_stream.plan(1)
    batches = session.train_stream.train(plan)
    batch = next(batches)
    batches.close()  # type: ignore[attr-defined]
    return session, plan, batch


def test_bf16_computes_in_it_and_keeps_weights_and_validation_in_fp32(
    nih_job: Callable[..., Job], nih_dataset: str
) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        job = nih_job(f"dataset={nih_dataset}", f"train.precision={precision}", "train.epochs=1")
        session, plan, batch = _begin(job)
        classifier = session.model.network.get_submodule("head.fc")
        seen: list[torch.dtype] = []
        hook = classifier.register_forward_hook(lambda *call, seen=seen: seen.append(call[2].dtype))
        losses[precision] = epoch.train_step(session, plan, 0, batch)
        session.judged.eval()(torch.from_numpy(batch.pixels[:2]))
        hook.remove()
        assert seen == [torch.float32 if precision == "fp32" else torch.bfloat16, torch.float32]
        assert {p.dtype for p in session.model.parameters()} == {torch.float32}
        session.close()
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


def test_fp16_is_refused_on_the_cpu(nih_job: Callable[..., Job], nih_dataset: str) -> None:
    job = nih_job(f"dataset={nih_dataset}", "train.precision=fp16", "train.gpu=false")
    with pytest.raises(InputError, match=r"train\.precision: got fp16, which trains on a GPU only"):
        fit(job, to_yaml(job), lambda event: None)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_gradient_is_clipped_to_the_norm_that_is_asked_for(
    nih_job: Callable[..., Job], nih_dataset: str, accumulate: int
) -> None:
    """All of it by one factor, whatever the micro-batches; a smaller one is left as it is."""

    def gradient(clip: float | str) -> torch.Tensor:
        """What the optimizer gets in the first step."""
        job = nih_job(f"dataset={nih_dataset}", f"train.clip_norm={clip}", f"train.accumulate={accumulate}")
        session, plan, batch = _begin(job)
        got: list[torch.Tensor] = []
        session.optimizer.register_step_pre_hook(
            lambda *call: got.append(torch.cat([p.grad.flatten() for p in session.model.parameters()]))  # type: ignore[union-attr]
        )
        epoch.train_step(session, plan, 0, batch)
        session.close()
        return got[0]

    free = gradient("null")
    norm = float(free.norm())
    assert norm > 0
    assert torch.allclose(gradient(norm / 4), free / 4, rtol=1e-5)
    assert torch.equal(gradient(norm * 4), free)


def test_each_step_has_the_learning_rate_of_its_schedule(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of it in the second epoch; the classifier has twice the rest's; the history has that of an epoch's last step."""
    rates, whole = [], epoch.train_step

    def remembered(s: Session, plan: EpochPlan, step: int, batch: Batch) -> float | None:
        rates.append((plan.epoch, {group["lr"] for group in s.optimizer.param_groups}))
        return whole(s, plan, step, batch)

    monkeypatch.setattr(epoch, "train_step", remembered)
    job = nih_job(
        f"dataset={nih_dataset}", "train.schedule=step", "train.step_epochs=1", "train.step_factor=0.125",
        "train.warmup_epochs=0", "train.learning_rate=0.0625", "train.head_learning_rate=0.125",
    )  # fmt: skip
    fit(job, to_yaml(job), lambda event: None)
    assert len(rates) > 10
    assert all(of == ({0.0625, 0.125} if number == 1 else {0.0078125, 0.015625}) for number, of in rates)
    assert [line["learning_rate"] for line in _lines(job)] == [0.0625, 0.0078125]


def _overflowing(backward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The same loss, with a gradient that is too large for its numbers."""

    def overflowing(s: Session, *rest: Any) -> torch.Tensor:
        loss = backward(s, *rest)
        next(s.model.parameters()).grad[0] = math.inf  # type: ignore[index]
        return loss

    return overflowing


def test_a_scaled_loss_gives_the_same_step_and_an_overflow_halves_the_scale(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for fp16 on a GPU: factors of two change no digit; a step with an infinite gradient is left out by the scaler."""
    weights = []
    for enabled in (False, True):
        job = nih_job(f"dataset={nih_dataset}")
        session, plan, batch = _begin(job)
        session.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=enabled)
        loss = epoch.train_step(session, plan, 0, batch)
        assert loss is not None and math.isfinite(loss)
        weights.append([p.detach().clone() for p in session.model.parameters()])
        if enabled:
            monkeypatch.setattr(epoch, "backward", _overflowing(epoch.backward))
            assert epoch.train_step(session, plan, 0, batch) is not None, (
                "under a scale it is no fault of the films"
            )
            assert all(torch.equal(a, b) for a, b in zip(weights[1], session.model.parameters(), strict=True))
            assert session.scaler.get_scale() == 2.0**9
        session.close()
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_compiled_training_is_the_same_training(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the backend that compiles nothing, to be quick; the real one: `test_compiled_by_inductor`."""
    compiled: list[nn.Module] = []
    whole = torch.compile

    def eager(model: nn.Module) -> Any:
        compiled.append(model)
        return whole(model, backend="eager")

    monkeypatch.setattr(torch, "compile", eager)
    plain, quick = (
        nih_job(f"dataset={nih_dataset}", "train.epochs=1", f"train.compile={asked}")
        for asked in (False, True)
    )
    for job in (plain, quick):
        fit(job, to_yaml(job), lambda event: None)
    assert len(compiled) == 1
    assert _lines(quick)[0]["train_loss"] == pytest.approx(_lines(plain)[0]["train_loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_compiled_by_inductor(nih_job: Callable[..., Job], nih_dataset: str) -> None:
    losses = []
    for asked in (False, True):
        job = nih_job(
            f"dataset={nih_dataset}", f"train.compile={asked}", "model.backbone=test_vit", "train.epochs=1"
        )
        session, plan, batch = _begin(job)
        losses.append(epoch.train_step(session, plan, 0, batch))
        session.close()
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_model_that_cannot_be_compiled_is_told(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: nn.Module, inputs: Any) -> Any:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    job = nih_job(f"dataset={nih_dataset}", "train.compile=true")
    with pytest.raises(
        InputError, match=r"train\.compile: the model cannot be compiled on this machine \(.*no compiler here"
    ):
        fit(job, to_yaml(job), lambda event: None)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_memory_that_ends_in_a_step_is_told_with_its_place(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch, error: RuntimeError,
    told: bool,
) -> None:  # fmt: skip
    """After a dry run that fitted."""
    whole = epoch.train_step

    def too_much(s: Session, plan: EpochPlan, step: int, batch: Batch) -> float | None:
        if step == 2:
            raise error
        return whole(s, plan, step, batch)

    monkeypatch.setattr(epoch, "train_step", too_much)
    job = nih_job(f"dataset={nih_dataset}", "train.accumulate=2")
    expected: tuple[type[Exception], str] = (RuntimeError, "mat1 and mat2")
    if told:
        expected = (InputError, r"stream\.batch_size: .* epoch 1, step 3, .* use train\.accumulate=4 ")
    with pytest.raises(expected[0], match=expected[1]):
        fit(job, to_yaml(job), lambda event: None)


@pytest.fixture
def broken_steps(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Numbers of forward passes, from 0, that give no numbers; BatchNorm sees what is not finite, too."""
    broken: set[int] = set()
    whole, passes = epoch.on_device, [-1]

    def spoiled(batch: Batch, *rest: Any) -> torch.Tensor:
        passes[0] += 1
        pixels = whole(batch, *rest).float()
        return pixels * math.nan if passes[0] in broken else pixels

    monkeypatch.setattr(epoch, "on_device", spoiled)
    return broken


def test_a_loss_that_is_not_finite_stops_with_its_films(
    nih_job: Callable[..., Job], nih_dataset: str, broken_steps: set[int]
) -> None:
    broken_steps |= {1}
    job = nih_job(f"dataset={nih_dataset}")
    session = open_session(nih_job(f"dataset={nih_dataset}"), Worker())
    rows = session.train_stream.layout.rows[session.train_stream.plan(1).step_positions(1)]
    session.close()
    with pytest.raises(RayCxrError) as caught:
        fit(job, to_yaml(job), lambda event: None)
    named = ", ".join(map(str, sorted(rows)))
    assert caught.value.message.startswith(
        f"the loss became nan in epoch 1, step 2 (index rows {named}); use a smaller"
    )


def test_a_gradient_that_is_not_finite_stops(
    nih_job: Callable[..., Job], nih_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss itself is a number."""
    monkeypatch.setattr(epoch, "backward", _overflowing(epoch.backward))
    for clip in ("1.0", "null"):
        job = nih_job(f"dataset={nih_dataset}", f"train.clip_norm={clip}")
        with pytest.raises(
            RayCxrError, match=r"the gradient's norm became inf in epoch 1, step 1 \(index rows"
        ):
            fit(job, to_yaml(job), lambda event: None)


def test_skipped_steps_are_counted_and_leave_no_trace(
    nih_job: Callable[..., Job], nih_dataset: str, broken_steps: set[int]
) -> None:
    broken_steps |= {1, 3}
    job = nih_job(
        f"dataset={nih_dataset}", "train.on_nonfinite=skip", "train.epochs=1", "model.backbone=test_resnet",
        "train.ema_decay=0.5",
    )  # fmt: skip
    events: list[dict[str, Any]] = []
    fit(job, to_yaml(job), events.append)
    (line,) = _lines(job)
    losses = [e["loss"] for e in events if e["kind"] == "step"]
    assert line["skipped_steps"] == 2 and len(losses) == line["step"] - 2
    assert line["train_loss"] == pytest.approx(float(np.mean(losses)))
    assert math.isfinite(line["validation_loss"]), "batch statistics of a skipped step are taken back"
    notes = [e["text"] for e in events if e["kind"] == "note"]
    assert [n.split(" (")[0] for n in notes if "skipped" in n] == [
        "the loss became nan in epoch 1, step 2", "the loss became nan in epoch 1, step 4",
    ]  # fmt: skip


def test_more_skipped_steps_than_allowed_stop(
    nih_job: Callable[..., Job], nih_dataset: str, broken_steps: set[int]
) -> None:
    broken_steps |= {0, 1, 2}
    job = nih_job(f"dataset={nih_dataset}", "train.on_nonfinite=skip", "train.max_skipped=2")
    with pytest.raises(RayCxrError, match=r"step 3 .*train\.max_skipped=2 steps were skipped before it"):
        fit(job, to_yaml(job), lambda event: None)
