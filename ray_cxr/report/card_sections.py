"""Sections that say what the report is about: the model card (Mitchell et al., FAT* 2019) and the input."""

from __future__ import annotations

from ray_cxr.report.blocks import Block, Facts, Fold, Section, Table, Text
from ray_cxr.report.contents import Contents, ReportContents
from ray_cxr.report.words import area_text, count_text, flat_facts

_SPLIT_WORDS = {
    "official": "the split that the publishers of the data set made",
    "sampled": "patients drawn by ray_cxr, the test set first",
    "custom": "a split that somebody gave",
    "kfold": "folds by patient",
}


def model_card(contents: Contents) -> Section:
    """The nine headings of a model card, filled as far as the run or the files tell."""
    metrics = contents.metrics
    protocol = metrics["protocol"]
    how = (
        f"{protocol}: {_SPLIT_WORDS[protocol]}"
        if isinstance(contents, ReportContents) and protocol in _SPLIT_WORDS
        else f"split protocol: {contents.protocol}"
    )
    groupings = list(metrics["subgroups"]["groupings"])
    known = (
        f"examined here by {', '.join(groupings)}"
        if groupings
        else "none is known for these films, so none was examined"
    )
    facts = [
        ("Model details", _details(contents)),
        ("Intended use", "Research on classifiers of chest radiographs, by people who can judge the figures of this report."),
        ("Out of scope", "Diagnosis, triage or any use that touches the care of patients; films of children where none were tested; "
                         "other views, body parts or devices than those tested."),
        ("Factors", f"Groups of patients and films: {known}."),
        ("Metrics", "AUROC and average precision by finding; sensitivity, specificity, PPV, NPV and F1 at thresholds chosen on "
                    "validation films; Brier score and calibration error; 95 % intervals, "
                    + ("patients drawn with all their films." if metrics["intervals"]["clustered"] else "films drawn.")),
        ("Evaluation data", f"{_tested(contents)}, {how}."),
        ("Training data", _training(contents)),
        ("Quantitative analyses", f"Mean AUROC {area_text(metrics['mean_auroc'])}; by finding, subgroup and threshold in the sections above."),
        ("Ethical considerations", "Labels may come from reports by text mining and hold errors that the figures share. A gap between groups "
                                   "in the data becomes a gap of the model. Films of persons were used; none is named here."),
        ("Caveats", "The intervals hold for patients like those tested. On films of another hospital, device or population expect "
                    "other, mostly lower figures: test there before any use."),
    ]  # fmt: skip
    return Section("model-card", "Model card", [Facts(facts, wide=True)])


def _details(contents: Contents) -> str:
    if not isinstance(contents, ReportContents):
        return "Not known: the predictions were made elsewhere."
    model = contents.model
    return (
        f"{model['backbone']} at {model['image_px']} × {model['image_px']} px, one output for each of "
        f"{count_text(len(contents.findings), 'finding')}, epoch {model['epoch']}, trained with ray_cxr "
        f"{contents.environment.get('ray_cxr', '(version unknown)')}; licence and owner: those who trained it."
    )


def _training(contents: Contents) -> str:
    if not isinstance(contents, ReportContents):
        return "Not known: the predictions were made elsewhere. If test patients were among its training patients, the figures are too high."
    train = contents.manifest["splits"]["train"]
    sources = ", ".join(str(s["source"]) for s in contents.manifest["sources"])
    both = contents.manifest["leak_check"]["pairs"]["train-test"]
    shared = f"{count_text(both, 'patient')} of the test among them" if both else "no patient of the test"
    return f"{count_text(train['images'], 'film')} of {count_text(train['patients'], 'patient')} (source: {sources}), {shared}."


def _tested(contents: Contents) -> str:
    patients = contents.test_patients
    of = f" of {count_text(patients, 'patient')}" if patients is not None else ""
    return count_text(int(contents.metrics["films"]), "film") + of


def protocol(contents: Contents) -> Section | None:
    """How the test films were chosen and labelled, and how often they were looked at; None in results of older versions."""
    details = contents.metrics.get("protocol_details")
    if details is None:
        return None
    openings = contents.metrics["test_openings"]
    opened = "not counted: the predictions were made elsewhere" if openings is None else str(openings)
    facts = [
        (name.replace("_", " ").capitalize(), "not stated" if value == "None" else value)
        for name, value in flat_facts(details)
    ]
    return Section("protocol", "Protocol", [Facts([*facts, ("Test split opened (times)", opened)])])


def origin(contents: Contents) -> Section | None:
    """Which columns of the tables were taken for what; None for a run, whose tables are its own."""
    found = contents.metrics["input"]
    if "matched" not in found:
        return None
    table = Table(
        "Columns taken for each finding",
        ["Finding", "Scores", "Labels"],
        [[f, c["score"], c["label"]] for f, c in found["matched"].items()],
    )
    blocks: list[Block] = [
        Facts([
            ("Films joined by", found["joined_by"]),
            ("Patients from", found["patients_from"]),
            ("Rows of the label table", f"{found['rows_of_the_label_table']:,}"),
            ("Films without a label, left out", f"{found['films_without_labels']:,}"),
        ]),
        Fold("Columns, by finding", table),
    ]  # fmt: skip
    blocks += [Text(f"{c[0].upper()}{c[1:]}.", "warning") for c in found["cautions"]]
    for key, words in (
        ("scored_without_labels", "Scored, but not labelled"),
        ("labelled_without_scores", "Labelled, but not scored"),
        ("unused_numeric_columns", "Other columns of numbers in the predictions"),
    ):
        if found[key]:
            blocks.append(Text(f"{words}, and in no figure: {', '.join(found[key])}."))
    return Section("input", "Input", blocks)


def environment(contents: Contents) -> Section | None:
    """Versions and hardware of a test without a run; that of a run stands with its fingerprints."""
    if isinstance(contents, ReportContents):
        return None
    return Section("provenance", "Versions", [Facts(flat_facts(contents.environment))])
