"""The page: what it says, and what it must not say."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from ray_cxr.errors import InputError
from ray_cxr.job import Job
from ray_cxr.labels.table import build_label_table
from ray_cxr.report.explore.exploration import Exploration
from ray_cxr.report.explore.films import Film
from ray_cxr.report.explore.material import Material, material_of_dataset
from ray_cxr.report.explore.remarks import leak_alarm, remarks
from ray_cxr.report.explore.write import output_folder, sections, write_exploration
from ray_cxr.storage import Folder

from .conftest import material_of

Explore = Callable[..., Exploration]
HOSTILE = ["<script>alert(1)</script>", '<img src=x onerror="alert(2)">', "%{y} </script>"]


class Texts(HTMLParser):
    """What a reader reads, by tag; and the pictures' texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.sources: list[str] = []
        self._tag = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.sources += [v or "" for k, v in attrs if k in ("src", "href")]
        self.texts.setdefault(tag, [])

    def handle_data(self, data: str) -> None:
        if self._tag and data.strip():
            self.texts[self._tag].append(data)


def written(
    found: Exploration, folder: Path, choice: str | None = "dataset"
) -> tuple[str, dict[str, object]]:
    figures = write_exploration(Folder(folder), "a job", found, "resnet18", choice)
    assert json.loads((folder / "explore.json").read_text()) == json.loads(json.dumps(figures))
    return (folder / "index.html").read_text(), figures


@pytest.fixture(scope="module")
def drawn(drawn_job: Job, explore_quietly: Explore) -> Exploration:
    return explore_quietly(material_of_dataset(drawn_job.dataset), films=40)


def test_nobody_and_no_file_is_named(drawn: Exploration, drawn_job: Job, tmp_path: Path) -> None:
    page, _ = written(drawn, tmp_path)
    figures = (tmp_path / "explore.json").read_text()
    table = build_label_table(drawn_job.source, None).frame
    for text in (page, figures):
        assert "phantom-0" not in text
        assert not [
            name for name in {*table["patient_id"], *table["image_id"], *table["locator"]} if name in text
        ]
        assert drawn_job.dataset not in text


def test_the_page_asks_for_nothing(drawn: Exploration, tmp_path: Path) -> None:
    page, _ = written(drawn, tmp_path)
    assert all(s.startswith(("#", "data:image/png;base64,")) for s in Texts(page).sources)
    assert "default-src &#39;none&#39;" in page


def test_figures_are_what_plotly_knows(drawn: Exploration, tmp_path: Path) -> None:
    page, _ = written(drawn, tmp_path)
    found = re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)
    assert found
    figures = json.loads(found[1])
    assert [f["target"] for f in figures] == [
        "plot-prevalence", "plot-balance", "plot-patients", "plot-per-film", "plot-age", "plot-film", "plot-gray", "plot-brightness",
    ]  # fmt: skip
    for figure in figures:
        go.Figure({"data": figure["data"], "layout": figure["layout"]})


def test_normalisation_in_figures(drawn: Exploration, tmp_path: Path) -> None:
    page, figures = written(drawn, tmp_path, "none")
    assert drawn.pixels is not None
    mean = drawn.pixels.mean_and_std[0]
    cells = Texts(page).texts["td"]
    assert f"{mean:.3f}" in cells
    assert "“none”, set in this job" in Texts(page).texts["th"]
    by_kind = {n["kind"]: n for n in figures["normalisations"]}  # type: ignore[attr-defined]
    assert by_kind["imagenet"]["mean"] == (0.485, 0.456, 0.406)
    # The data set's own figures are of all training films; those of 40 of them are near.
    assert by_kind["dataset"]["mean"][0] == pytest.approx(mean, abs=0.05)


def test_labels_only(drawn_job: Job, explore_quietly: Explore, tmp_path: Path) -> None:
    page, figures = written(explore_quietly(material_of_dataset(drawn_job.dataset)), tmp_path)
    assert figures["pixels"] is None
    assert "<img" not in page
    assert "Films by finding" not in page


def frame(films: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame({
        "patient_id": [f"secret{i // 2}" for i in range(films)],
        **{name: (rng.random(films) < 0.4).astype(np.float32) for name in HOSTILE},
    })  # fmt: skip


def test_hostile_names_are_texts(explore_quietly: Explore, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    films = [Film(i, rng.integers(0, 256, (64, 64), dtype=np.uint8), (64, 64)) for i in range(20)]
    page, _ = written(explore_quietly(material_of(frame(), HOSTILE, films), films=10), tmp_path)
    texts = Texts(page).texts
    assert HOSTILE[0] in texts["h3"]
    assert len(re.findall(r"<script", page)) == 3, "the figures, plotly and our own"
    assert "<img src=x" not in page
    assert "secret" not in page


def test_without_age_sex_view_and_split(explore_quietly: Explore, tmp_path: Path) -> None:
    page, figures = written(explore_quietly(material_of(frame(), HOSTILE)), tmp_path)
    assert "Neither age nor sex nor view is given" in page
    assert figures["by"] == {}
    assert figures["leak_checks"] == {}


def test_findings_that_nobody_has_or_labels(explore_quietly: Explore, tmp_path: Path) -> None:
    films = pd.DataFrame({"patient_id": ["a", "b"], "Mass": [0.0, 0.0], "Edema": [np.nan, np.nan]})
    page, _ = written(explore_quietly(material_of(films, ["Mass", "Edema"])), tmp_path)
    assert "No film shows any of them." in page
    assert "one class only" in page
    assert "nan" not in " ".join(Texts(page).texts["td"]).lower()


def leaky() -> Material:
    split = np.resize(["train", "train", "test"], 60)
    return material_of(frame().assign(split=split, given_split=np.resize(["A", "B"], 60)), HOSTILE)


def test_a_leak_is_the_first_line(explore_quietly: Explore, tmp_path: Path) -> None:
    found = explore_quietly(leaky())
    alarm = leak_alarm(found)
    assert alarm is not None
    assert alarm.text.startswith(
        "Patient leak in the splits: 20 of 30 patients are in more than one set (20 in train and test)"
    )
    page, figures = written(found, tmp_path)
    assert re.search(r'<body>\s*<p class="banner" role="alert">Patient leak in the splits', page)
    assert figures["remarks"][0] == alarm.text  # type: ignore[index]
    assert "The split that the label table gives: 30 of 30 patients are in more than one set" in page


def test_a_split_of_the_table_that_is_not_used_is_no_alarm(explore_quietly: Explore) -> None:
    films = frame().assign(given_split=np.resize(["A", "B"], 60))
    alone = explore_quietly(material_of(films, HOSTILE))
    alarm = leak_alarm(alone)
    assert alarm is not None
    assert alarm.text.startswith("Patient leak in the split that the label table gives")
    beside = explore_quietly(material_of(films.assign(split=np.repeat(["train", "test"], 30)), HOSTILE))
    assert leak_alarm(beside) is None
    assert "gives a split of its own, in which 30 of 30 patients" in said(beside)


def test_a_split_that_would_be_refused_is_the_first_line(explore_quietly: Explore) -> None:
    alarm = leak_alarm(explore_quietly(material_of(frame(), HOSTILE, leak="patient leak: 8 patients")))
    assert alarm is not None
    assert alarm.text == "The job's split would be refused: patient leak: 8 patients"


def said(found: Exploration) -> str:
    return "\n".join(text.text for text in remarks(found))


def test_what_stands_out(explore_quietly: Explore) -> None:
    many = pd.DataFrame({
        "patient_id": [f"p{i}" for i in range(4000)], "split": np.resize(["train"] * 8 + ["validation", "test"], 4000),
        "Mass": np.resize([1.0, 0.0, 0.0], 4000), "Hernia": np.r_[np.ones(11), np.zeros(3989)],
        "Edema": np.r_[np.ones(1), np.zeros(1999), np.full(2000, np.nan)], "Nodule": 0.0,
        "age": np.r_[np.full(4, np.nan), np.full(3996, 50.0)], "pixel_sha256": ["twin", "twin", *map(str, range(3998))],
    })  # fmt: skip
    text = said(
        explore_quietly(
            material_of(many, ["Mass", "Hernia", "Edema", "Nodule"], prepared=True, refused={"empty file": 3})
        )
    )
    for sentence in (
        "one class only, or no label, of Nodule",
        "fewer than 50 times: Hernia (9), Edema (1)",
        "positive test films: Hernia (1), Edema (0)",
        "for each positive one: Hernia (1 : 355), Edema (1 : 1,599)",
        "Not every film is labelled for Edema (50.0%)",
        "4 films have no usable age",
        "3 films could not be used",
        "1 film with exactly the pixels of another film",
    ):
        assert sentence in text
    assert "are few" not in text
    assert "Mass" not in text


def test_a_sound_data_set_has_little_to_say(drawn: Exploration) -> None:
    assert leak_alarm(drawn) is None
    assert "are few" in said(drawn)


def test_uneven_sampling_is_restored(explore_quietly: Explore) -> None:
    films = frame().assign(
        split=np.resize(["train", "test"], 60), sampling_weight=np.resize([1.0, 2.0, 3.0], 60)
    )
    made = sections(explore_quietly(material_of(films, HOSTILE, prepared=True)), [], None)
    tables = [
        b for s in made for b in s.blocks if getattr(b, "caption", "").startswith("Prevalence restored")
    ]
    assert len(tables) == 1


def test_folds_have_a_table_and_a_check(explore_quietly: Explore) -> None:
    folds = pd.array(np.resize([0, 0, 1, 1, 2, 2], 60), dtype="Int8")
    found = explore_quietly(material_of(frame().assign(fold=folds), HOSTILE))
    assert found.leaks["folds"].clean
    assert [c.films for c in found.folds.values()] == [20, 20, 20]


def test_several_sources_say_who_labels_what(explore_quietly: Explore, tmp_path: Path) -> None:
    films = frame().assign(source=np.resize(["0:nih", "1:csv"], 60))
    films.loc[films["source"] == "1:csv", HOSTILE[0]] = np.nan
    sources = [
        {"source": "0:nih", "rows": 30, "films": 30, "notes": ["a note"]},
        {"source": "1:csv", "rows": 30, "films": 30},
    ]
    page, figures = written(explore_quietly(material_of(films, HOSTILE, sources=sources)), tmp_path)
    assert "Who labels what" in page
    assert "0:nih: a note." in page
    assert figures["by_source"]["1:csv"]["findings"][HOSTILE[0]]["labelled"] == 0  # type: ignore[index]


def test_where_it_is_written(drawn_job: Job, tmp_path: Path) -> None:
    data = drawn_job.dataset
    assert output_folder(None, data).url == f"{data}-explore"
    assert output_folder(str(tmp_path), data).url == str(tmp_path)
    assert output_folder(None, "memory://set").url == "memory://set-explore"
    with pytest.raises(InputError, match="a data set's own directory"):
        output_folder(data, data)
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(InputError, match="not of explore"):
        output_folder(str(tmp_path), data)
