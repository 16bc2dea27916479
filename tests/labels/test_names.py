"""Findings under several names."""

import pytest

from ray_cxr.errors import InputError
from ray_cxr.labels.names import SYNONYMS, canonical, match_findings, nearest, says_normal
from ray_cxr.labels.nih import FINDINGS as NIH

CHEXPERT = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
]  # fmt: skip
"""The columns of CheXpert's tables (Irvin et al. 2019)."""


def test_chexpert_and_nih_share_seven_findings() -> None:
    assert match_findings(CHEXPERT, NIH) == {
        "Cardiomegaly": "Cardiomegaly",
        "Edema": "Edema",
        "Consolidation": "Consolidation",
        "Pneumonia": "Pneumonia",
        "Atelectasis": "Atelectasis",
        "Pneumothorax": "Pneumothorax",
        "Pleural Effusion": "Effusion",
    }


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Pleural_Thickening", "Pleural_Thickening"),
        ("pleural thickening", "Pleural_Thickening"),
        ("Thickened pleura", "Pleural_Thickening"),
        ("HERNIA", "Hernia"),
        ("Pulmonary oedema", "Edema"),
        ("Infiltrate", "Infiltration"),
        ("Hiatal Hernia", None),
        ("Lung Lesion", None),
        ("Masss", None),
        ("", None),
    ],
)
def test_a_name_is_known_by_text_spelling_or_synonym(name: str, known: str | None) -> None:
    assert canonical(name, NIH) == known


def test_the_same_text_goes_before_synonyms() -> None:
    assert canonical("Effusion", ["Pleural Effusion", "Effusion"]) == "Effusion"
    assert canonical("Pleural Effusion", ["Effusion"]) == "Effusion"
    assert canonical("Effusion", ["Pleural Effusion"]) == "Pleural Effusion"


def test_what_may_be_two_is_refused() -> None:
    with pytest.raises(InputError, match="'effusion' may be 'Effusion' or 'EFFUSION'"):
        canonical("effusion", ["Effusion", "EFFUSION"])
    with pytest.raises(InputError, match="'Effusion', 'Pleural Effusion' all mean 'Effusion'; keep one"):
        match_findings(["Effusion", "Pleural Effusion"], NIH)


def test_the_table_of_synonyms_leads_to_names_that_lead_nowhere_else() -> None:
    assert not set(SYNONYMS) & set(SYNONYMS.values())


def test_nearest_name_for_a_message() -> None:
    assert nearest("Masss", NIH) == "Mass"
    assert nearest("pleural thicknening", NIH) == "Pleural_Thickening"
    assert nearest("Covid", NIH) is None


@pytest.mark.parametrize(("name", "normal"), [("NORMAL", True), ("No_Finding", True), ("Abnormal", False)])
def test_names_of_no_finding(name: str, normal: bool) -> None:
    assert says_normal(name) == normal
