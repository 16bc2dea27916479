"""Sections on where the result comes from: training, data, settings, fingerprints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ray_cxr.report.blocks import Block, Code, Facts, Fold, Plot, Section, Table, Text
from ray_cxr.report.contents import ReportContents
from ray_cxr.report.figures import finding_learning_figure, learning_figure
from ray_cxr.report.words import area_text, count_text, duration_text, flat_facts, list_text, loss_text

_NARROW = 3
"""Findings whose table fits beside a figure."""
_SPLITS = ("train", "validation", "test", "unused")


def learning(contents: ReportContents) -> Section:
    """Losses, validation AUROC and learning rate by epoch, and the AUROC of each finding."""
    heading = "Learning curve"
    if not contents.history:
        return Section("learning", heading, [Text("The run kept no history of its epochs.")])
    chosen = int(contents.model["epoch"])
    table = Table(
        "Training and validation by epoch",
        ["Epoch", "Training loss", "Validation loss", "Mean AUROC", "Learning rate"],
        [
            [
                _epoch_name(line, chosen),
                loss_text(line["train_loss"]),
                loss_text(line["validation_loss"]),
                area_text(line["mean_auroc"]),
                f"{line['learning_rate']:.2g}",
            ]
            for line in contents.history
        ],
    )
    label = (
        f"Training loss, validation loss, validation mean AUROC and learning rate over "
        f"{count_text(len(contents.history), 'epoch')}; the weights of epoch {chosen} were chosen. "
        "The table says the same in figures."
    )
    plot = Plot("plot-learning", learning_figure(contents.history, chosen), label, table, wide_table=True)
    effort = Text(_effort_sentence(contents.history), "muted")
    return Section("learning", heading, [plot, _learning_by_finding(contents, chosen), effort])


def _learning_by_finding(contents: ReportContents, chosen: int) -> Plot:
    findings = contents.findings
    table = Table(
        "Validation AUROC by epoch",
        ["Epoch", *findings],
        [
            [_epoch_name(line, chosen), *(area_text(line["auroc"].get(f)) for f in findings)]
            for line in contents.history
        ],
    )
    label = (
        f"Validation AUROC of {count_text(len(findings), 'finding')} over {count_text(len(contents.history), 'epoch')}; "
        "the table says the same in figures."
    )
    figure = finding_learning_figure(contents.history, findings, chosen)
    return Plot("plot-learning-findings", figure, label, table, wide_table=len(findings) > _NARROW)


def _epoch_name(line: Mapping[str, Any], chosen: int) -> str:
    return f"{line['epoch']} (chosen)" if line["epoch"] == chosen else str(line["epoch"])


def _effort_sentence(history: Sequence[Mapping[str, Any]]) -> str:
    films = sum(int(line["films"]) for line in history)
    seconds = sum(float(line["seconds"]["train"]) for line in history)
    waited = sum(float(line["seconds"]["data_wait"]) for line in history)
    share = f", {waited / seconds:.0%} of it waiting for films" if seconds else ""
    return f"{films:,} films were shown in {history[-1]['step']:,} steps; the steps took {duration_text(seconds)}{share}."


def splits(contents: ReportContents) -> Section:
    """Who is in which split, and whether the splits share anyone."""
    counts = contents.manifest["splits"]
    names = [n for n in _SPLITS if n in counts and (n != "unused" or counts[n]["images"])]
    rows = [
        ["Films", *(f"{counts[n]['images']:,}" for n in names)],
        ["Patients", *(f"{counts[n]['patients']:,}" for n in names)],
        ["Positive films, and their share of the labelled films"],
        *([f, *(_positives(counts[n], f) for n in names)] for f in contents.findings),
    ]
    table = Table("Films, patients and positive films by split", ["", *(n.capitalize() for n in names)], rows)
    warnings = [Text(f"{w[0].upper()}{w[1:]}.", "warning") for w in contents.manifest["warnings"]]
    blocks: list[Block] = [leak_text(contents.manifest["leak_check"]), *warnings, table]
    return Section("splits", "Data splits", blocks)


def leak_text(check: Mapping[str, Any]) -> Text:
    """The leak check in words; an alarm where patients are shared."""
    patients, shared, films = (int(check[k]) for k in ("patients", "shared_patients", "shared_films"))
    twins = f" Films in more than one split as identical pixels: {films:,}." if films else ""
    if check["clean"]:
        text = f"Leak check passed: none of the {count_text(patients, 'patient')} is in more than one split.{twins}"
        return Text(text, "warning" if films else "good")
    pairs = ", ".join(f"{n:,} in {pair.replace('-', ' and ')}" for pair, n in check["pairs"].items() if n)
    return Text(
        f"Patient leak{', allowed by split.allow_leak' if check['allowed'] else ''}: {shared:,} of {count_text(patients, 'patient')} are in more than one split"
        f"{f' ({pairs})' if pairs else ''}. The model may recognise them, so do not trust the results below.{twins}",
        "alarm",
    )


def _positives(counts: Mapping[str, Any], finding: str) -> str:
    positives, labelled = counts["positives"].get(finding, 0), counts["labelled"].get(finding, 0)
    return f"{positives:,} ({positives / labelled:.1%})" if labelled else "not labelled"


def exposure(contents: ReportContents) -> Section:
    """What the resampling made of the training split: labels as the network was shown them."""
    heading = "What training saw"
    if not contents.history:
        return Section("exposure", heading, [Text("The run kept no history of its epochs.")])
    table = Table(
        f"Labels shown in an epoch, mean of {count_text(len(contents.history), 'epoch')}",
        ["Finding", "Positive", "Negative", "Positive share", "… in the training split", "Times each positive was shown",
         "Different films with it", "Patients"],
        [_exposure_row(contents, finding) for finding in contents.findings],
    )  # fmt: skip
    blocks: list[Block] = [table]
    if len(contents.history) > 1:
        each = Table(
            "Positive / negative labels by epoch",
            ["Epoch", *contents.findings],
            [
                [str(line["epoch"]), *(_shown(line, f) for f in contents.findings)]
                for line in contents.history
            ],
        )
        blocks.append(Fold("Each epoch", each))
    return Section("exposure", heading, blocks)


def _shown(line: Mapping[str, Any], finding: str) -> str:
    seen = line["exposure"][finding]
    return f"{seen['positives']:,} / {seen['negatives']:,}"


def _exposure_row(contents: ReportContents, finding: str) -> list[str]:
    seen = [line["exposure"][finding] for line in contents.history]
    positives, negatives, films, patients = (
        float(np.mean([s[k] for s in seen])) for k in ("positives", "negatives", "films", "patients")
    )
    train = contents.manifest["splits"]["train"]
    there, labelled = train["positives"].get(finding, 0), train["labelled"].get(finding, 0)
    shown = positives + negatives
    return [
        finding,
        f"{positives:,.0f}",
        f"{negatives:,.0f}",
        f"{positives / shown:.1%}" if shown else "–",
        f"{there / labelled:.1%}" if labelled else "–",
        f"{positives / there:.1f}" if there else "–",
        f"{films:,.0f}",
        f"{patients:,.0f}",
    ]


def refused(contents: ReportContents) -> Section:
    """Films that were left out, and why."""
    facts = contents.manifest["refused"]
    sources = Table(
        "Sources",
        ["Source", "Rows in the label table", "Films found", "Without a film", "Other views"],
        [
            [s["source"], *(f"{s[k]:,}" for k in ("rows", "films", "without_file", "other_views"))]
            for s in contents.manifest["sources"]
        ],
    )
    if not facts["count"]:
        return Section("refused", "Refused films", [Text("No film was refused."), sources])
    sentence = f"{count_text(int(facts['count']), 'film')} could not be used and {'is' if facts['count'] == 1 else 'are'} in no split."
    reasons = Table(
        "Refused films by reason", ["Reason", "Films"], [[r, f"{n:,}"] for r, n in facts["reasons"].items()]
    )
    return Section("refused", "Refused films", [Text(sentence), reasons, sources])


def settings(contents: ReportContents) -> Section:
    """The effective settings, whole."""
    return Section("settings", "Settings", [Fold("Settings of the run (YAML)", Code(contents.config_yaml))])


def provenance(contents: ReportContents) -> Section:
    """What the figures rest on: fingerprints, versions, hardware."""
    manifest, model = contents.manifest, contents.model
    norm = model["normalisation"]
    fingerprints = [
        ("Data set", str(contents.metrics["fingerprint"])),
        ("Films", str(manifest["films_fingerprint"])),
        ("Weights (SHA-256)", str(model["weights_sha256"])),
    ]
    facts = [
        ("Stored films", f"{manifest['image_px']} × {manifest['image_px']} px, {manifest['codec']}"),
        (
            "Normalisation",
            f"{norm['kind']}, mean {list_text(norm['mean'])}, standard deviation {list_text(norm['std'])}",
        ),
        *flat_facts(contents.environment),
    ]
    return Section(
        "provenance", "Fingerprints and versions", [Facts(fingerprints, monospace=True), Facts(facts)]
    )
