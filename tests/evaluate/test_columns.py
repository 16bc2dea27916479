"""What columns of somebody's table are taken for."""

import pytest

from ray_cxr.evaluate.columns import (
    Ids,
    Named,
    group_columns,
    id_column,
    id_columns,
    label_columns,
    list_column,
    patient_column,
    plain_columns,
    score_columns,
)


@pytest.mark.parametrize(
    ("column", "finding"),
    [
        ("prob_Mass", "Mass"),
        ("prob_Pleural_Thickening", "Pleural_Thickening"),
        ("pred:Pleural Effusion", "Pleural Effusion"),
        ("y_pred_Edema", "Edema"),
        ("Hernia_score", "Hernia"),
        ("Lung Opacity prediction", "Lung Opacity"),
        ("LOGIT-Mass", "Mass"),
        ("problem", None),
        ("Mass", None),
        ("prob_", None),
    ],
)
def test_scores_are_known_by_a_word_before_or_after_the_finding(column: str, finding: str | None) -> None:
    assert score_columns([column]) == ([] if finding is None else [Named(column, finding)])


@pytest.mark.parametrize(
    ("column", "finding"),
    [("label_Mass", "Mass"), ("Mass_true", "Mass"), ("y_true_Edema", "Edema"), ("gt Effusion", "Effusion"), ("Mass", None)],
)  # fmt: skip
def test_labels_are_known_by_a_word_before_or_after_the_finding(column: str, finding: str | None) -> None:
    assert label_columns([column]) == ([] if finding is None else [Named(column, finding)])


@pytest.mark.parametrize(
    "name", ["Image Index", "image_id", "ImageID", "path", "Unnamed: 0", "", "id", "filename", "Study ID"]
)
def test_ids(name: str) -> None:
    assert id_column(["Mass", name]) == name


def test_the_surest_id_column_counts() -> None:
    assert id_column(["Unnamed: 0", "id", "Image Index"]) == "Image Index"
    assert id_columns(["", "Image Index"], ["image_id", "index"]) == Ids(
        "Image Index", "image_id", study=False
    )
    assert id_columns(["index", "study_id"], ["Path", "study_id"]) == Ids("study_id", "study_id", study=True)
    assert id_columns(["id", "Mass"], ["Image Index"]) == Ids("id", "Image Index", study=False)
    assert id_columns(["Mass"], ["Image Index"]) is None


def test_columns_of_nih() -> None:
    nih = [
        "Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position",
        "OriginalImage[Width", "Height]", "Mass",
    ]  # fmt: skip
    assert patient_column(nih) == "Patient ID"
    assert list_column(nih) == "Finding Labels"
    assert group_columns(nih) == {"sex": "Patient Gender", "age": "Patient Age", "view": "View Position"}
    plain = [n.finding for n in plain_columns(nih)]
    assert "Mass" in plain
    assert not {"Image Index", "Patient ID", "Finding Labels", "Patient Age"} & set(plain)
