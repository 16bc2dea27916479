"""Settings of the search, and of all that `tune` needs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from ray_cxr.config import Settings
from ray_cxr.train.settings import Recipe

ObjectiveName = Literal["mean_auroc", "worst_average_precision", "macs", "parameters"]


class Values(Settings):
    """What a setting may be in a trial: some choices, or a range; `when`: only in trials with these other settings."""

    choices: list[Any] | None = Field(default=None, min_length=1)
    """The values to choose from."""
    low: float | None = None
    """The lower end of a range, in it."""
    high: float | None = None
    """The upper end of a range, in it."""
    log: bool = False
    """A range is searched by its logarithm: a factor counts alike anywhere in it."""
    int: bool = False
    """Whole numbers only."""
    when: dict[str, Any] = Field(default={})
    """`{setting: value or [values]}`: drawn only where all of these hold."""

    @model_validator(mode="after")
    def _choices_or_range(self) -> Values:
        given = [name for name in ("low", "high") if getattr(self, name) is not None]
        if self.choices is not None:
            if given or self.log or self.int:
                raise ValueError("got choices and a range; give either choices, or low and high")
            doubled = [c for n, c in enumerate(self.choices) if c in self.choices[:n]]
            if doubled:
                raise ValueError(f"choices: {doubled[0]!r} stands twice; leave one out")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give choices, or a range with low and high")
        if not self.low < self.high:
            raise ValueError(f"low is {self.low:g} and high is {self.high:g}, but low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low:g}, but a range with log must begin above 0")
        if self.int and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"got {self.low:g} to {self.high:g}, but a range with int has whole ends")
        return self


Alternatives = Annotated[
    Annotated[Values, Tag("[one]")] | Annotated[list[Values], Field(min_length=1), Tag("[several]")],
    Discriminator(lambda given: "[several]" if isinstance(given, list) else "[one]"),
]
"""Told apart before they are read, so that what is wrong is told of the one that was meant."""


class TuneSettings(Settings):
    """How `tune` searches: each trial is a training with other settings, in `trials/` of `out`."""

    trials: int = Field(default=20, ge=1, le=100_000)
    """Trials in all, failed ones included; with a higher number a search that has ended goes on."""
    objectives: list[ObjectiveName] = Field(default=["mean_auroc"], min_length=1)
    """What is searched for, on validation films: `mean_auroc`; `worst_average_precision`: of the finding that is worst by it;
    `macs` (multiply-accumulates a film) and `parameters`: as few as possible. Trials are stopped early by the first."""
    space: dict[str, Alternatives] = Field(default={})
    """Setting → its values: `{choices: [a, b]}` or `{low: a, high: b, log: true, int: true}`, each with an optional `when:
    {setting: value or [values]}`; a list of these has the first that holds. Empty: the space of docs/tuning.md."""
    sampler: Literal["tpe", "random", "grid", "gp"] = "tpe"
    """What draws a trial's settings: `tpe` (multivariate), `random`, `grid` (each combination once, of choices only), `gp`."""
    startup_trials: int = Field(default=10, ge=1)
    """Trials that have to end before `tpe` or `gp` learns from them; until then it draws at random."""
    recipes: bool = True
    """Begin with the job's own settings, then with recipes that are known to do well, where they lie in the space."""
    scheduler: Literal["asha", "none"] = "asha"
    """`asha`: trials that are behind at an epoch of grace_epochs × reduction_factor^n are stopped; `none`: all end."""
    grace_epochs: int = Field(default=1, ge=1)
    """Epochs before a trial may be stopped."""
    reduction_factor: int = Field(default=3, ge=2, le=100)
    """Of the trials that came to such an epoch, about one in so many goes on."""
    concurrency: Literal["auto"] | int = "auto"
    """Trials at a time; `auto`: as many as CPUs, GPUs and memory have room for, and never more than that."""
    cpus_per_trial: Literal["auto"] | float = "auto"
    """CPUs of a trial with one worker, and its threads; `auto`: 1, or what there is, divided among the trials."""
    gpus_per_trial: Literal["auto"] | float = "auto"
    """GPUs of a trial with one worker, 0.5 for two trials on each; `auto`: 1 where there are any and train.gpu allows it."""
    share_films: Literal["auto"] | bool = "auto"
    """Trials of a node share decoded films in its memory (stream.cache); `auto`: where a quarter of the memory holds them."""
    max_failed: int = Field(default=5, ge=1)
    """The search stops when so many trials have failed."""
    storage: str | None = Field(default=None, min_length=1)
    """Where Optuna keeps the study: null: `journal.log` in `out`; or the URL of a database, as sqlite:///study.db."""
    keep_checkpoints: bool = False
    """Keep the checkpoints of trials that have ended; their `best/` is kept in any case."""
    crossval: int | None = Field(default=None, ge=2, le=100)
    """Score a trial by so many folds of the data set: each in turn is validated on by a training on all others, and the mean
    counts; null: by the validation split."""
    select: Literal["best", "lower_bound"] = "best"
    """What is called best: the trial with the `best` first objective, or with the best lower end of its 95 % interval."""
    final: bool = False
    """Afterwards train the best trial's settings anew, in `final-<number>/`, and evaluate that run on the test split, once."""

    @model_validator(mode="after")
    def _objectives_fit(self) -> TuneSettings:
        if self.objectives[0] in ("macs", "parameters"):
            raise ValueError(
                f"objectives: got {self.objectives[0]} first, but trials are stopped and chosen by the first, which must be "
                "mean_auroc or worst_average_precision"
            )
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives: got {', '.join(self.objectives)}; leave out what stands twice")
        return self

    @model_validator(mode="after")
    def _positive(self) -> TuneSettings:
        for name in ("concurrency", "cpus_per_trial", "gpus_per_trial"):
            value = getattr(self, name)
            least_ok = value == "auto" or value > 0 or (name == "gpus_per_trial" and value == 0)
            if not least_ok:
                raise ValueError(f"{name} is {value:g}, but must be above 0, or auto")
        return self


class SearchRecipe(Recipe):
    """What `tune` reads: a recipe, and how it is searched."""

    tune: TuneSettings = TuneSettings()
    """How `tune` searches: each trial is a training with other settings, in `trials/` of `out`."""
