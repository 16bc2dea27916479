"""Settings of the training stage, and of all that `train` needs."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ray_cxr.config import Settings
from ray_cxr.errors import InputError
from ray_cxr.loss.settings import LossSettings
from ray_cxr.model.settings import ModelSettings
from ray_cxr.stream.settings import StreamSettings

_MLFLOW_SCHEMES = ("", "http", "https", "databricks", "sqlite", "file")
_MOST_WORKERS = 4096


def _workers(given: Any) -> Any:
    """Says all forms in one sentence, where pydantic would have one for each."""
    if given == "auto":
        return given
    numbers = list(given) if isinstance(given, list | tuple) else [given]
    if all(type(n) is int and 0 <= n <= _MOST_WORKERS for n in numbers):
        if numbers == [given]:
            return given
        if len(numbers) == 2 and 1 <= numbers[0] <= numbers[1]:
            return (numbers[0], numbers[1])
    raise ValueError(
        f"got {given!r}, but allowed are a number from 0 to {_MOST_WORKERS}, [fewest, most] with a fewest of 1 or more, or auto"
    )


Workers = Annotated[int | tuple[int, int] | Literal["auto"], BeforeValidator(_workers)]


class TrainSettings(Settings):
    """How the model is fine-tuned."""

    epochs: int = Field(default=10, ge=1, le=10_000)
    """Passes over the training films."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate of AdamW, reached after the warm-up."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """After the warm-up: half a `cosine` to zero, `step` (times step_factor after every step_epochs), or `constant`."""
    step_epochs: int = Field(default=3, ge=1)
    """Of schedule `step`: epochs between two steps."""
    step_factor: float = Field(default=0.1, gt=0, lt=1)
    """Of schedule `step`: what a step multiplies the learning rate by."""
    head_learning_rate: float | None = Field(default=None, gt=0)
    """Highest learning rate of the classifier; null: as the rest."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor on the learning rate for each stage further from the classifier, as 0.75; 1: all stages alike."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Decoupled weight decay of AdamW; norms, biases and embeddings of position are left out."""
    warmup_epochs: float = Field(default=1.0, ge=0)
    """Epochs in which the learning rate rises linearly from near zero; no more than there are."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient of a step; null: not limited."""
    accumulate: int = Field(default=1, ge=1)
    """Micro-batches that the films of an optimizer step are taken in: less memory, the same gradient."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Keep a running mean of the weights, which each step renews by 1 - this, as 0.99 (more at first); it is what is validated
    and goes to `best/`; null: the weights themselves."""
    keep: Literal["best", "last"] = "best"
    """Which epoch goes to `best/`: the `best` by validation mean AUROC, or the `last`; on a few hundred validation films the
    best of many noisy figures is hardly better than the last, and looks better than it is."""
    channels_last: Literal["auto"] | bool = "auto"
    """Memory format of images with the channels last: the same figures to rounding; `auto`: on the CPU, where it is faster."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numbers of the forward and backward pass in training: `bf16` and `fp16` (on a GPU only, its loss scaled) halve its memory;
    weights and validation are fp32."""
    sync_batchnorm: bool = False
    """BatchNorm takes its statistics from the films of all workers, not of its own only: the same training on any number of
    them, for two short waits per norm and step."""
    compile: bool = False
    """Compile the model with torch.compile before the first step: a minute or more, then faster steps on a GPU."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many epochs without a better validation mean AUROC, wherever the schedule is; null: train all epochs."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """A step whose loss or gradient is not finite: `stop` with its films, or `skip` it, counted, up to max_skipped."""
    max_skipped: int = Field(default=10, ge=0)
    """Steps that may be skipped in the whole training before it stops all the same."""
    workers: Workers = "auto"
    """Ray Train workers: a number; `[fewest, most]`, which goes on smaller where a node is lost and grows where the cluster does;
    or `auto`, one for each GPU (without any, for each node), from 1. 0 trains in this process, without Ray, for a debugger."""
    gpu: Literal["auto"] | bool = "auto"
    """One GPU per worker: yes, no, or `auto` = where there are any."""
    wait_s: int = Field(default=0, ge=0)
    """Longest wait for an autoscaler to bring what training needs; 0: a cluster that is too small is refused at once."""
    grow_after_s: float = Field(default=60.0, ge=0)
    """Of `[fewest, most]` and `auto`: training moves to more workers once there has been room for them for so long. A move saves
    first, loses no step, and takes some 10 s."""
    checkpoint_every_steps: int | None = Field(default=None, ge=1)
    """Save inside an epoch, too, after every so many of its steps, beside the training; null: at the end of each epoch only."""
    tensorboard: bool = False
    """Write figures of each step and epoch for TensorBoard, too, into `tensorboard/` of `out`; needs the extra `tensorboard`."""
    mlflow: str | None = Field(default=None, min_length=1)
    """Send settings and the figures of each epoch to this MLflow tracking server, too (`https://…`), or into a folder or data base
    (`sqlite:///FILE`); needs the extra `mlflow`; null: nowhere."""
    mlflow_experiment: str = Field(default="ray_cxr", min_length=1, max_length=200)
    """MLflow's experiment that the run belongs to."""
    max_failures: int = Field(default=2, ge=0)
    """How often training is started again from the last checkpoint after a worker died."""

    @field_validator("mlflow")
    @classmethod
    def _known_scheme(cls, uri: str | None) -> str | None:
        if uri is None:
            return None
        address = urlsplit(uri)
        if address.scheme not in _MLFLOW_SCHEMES:
            raise ValueError(
                f"got an address that begins with {address.scheme}:, but allowed are http://…, https://…, databricks, sqlite:///FILE "
                "and a folder"
            )
        return uri

    @property
    def in_process(self) -> bool:
        """Whether training runs without Ray."""
        return self.workers == 0

    @property
    def range_of_workers(self) -> tuple[int, int | None]:
        """The fewest and the most workers; None: as many as the cluster has GPUs or, without any, nodes."""
        if self.workers == "auto":
            return 1, None
        return (self.workers, self.workers) if isinstance(self.workers, int) else self.workers

    @property
    def workers_of_each(self) -> int:
        """Of one training among others, whose number of workers stays as it is. Raises InputError for a range."""
        if isinstance(self.workers, tuple):
            raise InputError(
                f"train.workers: got {list(self.workers)}, but trials and folds share a cluster among them, each with a fixed number; "
                "give one number, or auto for 1."
            )
        return 1 if self.workers == "auto" else self.workers


class Recipe(Settings):
    """What `train` reads: it needs no source, only the prepared data set."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the split, of the order of films, of augmentation and of new layers."""
    out: str = Field(default="runs/demo", min_length=1)
    """Directory of the run: a local path or a URL."""
    dataset: str = Field(default="datasets/demo", min_length=1)
    """Directory of the prepared data set: a local path or a URL."""
    findings: list[str] | None = Field(default=None, min_length=1)
    """Findings in the order of the model's outputs; null: all that the sources label."""
    fold: int | None = Field(default=None, ge=0, lt=100)
    """Train on all folds but this one, counted from 0, and validate on it; null: on the splits as they were prepared."""
    stream: StreamSettings = StreamSettings()
    """How films reach the model."""
    model: ModelSettings = ModelSettings()
    """The classifier."""
    loss: LossSettings = LossSettings()
    """What training minimises."""
    train: TrainSettings = TrainSettings()
    """How the model is fine-tuned."""

    @model_validator(mode="after")
    def _thaws_in_time(self) -> Recipe:
        late = [epoch for epoch in self.model.unfreeze if epoch > self.train.epochs]
        if late:
            raise ValueError(
                f"model.unfreeze: got epoch {max(late)}, but train.epochs is {self.train.epochs}, so it would never come; "
                "use epochs from 2 to the last"
            )
        return self

    @model_validator(mode="after")
    def _can_be_done(self) -> Recipe:
        train, films = self.train, self.stream.batch_size
        if train.warmup_epochs > train.epochs:
            raise ValueError(
                f"train.warmup_epochs: got {train.warmup_epochs:g}, but train.epochs is {train.epochs}, so train.learning_rate would "
                "never be reached; use no more than train.epochs"
            )
        if train.accumulate > films:
            raise ValueError(
                f"train.accumulate: got {train.accumulate}, but a step has {films} films (stream.batch_size), and a micro-batch at "
                f"least one; use at most {films}"
            )
        return self
