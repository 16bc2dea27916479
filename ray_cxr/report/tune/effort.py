"""What a search took, and what training all its trials to the end would have taken. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ray_cxr.report.tune.study import Study, Trial


@dataclass(frozen=True)
class Effort:
    """Epochs and seconds spent, and of full training of every trial that began."""

    epochs: int
    epochs_full: int
    seconds: float
    seconds_full: float

    @property
    def seconds_saved(self) -> float:
        return self.seconds_full - self.seconds

    @property
    def share_saved(self) -> float:
        """0..1 of what full training would have taken."""
        return self.seconds_saved / self.seconds_full if self.seconds_full else 0.0


def effort(study: Study) -> Effort:
    """Sums over trials. A stopped trial would have taken as long for each epoch that it was spared as for those it had;
    its start is paid once."""
    began = [t for t in study.trials if t.began]
    return Effort(
        sum(t.epochs for t in began),
        sum(_planned(t) for t in began),
        sum(t.seconds for t in began),
        sum(t.seconds + seconds_spared(t) for t in began),
    )


def seconds_spared(trial: Trial) -> float:
    """What a trial was spared by being stopped; of a failed one nothing was saved."""
    if trial.state != "pruned" or not trial.epochs:
        return 0.0
    return trial.train_seconds / trial.epochs * (trial.epochs_planned - trial.epochs)


def _planned(trial: Trial) -> int:
    return trial.epochs_planned if trial.state == "pruned" else trial.epochs
