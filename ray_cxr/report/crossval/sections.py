"""The sections of a cross-validation's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_cxr.evaluate.crossval import CrossValidation
from ray_cxr.report.blocks import Block, Code, Facts, Fold, HeatCell, HeatTable, Plot, Section, Table, Text
from ray_cxr.report.crossval.figures import folds_learning_figure, spread_figure
from ray_cxr.report.figures import roc_curves, roc_figure
from ray_cxr.report.origin_sections import leak_text
from ray_cxr.report.words import (
    NOT_MEASURABLE,
    area_text,
    count_text,
    flat_facts,
    interval_text,
    loss_text,
)


def spread_text(entry: Mapping[str, Any], name: str, finding: str | None = None) -> str:
    """A mean over folds with its standard deviation: 0.812 ± 0.031."""
    value, deviation = entry[name], entry["standard_deviation"][name]
    if finding is not None:
        value, deviation = value[finding], deviation[finding]
    return area_text(value) if value is None or deviation is None else f"{area_text(value)} ± {deviation:.3f}"


def summary(found: CrossValidation) -> Section:
    """The answer, and what makes it weak."""
    metrics = found.metrics
    blocks: list[Block] = [Text(_answer(metrics), "lead")]
    blocks.append(
        Text(
            f"Each of the {count_text(metrics['films'], 'film')} of {count_text(metrics['patients'], 'patient')} is scored once, by "
            "the model that was trained without its fold and so never saw its patient. The test films are in no fold, and were not "
            "opened."
        )
    )
    if metrics["keep"] == "best":
        blocks.append(
            Text(
                "Each fold's epoch was chosen by the films of that fold, which flatters the figures a little, the more the "
                "fewer films a fold has; train.keep=last has no such choice.",
                "warning",
            )
        )
    blocks += [Text(sentence, "warning") for sentence in _gaps(metrics)]
    return Section("summary", "Summary", blocks)


def _answer(metrics: Mapping[str, Any]) -> str:
    folds, over = metrics["folds"], metrics["mean_over"]
    if metrics["mean_auroc"] is None:
        return (
            f"No finding could be measured in each of the {folds} folds, so there is no mean over findings."
        )
    of = over[0] if len(over) == 1 else f"the mean over {len(over)} findings"
    apart = f" (without {', '.join(metrics['not_in_means'])})" if metrics["not_in_means"] else ""
    return f"AUROC {spread_text(metrics, 'mean_auroc')} for {of}{apart}: mean and standard deviation over {folds} folds, by patient."


def _gaps(metrics: Mapping[str, Any]) -> list[str]:
    """What some folds cannot measure, and what was made of it."""
    return [
        f"{finding}: {why}. "
        + (
            "It is not measurable in any fold."
            if metrics["auroc"][finding] is None
            else "Its own mean is over the other folds, and it is part of no mean over findings."
        )
        for finding, why in metrics["not_measurable"].items()
    ]


def results(found: CrossValidation) -> Section:
    """Folds as points, their mean and spread, by finding."""
    metrics = found.metrics
    table = Table(
        f"Mean ± standard deviation over {metrics['folds']} folds",
        ["Finding", "Positive / labelled", "AUROC", "lowest – highest", "Average precision", "Prevalence"],
        [_result_row(metrics, f) for f in metrics["auroc"]],
        _mean_row(metrics),
    )
    label = (
        "AUROC of each fold by finding, with mean and standard deviation. The table says the same in figures."
    )
    note = Text(
        "The standard deviation says how much the figure differs from fold to fold, where other films train and other films are "
        "scored. It is no standard error of the mean: the folds share most of their training films, so they are not independent, "
        "and one cross-validation has no unbiased estimate of its mean's variance (Bengio and Grandvalet, JMLR 5, 2004).",
        "muted",
    )
    if metrics["mean_auroc"] is None and all(v is None for v in metrics["auroc"].values()):
        return Section("results", "Results by finding", [table])
    short = Table(
        "AUROC, mean ± standard deviation",
        ["Finding", "AUROC"],
        [[f, spread_text(metrics, "auroc", f)] for f in metrics["auroc"]],
    )
    plot = Plot("plot-folds", spread_figure(metrics), label, short)
    return Section("results", "Results by finding", [plot, table, note])


def _result_row(metrics: Mapping[str, Any], finding: str) -> list[str]:
    positives, labelled = metrics["positives"][finding], metrics["labelled"][finding]
    row = [finding, f"{positives:,} / {labelled:,}"]
    known = [v for e in metrics["by_fold"] if (v := e["auroc"][finding]) is not None]
    if not known:
        return [*row, f"{NOT_MEASURABLE}: {metrics['not_measurable'][finding]}"]
    part = f" ({len(known)} folds)" if len(known) < metrics["folds"] else ""
    return [
        *row,
        spread_text(metrics, "auroc", finding) + part,
        f"{min(known):.3f} – {max(known):.3f}",
        spread_text(metrics, "average_precision", finding),
        f"{positives / labelled:.1%}",
    ]


def _mean_row(metrics: Mapping[str, Any]) -> list[str]:
    means = [e["mean_auroc"] for e in metrics["by_fold"] if e["mean_auroc"] is not None]
    if len(metrics["mean_over"]) < 2 or not means:
        return []
    return [
        "Mean", "", spread_text(metrics, "mean_auroc"), f"{min(means):.3f} – {max(means):.3f}",
        spread_text(metrics, "mean_average_precision"), "",
    ]  # fmt: skip


def by_fold(found: CrossValidation) -> Section:
    """AUROC by finding and fold, tinted from guessing to perfect."""
    metrics = found.metrics
    folds = metrics["by_fold"]
    rows = [(f, [_cell(e, f) for e in folds]) for f in metrics["auroc"]]
    heads = [f"fold {e['fold']}" for e in folds]
    about = Table(
        "The folds",
        ["Fold", "Films", "Patients", "Epoch whose scores count", "Mean AUROC"],
        [
            [str(e["fold"]), f"{e['films']:,}", f"{e['patients']:,}", str(e["epoch"]), area_text(e["mean_auroc"])]
            for e in folds
        ],
    )  # fmt: skip
    table = HeatTable("AUROC by finding and fold, positive films below", heads, rows)
    return Section("folds", "Fold by fold", [about, table])


def _cell(entry: Mapping[str, Any], finding: str) -> HeatCell:
    value, positives = entry["auroc"][finding], f"{entry['positives'][finding]:,}"
    if value is None:
        return HeatCell("–", 0.0, positives)
    return HeatCell(f"{value:.3f}", max(0.0, 2 * value - 1), positives)


def pooled(found: CrossValidation) -> Section:
    """All films in one ranking."""
    pool, scored = found.metrics["pooled"], found.scored
    measured = {f: v for f, v in pool["auroc"].items() if v is not None}
    curves = roc_curves(scored.findings, scored.labels, scored.scores, measured)
    note = Text(
        "Here all films stand in one ranking, though each fold was scored by a model of its own: where the models' scores are not "
        "on one scale, films of different folds are ranked wrongly, which lowers these figures. So the answer is the mean over "
        "folds above, and these figures are for curves and for intervals: "
        f"95 %, {pool['intervals']['draws']:,} draws of patients, given these {found.metrics['folds']} models.",
        "muted",
    )
    if not curves:
        return Section("pooled", "All folds together", [Text("No finding could be measured."), note])
    table = Table(
        "All films in one ranking, with 95 % intervals",
        ["Finding", "AUROC", "Average precision"],
        [
            [f, *(interval_text(pool[m][f], pool["intervals"][m][f]) for m in ("auroc", "average_precision"))]
            for f in measured
        ],
    )
    label = "ROC curves of all films together. The table says the same in figures."
    return Section(
        "pooled", "All folds together", [Plot("plot-pooled", roc_figure(curves), label, table, wide_table=True), note]
    )  # fmt: skip


def learning(found: CrossValidation) -> Section:
    """Losses and AUROC by epoch, all folds over each other."""
    chosen = [int(e["epoch"]) for e in found.metrics["by_fold"]]
    rows = [
        [
            str(e["fold"]), f"{len(history)}", loss_text(history[-1]["train_loss"]), loss_text(history[-1]["validation_loss"]),
            f"{area_text(history[-1]['mean_auroc'])}", f"{area_text(history[epoch - 1]['mean_auroc'])} (epoch {epoch})",
        ]
        for e, history, epoch in zip(found.metrics["by_fold"], found.histories, chosen, strict=True)
    ]  # fmt: skip
    table = Table(
        "Training by fold",
        [
            "Fold",
            "Epochs",
            "Last training loss",
            "Last loss on the fold",
            "Last mean AUROC",
            "Mean AUROC that counts",
        ],
        rows,
    )
    label = "Training loss, loss and mean AUROC on the fold by epoch, for each fold. The table says the same in figures."
    note = Text(
        "Lines above: the loss of training, and dotted that of the fold's own films. Diamonds mark the epoch whose scores count. "
        "Mean AUROC as training takes it: over all findings that the fold can measure.",
        "muted",
    )
    figure = folds_learning_figure(found.histories, chosen)
    return Section(
        "learning", "Learning curves", [Plot("plot-learning", figure, label, table, wide_table=True), note]
    )


def films(found: CrossValidation) -> Section:
    """Who is in which fold."""
    folds = found.metrics["by_fold"]
    rows = [
        ["Films", *(f"{e['films']:,}" for e in folds)],
        ["Patients", *(f"{e['patients']:,}" for e in folds)],
        ["Positive films, and their share of the labelled films"],
        *([f, *(_positives(e, f) for e in folds)] for f in found.metrics["auroc"]),
    ]
    table = Table(
        "Films, patients and positive films by fold", ["", *(f"Fold {e['fold']}" for e in folds)], rows
    )
    return Section("films", "Films by fold", [leak_text(found.metrics["leak"]), table])  # fmt: skip


def _positives(entry: Mapping[str, Any], finding: str) -> str:
    positives, labelled = entry["positives"][finding], entry["labelled"][finding]
    return f"{positives:,} ({positives / labelled:.1%})" if labelled else "not labelled"


def settings(found: CrossValidation) -> Section:
    """The effective settings, whole."""
    return Section("settings", "Settings", [Fold("Settings of the job (YAML)", Code(found.config_yaml))])


def provenance(found: CrossValidation) -> Section:
    """Fingerprints, versions, hardware."""
    prints = [
        ("Data set", str(found.metrics["fingerprint"])),
        ("Films", str(found.manifest["films_fingerprint"])),
        *((f"Fold {e['fold']}", str(e["fingerprint"])) for e in found.metrics["by_fold"]),
    ]
    return Section(
        "provenance",
        "Fingerprints and versions",
        [Facts(prints, monospace=True), Facts(flat_facts(found.environment))],
    )
