"""The report: what it says in words and figures, and that nothing in it runs, loads or identifies anyone."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from ray_cxr.report import figures
from ray_cxr.report.blocks import Plot, Table
from ray_cxr.report.contents import Contents, ReportContents
from ray_cxr.report.data import figures_data, tables
from ray_cxr.report.html import figures_json, render_report
from ray_cxr.report.origin_sections import exposure, learning, splits
from ray_cxr.report.result_sections import flattery_sentence, openings_sentence, result_sentence, results
from ray_cxr.report.sections import all_sections
from ray_cxr.report.subgroup_sections import gap_sentences

MakeContents = Callable[..., ReportContents]
VOID = {"meta", "link", "br", "img", "input", "hr"}
LOADING = {"src", "srcset", "href", "action", "formaction", "data", "poster", "background", "xlink:href"}
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '<img src=x onerror="alert(3)">',
]


class Page(HTMLParser):
    """Tags with attributes in order, the text of each element kind, and tables as lists of rows by caption."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self._open: list[str] = []
        self._rows: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag == "tr":
            self._rows.append([])
        if tag not in VOID:
            self._open.append(tag)

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]][-1] += data
            if self._open[-1] in ("td", "th"):
                self._rows[-1].append(data)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"
        if tag == "table":
            self.tables[self.texts["caption"][-1]] = self._rows
            self._rows = []


def _only_table(blocks: Any) -> Table:
    (table,) = [block for block in blocks if isinstance(block, Table)]
    return table


def _with(contents: ReportContents, finding: str, **figures: Any) -> ReportContents:
    """The contents with other figures for one finding."""
    metrics = dict(contents.metrics)
    for name, value in figures.items():
        metrics[name] = metrics[name] | {finding: value}
    return replace(contents, metrics=metrics)


def test_results_table_holds_each_finding_with_its_figures(make_contents: MakeContents) -> None:
    contents = _with(
        make_contents(), "Edema", positives=25, labelled=1000, auroc=0.81249, average_precision=0.1306
    )
    contents.metrics["intervals"]["auroc"]["Edema"] = [0.7, 0.87351]
    contents.metrics["intervals"]["average_precision"]["Edema"] = None
    table = Page(render_report(contents)).tables["Test split, by finding, with 95 % intervals"]
    # The AUROC is among the first columns: on a telephone the later ones are beyond the edge.
    assert table[0] == ["Finding", "Positive / labelled", "AUROC", "Average precision", "Prevalence"]
    assert [row[0] for row in table[1:]] == [*contents.findings, "Mean"]
    assert table[1 + contents.findings.index("Edema")] == [
        "Edema",
        "25 / 1,000",
        "0.812 (0.700–0.874)",
        "0.131",
        "2.5%",
    ]


@pytest.mark.parametrize(
    ("positives", "labelled", "reason"),
    [
        (0, 1000, "no positive test film"),
        (1000, 1000, "no negative test film"),
        (0, 0, "no test film is labelled for it"),
    ],
)
def test_finding_without_a_figure_says_why(
    make_contents: MakeContents, positives: int, labelled: int, reason: str
) -> None:
    contents = _with(
        make_contents(), "Mass", positives=positives, labelled=labelled, auroc=None, average_precision=None
    )
    rows = {row[0]: row for row in _only_table(results(contents).blocks).rows}
    assert rows["Mass"][-1] == f"not measurable: {reason}"
    page = render_report(contents)
    assert f"Not measurable, and part of no mean: Mass ({reason})." in page
    assert "nan" not in "".join(Page(page).texts["td"]).lower()


def test_why_an_interval_is_missing_is_told(make_contents: MakeContents) -> None:
    contents = _with(
        _with(make_contents(["Mass", "Edema", "Nodule"]), "Edema", auroc=1.0), "Nodule", auroc=0.5
    )
    contents.metrics["intervals"]["auroc"] |= {"Mass": None, "Edema": None, "Nodule": None}
    contents.metrics["constant_scores"] = ["Nodule"]
    page = render_report(contents)
    assert "Too few positive or negative patients for an interval: Mass." in page
    assert "every draw ranks all films right (or all wrong): Edema." in page
    assert (
        "The score is the same for every film, so it tells none from another, and has no interval: Nodule."
        in page
    )


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_read_off_a_test_curve_is_called_so(make_contents: MakeContents, asked: bool) -> None:
    contents = make_contents(["Mass", "Edema"])
    if not asked:
        contents.metrics["operating_points"] |= {
            "findings": None,
            "reason": "no validation films",
            "chosen_on": None,
        }
    page = Page(render_report(contents))
    assert [caption for caption in page.tables if caption.endswith("read off these test curves")] == [
        "Sensitivity at a specificity of at least …, read off these test curves",
        "Precision where the recall reaches …, read off these test curves",
    ]
    notes = [text for text in page.texts["p"] if "points of the test curve, no operating points" in text]
    assert len(notes) == 2
    assert all(("stands under “Operating points”" in text) == asked for text in notes)


def test_why_the_calibration_error_has_no_interval_is_told(make_contents: MakeContents) -> None:
    contents = make_contents(["Mass"])
    assert "The calibration error has no interval: each bin adds the size of its gap" in render_report(
        contents
    )
    assert contents.metrics["calibration"]["ece_interval"] is None


def test_summary_names_the_measured_findings_and_the_test_films(make_contents: MakeContents) -> None:
    contents = make_contents(blank=("Hernia",))
    intervals = contents.metrics["intervals"] | {"mean_auroc": [0.69, 0.7414]}
    metrics = contents.metrics | {"mean_auroc": 0.7125, "intervals": intervals}
    assert result_sentence(replace(contents, metrics=metrics)) == (
        "The mean AUROC is 0.713 (95 % interval 0.690 to 0.741) over 13 of 14 findings, measured on 1,120 test films of 340 patients "
        "(split protocol: sampled)."
    )
    assert result_sentence(make_contents(["Mass"])).startswith("The AUROC for Mass is 0.")


def test_report_of_a_test_that_measured_nothing(make_contents: MakeContents) -> None:
    findings = ["Mass", "Nodule"]
    contents = make_contents(findings, films=40, blank=tuple(findings))
    assert contents.metrics["mean_auroc"] is None
    page = render_report(contents)
    assert "No finding could be measured on 40 test films of 40 patients" in page
    assert "Not measurable, and part of no mean: Mass, Nodule (no positive test film)." in page
    assert [figure["target"] for figure in _figures(page)] == ["plot-learning", "plot-learning-findings"]


def test_repeated_opening_of_the_test_split_is_pointed_out(make_contents: MakeContents) -> None:
    assert openings_sentence(1) == "The test split has been opened once."
    page = Page(render_report(make_contents(openings=3)))
    warnings = [
        i for i, (tag, attrs) in enumerate(page.tags) if tag == "p" and attrs.get("class") == "warning"
    ]
    assert warnings
    assert any("opened 3 times" in text and "weakens the result" in text for text in page.texts["p"])


def test_leak_is_the_first_line(make_contents: MakeContents) -> None:
    leak = {
        "patients": 2300, "shared_patients": 12, "shared_films": 1, "clean": False, "allowed": True,
        "pairs": {"train-validation": 0, "train-test": 8, "validation-test": 4},
    }  # fmt: skip
    page = Page(render_report(make_contents(leak_check=leak)))
    body = [tag for tag, _ in page.tags].index("body")
    assert page.tags[body + 1] == ("p", {"class": "banner", "role": "alert"})
    assert page.texts["p"][0].startswith(
        "Patient leak, allowed by split.allow_leak: 12 of 2,300 patients are in more than one split (8 in train and test, 4 in validation and test)."
    )
    clean = Page(render_report(make_contents()))
    assert not [attrs for _, attrs in clean.tags if attrs.get("class") == "banner"]
    assert "Leak check passed: none of the 2,300 patients is in more than one split." in clean.texts["p"]


def test_openings_of_predictions_made_elsewhere_are_not_known(
    make_files_contents: Callable[..., Contents],
) -> None:
    page = render_report(make_files_contents())
    assert "nobody counted how often these test films were looked at" in page
    assert "Patients are not known, so the intervals are image-level" in page
    assert "Not measurable: the scores are no probabilities" in page
    assert "Not shown: no --validation-predictions were given." in page
    assert "Scored, but not labelled, and in no figure: Fracture." in page


@pytest.mark.parametrize(
    ("narrower_by", "said"),
    [
        (0.123, "would flatter: they are 12% narrower (median over findings) than those by patient."),
        (-0.04, "would be 4% wider"),
        (0.001, "would be as wide as those by patient."),
        (None, "Too few patients"),
    ],
)
def test_what_image_level_intervals_would_do(narrower_by: float | None, said: str) -> None:
    assert said in flattery_sentence(narrower_by)


def test_operating_points_say_where_thresholds_come_from(make_contents: MakeContents) -> None:
    contents = make_contents(["Mass", "Edema"])
    point = contents.metrics["operating_points"]["findings"]["Mass"]["youden"]
    point |= {
        "threshold": 0.12345,
        "sensitivity": {"value": 0.805, "interval": [0.71, 0.882]},
        "ppv": {"value": None, "interval": None},
    }
    page = render_report(contents)
    assert "Thresholds were chosen on 1,120 validation films of 340 patients" in page
    row = next(r for r in Page(page).tables["By Youden's index"] if r[0] == "Mass")
    assert row[1:3] == ["0.1235", "80.5% (71.0–88.2)"]
    assert row[4] == "–"


def test_gaps_that_stand_out_are_named_largest_first(make_contents: MakeContents) -> None:
    contents = make_contents(["Mass", "Edema"])
    groups = contents.metrics["subgroups"]["groupings"]
    for entry in (
        e for grouping in groups.values() for group in grouping.values() for e in group["findings"].values()
    ):
        entry["p_holm"] = None
    assert gap_sentences(contents) == [
        "No gap between a group and the others stands out after adjusting for the number of tests."
    ]
    groups["sex"]["F"]["findings"]["Mass"] |= {"gap": 0.05, "p_holm": 0.031}
    groups["view"]["AP"]["findings"]["Edema"] |= {"gap": -0.1, "p_holm": 0.0001}
    (sentence,) = gap_sentences(contents)
    assert sentence.endswith("Edema in view AP -0.100 (p < 0.001); Mass in sex F +0.050 (p 0.031).")
    cells = Page(render_report(contents)).tables["AUROC by sex"]
    assert [row[1].endswith("*") for row in cells[1:]] == [True, False]


def test_misses_are_shown_by_row_and_as_films_only_when_asked(make_contents: MakeContents) -> None:
    plain, pictured = (render_report(make_contents(pictures=asked)) for asked in (False, True))
    rows = Page(plain).tables["Positive films that score low"][1:]
    assert rows
    assert all(int(row[1]) >= 5000 for row in rows)
    assert "data:image/png" not in plain.partition("<script")[0]
    assert pictured.partition("<script")[0].count("data:image/png") == len(make_contents().misses)


def test_model_card_has_the_headings_of_the_paper(
    make_contents: MakeContents, make_files_contents: Callable[..., Contents]
) -> None:
    page = render_report(make_contents())
    for heading in ("Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
                    "Quantitative analyses", "Ethical considerations", "Caveats"):  # fmt: skip
        assert f"<dt>{heading}</dt>" in page
    assert "resnet34 at 224 × 224 px" in page
    assert "Not known: the predictions were made elsewhere." in render_report(make_files_contents())


def test_tables_hold_the_figures_of_the_page(make_contents: MakeContents) -> None:
    contents = make_contents(blank=("Hernia",))
    metrics = contents.metrics
    found = tables(metrics)
    findings = found["findings"].set_index("finding")
    assert findings.loc["Mass", "auroc"] == metrics["auroc"]["Mass"]
    assert [findings.loc["Mass", f"auroc_{end}"] for end in ("low", "high")] == metrics["intervals"]["auroc"][
        "Mass"
    ]
    assert np.isnan(findings.loc["Hernia", "auroc"])
    points = found["operating-points"].set_index(["finding", "point"])
    youden = metrics["operating_points"]["findings"]["Edema"]["youden"]
    assert points.loc[("Edema", "youden"), "ppv"] == youden["ppv"]["value"]
    assert set(found["subgroups"]["grouping"]) == {"sex", "age band", "view"}
    data = figures_data(contents)
    json.dumps(data, allow_nan=False)
    assert set(data["roc"]) == set(contents.measured("auroc"))
    assert len(data["roc"]["Mass"]["band"]["low"]) == 101


def _cell(row: Any, name: str, places: int = 3) -> str:
    """A figure of a CSV row with its interval, as the page writes it; percent where `places` is 1."""
    value, low, high = (float(row[n]) for n in (name, f"{name}_low", f"{name}_high"))
    share = places == 1
    scale = 100 if share else 1
    ends = "" if np.isnan(low) else f" ({scale * low:.{places}f}–{scale * high:.{places}f})"
    return f"{scale * value:.{places}f}{'%' if share else ''}{ends}"


def test_page_json_and_csv_say_the_same(make_contents: MakeContents) -> None:
    """Every AUROC, average precision, rate, Brier score and subgroup of the page stands in the CSV tables and in the JSON."""
    contents = make_contents(blank=("Hernia",))
    page = Page(render_report(contents)).tables
    csv = {
        name: pd.read_csv(io.StringIO(table.to_csv(index=False)))
        for name, table in tables(contents.metrics).items()
    }
    metrics = json.loads(json.dumps(figures_data(contents)))["metrics"]
    findings = csv["findings"].set_index("finding")
    measured = [f for f in contents.findings if f != "Hernia"]
    results_rows = {row[0]: row for row in page["Test split, by finding, with 95 % intervals"]}
    brier_rows = {
        row[0]: row for row in page["Brier score (with 95 % interval) and expected calibration error"]
    }
    for finding in measured:
        row = findings.loc[finding]
        assert results_rows[finding][2:4] == [_cell(row, "auroc"), _cell(row, "average_precision")]
        assert row["auroc"] == metrics["auroc"][finding]
        assert [row["auroc_low"], row["auroc_high"]] == metrics["intervals"]["auroc"][finding]
        assert brier_rows[finding][1:] == [
            _cell(row, "brier"),
            f"{row['ece']:.3f}",
            f"{row['ece_equal_count']:.3f}",
        ]
    points = csv["operating-points"].set_index(["point", "finding"])
    for name, caption in (
        ("youden", "By Youden's index"),
        ("fixed_sensitivity", "By sensitivity 90% on validation"),
    ):
        shown = {row[0]: row for row in page[caption]}
        for finding in measured:
            row = points.loc[(name, finding)]
            assert shown[finding][2:] == [
                _cell(row, r, 1) for r in ("sensitivity", "specificity", "ppv", "npv", "f1")
            ]
            assert row["ppv"] == metrics["operating_points"]["findings"][finding][name]["ppv"]["value"]
    groups = csv["subgroups"].set_index(["grouping", "group", "finding"])
    by_sex = {row[0]: row for row in page["AUROC by sex"]}
    for finding in measured:
        for column, group in ((1, "F"), (2, "M")):
            row = groups.loc[("sex", group, finding)]
            marks = (" small" if row["small"] else "") + (" *" if row["p_holm"] < 0.05 else "")
            assert by_sex[finding][column] == _cell(row, "auroc") + marks


def test_split_table_counts_films_patients_and_positives(make_contents: MakeContents) -> None:
    contents = make_contents(["Mass", "Nodule"])
    train = contents.manifest["splits"]["train"]
    train["positives"]["Mass"], train["labelled"]["Mass"] = 300, 7500
    train["positives"]["Nodule"], train["labelled"]["Nodule"] = 0, 0
    table = _only_table(splits(contents).blocks)
    assert table.columns == ["", "Train", "Validation", "Test"]  # no film is unused
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["Films"] == ["8,000", "800", "1,120"]
    assert rows["Patients"] == ["1,700", "260", "340"]
    assert rows["Mass"][0] == "300 (4.0%)"
    assert rows["Nodule"][0] == "not labelled"


def test_exposure_compares_what_was_shown_with_what_there_is(make_contents: MakeContents) -> None:
    contents = make_contents(["Mass"], epochs=2)
    for line, positives in zip(contents.history, (1000, 1400), strict=True):
        seen = {"positives": positives, "negatives": 4800, "films": positives // 5, "patients": 90}
        line["exposure"]["Mass"] = seen
    contents.manifest["splits"]["train"] |= {"positives": {"Mass": 300}, "labelled": {"Mass": 7500}}
    table = _only_table(exposure(contents).blocks)
    assert table.rows == [["Mass", "1,200", "4,800", "20.0%", "4.0%", "4.0", "240", "90"]]
    each = Page(render_report(contents)).tables["Positive / negative labels by epoch"]
    assert each[1:] == [["1", "1,000 / 4,800"], ["2", "1,400 / 4,800"]]


def test_learning_curve_marks_the_chosen_epoch(make_contents: MakeContents) -> None:
    contents = make_contents(epochs=8)
    plot, by_finding = learning(contents).plots
    (chosen,) = [trace for trace in plot.figure["data"] if trace["name"] == "chosen: epoch 6"]
    assert chosen["x"] == [6]
    assert chosen["y"] == [contents.history[5]["mean_auroc"]]
    assert [row[0] for row in plot.table.rows] == ["1", "2", "3", "4", "5", "6 (chosen)", "7", "8"]
    for figure in (plot.figure, by_finding.figure):
        assert [(line["x0"], line["x1"]) for line in figure["layout"]["shapes"]] == [(6, 6)]


def test_learning_curves_of_rate_and_of_each_finding(make_contents: MakeContents) -> None:
    contents = make_contents(["Mass", "Nodule"], epochs=3)
    for number, line in enumerate(contents.history):
        line["learning_rate"] = 0.001 / (number + 1)
        line["auroc"] = {"Mass": 0.6 + number / 10, "Nodule": None if number == 1 else 0.5}
    plot, by_finding = learning(contents).plots
    (rate,) = [trace for trace in plot.figure["data"] if trace["name"] == "learning rate"]
    assert rate["y"] == pytest.approx([0.001, 0.0005, 0.001 / 3])
    assert [row[4] for row in plot.table.rows] == ["0.001", "0.0005", "0.00033"]
    curves = {trace["name"]: trace["y"] for trace in by_finding.figure["data"]}
    assert curves["Mass"] == pytest.approx([0.6, 0.7, 0.8]) and curves["Nodule"] == [0.5, None, 0.5]
    assert [row[1:] for row in by_finding.table.rows] == [
        ["0.600", "0.500"], ["0.700", "not measurable"], ["0.800", "0.500"]
    ]  # fmt: skip


def test_report_without_history_or_measured_validation(make_contents: MakeContents) -> None:
    assert "The run kept no history" in render_report(replace(make_contents(), history=[]))
    contents = make_contents(epochs=2)
    contents.history[0]["mean_auroc"] = None
    assert [learning(contents).plots[0].table.rows[0][i] for i in (0, 3)] == ["1", "not measurable"]
    drawn = {figure["target"]: figure for figure in _figures(render_report(contents))}
    assert drawn["plot-learning"]["data"][2]["y"][0] is None


def test_curves_and_their_readings_by_hand() -> None:
    # The four scores of scikit-learn's own example: AUROC 0.75, average precision 0.83.
    labels = np.array([[0], [0], [1], [1], [np.nan]], np.float32)
    scores = np.array([[0.1], [0.4], [0.35], [0.8], [0.99]])
    (roc,) = figures.roc_curves(["Mass"], labels, scores, {"Mass": 0.75})
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(0.75)
    assert [figures.sensitivity_at(roc, s) for s in (1.0, 0.6, 0.5)] == [0.5, 0.5, 1.0]
    (curve,) = figures.precision_recall_curves(["Mass"], labels, scores, {"Mass": 0.8333})
    assert (np.diff(curve.x) * curve.y[1:]).sum() == pytest.approx(5 / 6)
    assert [figures.precision_at(curve, r) for r in (0.25, 0.5, 0.75)] == pytest.approx([1, 1, 2 / 3])


def test_long_curves_are_thinned_between_their_ends() -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random((20_000, 1)) < 0.1).astype(np.float32)
    scores = rng.normal(size=labels.shape) + labels
    (curve,) = figures.roc_curves(["Mass"], labels, scores, {"Mass": 0.76})
    trace = figures.roc_figure([curve])["data"][0]
    assert len(curve.x) > 10_000
    assert 300 < len(trace["x"]) <= 400
    assert (trace["x"][0], trace["y"][0], trace["x"][-1], trace["y"][-1]) == (0, 0, 1, 1)
    assert np.abs(np.interp(curve.x, trace["x"], trace["y"]) - curve.y).max() < 0.01


def test_figures_are_what_plotly_knows(make_contents: MakeContents) -> None:
    for figure in _figures(render_report(make_contents(blank=("Hernia",)))):
        go.Figure({"data": figure["data"], "layout": figure["layout"]})  # ValueError on an unknown property


def test_line_colours_stand_out_on_both_pages() -> None:
    css = Path(figures.__file__).with_name("report.css").read_text()
    pages = re.findall(r"--page: (#\w{6})", css)
    assert len(pages) == 2
    for page in pages:
        for colour in (*figures.PALETTE, figures.NEUTRAL):
            assert _contrast(colour, page) >= 3, (colour, page)


def test_hostile_names_stay_text(make_contents: MakeContents) -> None:
    contents = replace(
        make_contents([*HOSTILE, "a & b"]), title=HOSTILE[1], config_yaml=f"note: {HOSTILE[1]}"
    )
    html = render_report(contents)
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert "img" not in page.texts
    assert page.texts["h1"] == [HOSTILE[1]]
    assert [
        row[0] for row in page.tables["Test split, by finding, with 95 % intervals"][1:5]
    ] == contents.findings
    names = [trace["name"].rpartition(" ")[0] for trace in _figures(html)[0]["data"]]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in names
    assert "a &amp; b" in names
    assert not [name for name in names if "<" in name]


def test_figures_cannot_end_the_element_that_holds_them() -> None:
    text = "</script><!--<script>&"
    held = figures_json([Plot("plot", {"data": [{"name": text}]}, "label", Table("caption", [], []))])
    assert not set("<>&") & set(held)
    assert json.loads(held)[0]["data"] == [{"name": text}]


def test_page_asks_the_network_for_nothing(make_contents: MakeContents) -> None:
    html = render_report(make_contents())
    page = Page(html)
    loads = [
        (t, n, v) for t, attrs in page.tags for n, v in attrs.items() if n in LOADING and v and v[0] != "#"
    ]
    assert loads == []
    styles = page.texts["style"][0]
    assert "url(" not in styles
    assert "@import" not in styles
    assert "link" not in page.texts
    for figure in _figures(html):
        assert figure["config"]["showSendToCloud"] is False
        assert "http" not in json.dumps(figure)


def test_policy_allows_the_scripts_of_the_page_and_no_other(make_contents: MakeContents) -> None:
    page = Page(render_report(make_contents()))
    (policy,) = [
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    digests = [
        base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in page.texts["script"][1:]
    ]
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    assert "unsafe" not in rules["script-src"]


def test_no_ids_get_into_the_page(make_contents: MakeContents) -> None:
    contents = make_contents()
    contents.manifest["films"] = [{"image_id": "00012345_003.png", "patient_id": "12345"}]
    contents.metrics["worst"] = {"image_id": "00012345_003.png"}
    contents.history[0]["rows"] = ["00012345_003.png"]
    assert "00012345" not in render_report(contents)


def test_page_has_a_sound_skeleton(make_contents: MakeContents) -> None:
    page = Page(render_report(make_contents()))
    tags = [tag for tag, _ in page.tags]
    assert page.tags[0] == ("html", {"lang": "en"})
    assert [tags.count(tag) for tag in ("h1", "header", "nav", "main", "footer")] == [1] * 5
    assert tags.count("h2") == len(all_sections(make_contents()))
    levels = [int(tag[1]) for tag in tags if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))  # no level is left out
    first_link = next(attrs for tag, attrs in page.tags if tag == "a")
    assert first_link == {"class": "skip", "href": "#main"}
    assert ("main", {"id": "main", "tabindex": "-1"}) in page.tags
    assert tags.count("caption") == tags.count("table")
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    plots = [attrs for _, attrs in page.tags if attrs.get("class") == "plot"]
    assert len(plots) == 4
    assert [attrs.get("class") for _, attrs in page.tags].count("plot small") == 3 * 14
    assert all(attrs["aria-label"] for attrs in plots)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {a["href"] for t, a in page.tags if t == "a"} <= {f"#{i}" for i in ids}


def _figures(html: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.DOTALL)
    assert found
    data: list[dict[str, Any]] = json.loads(found[1])
    return data


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
