"""Anybody's predictions and labels: what published files look like, and what is wrong with them."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.evaluate.files import Called, read_scored, refuse_shared
from ray_cxr.evaluate.inputs import Scored
from ray_cxr.labels.nih import FINDINGS
from ray_cxr.metrics import metrics_by_finding

NAN = float("nan")
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a table from its text, gives its path."""

    def make(text: str, name: str = "table.csv") -> str:
        data = "\n".join(line.strip() for line in text.strip().splitlines()).encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(tmp_path / name)

    return make


LABELS = """
    Image Index,Finding Labels,Patient ID
    00000001_000.png,Mass|Pleural_Thickening,1
    00000001_001.png,No Finding,1
    00000002_000.png,Effusion,2
    00000003_000.png,,3
"""
PREDICTIONS = """
    Image Index,prob_Effusion,prob_Mass,prob_Pleural_Thickening
    00000003_000.png,0.1,0.2,0.3
    00000002_000.png,0.9,0.4,0.2
    00000001_000.png,0.2,0.8,0.7
"""


def test_scores_find_their_labels_by_id_and_name(write: Write) -> None:
    scored = read_scored(write(PREDICTIONS), write(LABELS, "labels.csv.gz"))
    assert scored.findings == ["Effusion", "Mass", "Pleural_Thickening"]
    assert scored.scores.tolist() == [[0.1, 0.2, 0.3], [0.9, 0.4, 0.2], [0.2, 0.8, 0.7]]
    assert np.array_equal(scored.labels, [[NAN] * 3, [1, 0, 0], [0, 1, 1]], equal_nan=True)
    assert scored.patient_ids is not None
    assert scored.patient_ids.tolist() == ["3", "2", "1"]
    assert scored.origin["labelled_without_scores"] == ["No Finding"]
    assert scored.origin["rows_of_the_label_table"] == 4


@pytest.mark.parametrize(
    "predictions",
    [
        "image,Pleural Effusion_pred,lung mass_pred,pleural thickening_pred\n{rows}",
        "Pleural Effusion,path,Mass,Pleural Thickening\n{shuffled}",
        ",effusion,mass,thickened pleura\n{rows}",
        "Unnamed: 0\tEffusion\tMass\tPleural_Thickening\n{tabs}",
        "id;score.Effusion;score.Mass;score.Pleural-Thickening\n{semicolons}",
    ],
)
def test_names_separators_and_order_of_columns_do_not_matter(write: Write, predictions: str) -> None:
    rows = [["00000002_000", "0.9", "0.4", "0.2"], ["00000001_000", "0.2", "0.8", "0.7"]]
    text = predictions.format(
        rows="\n".join(",".join(r) for r in rows),
        shuffled="\n".join(",".join([r[1], f"nih/images/{r[0]}.png", r[2], r[3]]) for r in rows),
        tabs="\n".join("\t".join(r) for r in rows),
        semicolons="\n".join(";".join(r) for r in rows),
    )
    scored = read_scored(write(text), write(LABELS, "labels.csv"))
    assert scored.scores.tolist() == [[0.9, 0.4, 0.2], [0.2, 0.8, 0.7]]
    assert scored.labels.tolist() == [[1, 0, 0], [0, 1, 1]]


def test_labels_may_stand_in_the_predictions(write: Write) -> None:
    text = """
        image_id,prob_Mass,label_Mass,prob_Edema,label_Edema,patient_id
        a,0.5,1.0,0.1,,7
        b,0.2,0.0,0.3,1,8
    """
    scored = read_scored(write(text), None)
    assert np.array_equal(scored.labels, [[1, NAN], [0, 1]], equal_nan=True)
    plain = "image_id,prob_Mass,Mass\na,0.5,1\nb,0.2,0"
    assert read_scored(write(plain, "plain.csv"), None).labels.tolist() == [[1], [0]]


def test_a_table_of_predictions_and_labels_is_read_back_exactly(write: Write, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"image_id": list("abcdef"), "prob_Mass": rng.random(6), "label_Mass": [1, 0, NAN, 1, 0, 0]}
    )
    frame.to_parquet(tmp_path / "p.parquet")
    frame.to_csv(tmp_path / "p.csv", index=False)
    for name in ("p.parquet", "p.csv"):
        scored = read_scored(str(tmp_path / name), None)
        assert scored.scores[:, 0].tolist() == frame["prob_Mass"].tolist()
        assert np.array_equal(scored.labels[:, 0], frame["label_Mass"].to_numpy(np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("cell", "label"),
    [("1", 1), ("0.0", 0), ("YES", 1), ("no", 0), ("HEDGE", NAN), ("-1", NAN), ("-1.0", NAN), ("", NAN), ("True", 1), ("1.000", 1)],
)  # fmt: skip
def test_label_cells(write: Write, cell: str, label: float) -> None:
    labels = write(f"Image ID,Mass,note\na,{cell},x\nb,1,y", "labels.csv")
    scored = read_scored(write("image,prob_Mass\na,0.5\nb,0.1"), labels)
    assert np.array_equal(scored.labels[:, 0], [label, 1], equal_nan=True)


def test_an_own_column_goes_before_the_list(write: Write) -> None:
    """As in the four-finding reader table, which holds both NIH's list and columns of its own."""
    labels = write("Image Index,Finding Labels,Pneumothorax\na,Pneumothorax,NO\nb,Mass,YES", "labels.csv")
    scored = read_scored(write("image,prob_Pneumothorax,prob_Mass\na,0.5,0.1\nb,0.1,0.2"), labels)
    assert scored.labels.tolist() == [[0, 0], [1, 1]]


def test_patients_come_from_the_table_the_option_or_nih_names(write: Write) -> None:
    predictions = write("image,prob_Mass\n00000001_000.png,0.5\n00000002_000.png,0.2")
    labels = write("image,Mass\n00000001_000.png,1\n00000002_000.png,0", "labels.csv")
    by_name = read_scored(predictions, labels)
    assert by_name.patient_ids is not None
    assert by_name.patient_ids.tolist() == ["00000001", "00000002"]
    patients = write("patient_id,image_id\nB,00000002_000\nA,00000001_000", "patients.csv")
    given = read_scored(predictions, labels, patients)
    assert given.patient_ids is not None
    assert given.patient_ids.tolist() == ["A", "B"]
    nobody = read_scored(write("image,prob_Mass,label_Mass\na,0.5,1\nb,0.1,0", "n.csv"), None)
    assert nobody.patient_ids is None
    assert "image-level" in nobody.origin["patients_from"]


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ("image,prob_Mass\na,0.5\na,0.4", "image,Mass\na,1", "column 'image' repeats the id of an earlier row 1 time among 2 rows"),
        ("image,prob_Mass\na,0.5\nc,0.4", "image,Mass\na,1", r"--labels lacks 1 of the 2 films \(data row 2\); ids look like 'a' on both sides"),
        ("image,prob_Mass\na,0.5", "image,Mass\na,1\na,0", "1 film asked for stands in several rows"),
        ("image,prob_Mass\na,0.5\nb,nan", "image,Mass\na,1\nb,0", r"column 'prob_Mass' has 1 cell that is no finite number \('nan' in data row 2\)"),
        ("image,prob_Mass\na,inf\nb,1", "image,Mass\na,1\nb,0", "no finite number"),
        ("image,prob_Mass\na,high\nb,1", "image,Mass\na,1\nb,0", r"no finite number \('high' in data row 1\)"),
        ("image,prob_Mass\na,\nb,1", "image,Mass\na,1\nb,0", "no finite number"),
        ("image,prob_Mass\na,0.5", "image,Mass\na,2", r"column 'Mass' has 1 cell that is no label \('2' in data row 1\)"),
        ("image,prob_Mass\na,0.5", "image,Edema\na,1", r"none of its findings \('Mass'\) is labelled in --labels \('Edema'\)"),
        ("Mass,Edema\n0.5,0.1", "image,Mass\na,1", "no column names the films"),
        ("image,prob_Mass,pred_Mass\na,0.5,0.1", "image,Mass\na,1", "several columns hold scores of one finding"),
        ("image,prob_Effusion,prob_Pleural Effusion\na,0.5,0.1", "image,Effusion\na,1", "all mean 'Effusion'"),
        ("image,prob_Mass\na,0,5", "image,Mass\na,1", "1 rows of another length"),
        ("image;prob_Mass\na;0,5", "image,Mass\na,1", "give every film a score with a point, not a comma"),
        ("image,prob_Mass\na,1e999", "image,Mass\na,1", "no finite number"),
        ("image,prob_Mass\na,0.5\nb,0.5\nc,0.1", "image,Mass\nc,maybe\nb,1\na,maybe", r"2 cells that are no label \('maybe' in data rows 1, 3\)"),
        ("image,prob_Mass\na,0.5", "image,label\na,1", "column 'label' holds labels, but does not say of which finding"),
        ("image,prob_Mass\na,0.5", "image,Patient ID\na,1", r"--labels: it labels no finding \(it has 'image', 'Patient ID'\)"),
        ("image,patient_id\na,7", "image,Mass\na,1", r"--predictions: no column holds scores \(it has 'image', 'patient_id'\)"),
        (",prob_Mass\na,0.5\na,0.1", "image,Mass\na,1", "the column without a name repeats"),
        ("image,prob_Mass\na,0.5", "image,Mass,Patient ID\na,1,", r"column 'Patient ID' has 1 blank cell \(data row 1\)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(
    write: Write, predictions: str, labels: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_scored(write(predictions), write(labels, "labels.csv"))
    assert "\n" not in caught.value.message


def test_films_left_out_keep_the_others_rows(write: Write) -> None:
    labels = write("image,Mass\na,1\nc,0", "labels.csv")
    scored = read_scored(write("image,prob_Mass\nb,0.1\nc,0.2\na,0.3"), labels, leave_out_unlabelled=True)
    assert scored.image_ids.tolist() == ["c", "a"]
    assert scored.rows is not None
    assert scored.rows.tolist() == [1, 2]
    assert scored.only(np.array([False, True])).rows.tolist() == [2]  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"'x' in data row 3"):
        read_scored(write("image,prob_Mass\nb,0.1\nc,0.2\na,x"), labels, leave_out_unlabelled=True)


def test_plain_predictions_alone_have_no_labels(write: Write) -> None:
    for called in (
        Called(),
        Called("RUN 'a.csv'"),
        Called("--validation-predictions", "--validation-labels"),
    ):
        for text in ("image,Mass\na,0.5", "image,prob_Mass\na,0.5"):
            with pytest.raises(
                InputError, match=f"^{called.predictions}: it holds no labels; give {called.labels}, or a"
            ):
                read_scored(write(text), None, called=called)


def test_marked_labels_beside_plain_scores(write: Write) -> None:
    scored = read_scored(write("image,Mass,label_Mass\na,0.5,1\nb,0.2,0"), None)
    assert (scored.scores.tolist(), scored.labels.tolist()) == ([[0.5], [0.2]], [[1], [0]])


def test_every_column_of_numbers_that_is_not_used_is_listed(write: Write) -> None:
    labels = write("image,Mass,Edema,note\na,1,0,x\nb,0,1,y", "labels.csv")
    origin = read_scored(
        write(
            "image,prob_Mass,prob_Zebra,Edema,fold,age,word,label_Mass\na,.5,.1,.2,1,50,x,1\nb,.4,.2,.3,2,60,,0"
        ),
        labels,
    ).origin
    assert origin["scored_without_labels"] == ["Zebra"]
    assert origin["unused_numeric_columns"] == ["Edema", "fold", "label_Mass"]
    assert origin["labelled_without_scores"] == ["Edema"]
    plain = read_scored(write("image,Mass,Oedemas\na,.5,.1\nb,.4,.2"), labels).origin
    assert plain["unused_numeric_columns"] == ["Oedemas"]
    same = read_scored(write("image,prob_Mass,Mass,Edema\na,.5,1,0\nb,.4,0,1"), None).origin
    assert (same["unused_numeric_columns"], same["labelled_without_scores"]) == ([], ["Edema"])


def test_films_of_a_study_have_its_labels(write: Write) -> None:
    """As in MIMIC-CXR: scores of films, labels of studies, whose ids a blank cell has turned into decimals."""
    predictions = write("dicom_id,study_id,prob_Mass\nf1,7,.5\nf2,7,.4\nf3,8,.1")
    scored = read_scored(
        predictions, write("study_id,subject_id,Mass\n8.0,2.0,0\n7.0,1.0,1\n9.0,,1", "labels.csv")
    )
    assert scored.image_ids.tolist() == ["f1", "f2", "f3"]
    assert scored.labels.tolist() == [[1], [1], [0]]
    assert scored.patient_ids is not None
    assert scored.patient_ids.tolist() == ["1", "1", "2"]
    with pytest.raises(InputError, match=r"column 'study_id' has 1 blank cell among 2 \(data row 2\)"):
        read_scored(
            write("dicom_id,study_id,prob_Mass\nf1,7,.5\nf2,,.4"),
            write("study_id,Mass\n7,0\n,1", "labels.csv"),
        )


def test_rows_of_a_study_may_differ_in_what_is_not_asked_for(write: Write) -> None:
    labels = write("study_id,Frontal/Lateral,Mass\n7,F,1\n7,L,1", "labels.csv")
    assert read_scored(write("study_id,prob_Mass\n7,.5"), labels).labels.tolist() == [[1]]
    other = write("study_id,Mass\n7,0\n7,1", "labels.csv")
    with pytest.raises(InputError, match=r"1 study has several rows that do not agree \(data rows 1, 2\)"):
        read_scored(write("study_id,prob_Mass\n7,.5"), other)


@pytest.mark.parametrize("cells", ["Mass;Edema", "Mass, Edema", "lung mass|Edema"])
def test_lists_of_findings_in_other_forms(write: Write, cells: str) -> None:
    labels = write(f"image\tFinding Labels\na\t{cells}\nb\tMass\nc\tMass\nd\tNo Finding", "labels.tsv")
    scored = read_scored(write("image,Mass,Edema\na,.1,.2\nb,.1,.2\nc,.3,.4\nd,.3,.4"), labels)
    assert scored.labels.tolist() == [[1, 1], [1, 0], [1, 0], [0, 0]]


def test_scores_that_say_nothing_carry_a_caution(write: Write) -> None:
    text = "image,prob_Mass,prob_Edema,prob_Hernia,label_Mass,label_Edema,label_Hernia\na,.5,1,.1,1,1,1\nb,.5,0,.2,0,0,0"
    constant, decided = read_scored(write(text), None).origin["cautions"]
    assert constant.startswith("every film has the same score: Mass;")
    assert decided.startswith("the scores are 0 and 1 only: Edema;")


def test_groups_and_weights_are_read(write: Write) -> None:
    labels = write(
        """image_id,Mass,Patient Gender,Patient Age,Manufacturer,sampling_weight
        a,1,F,058Y,X,1.0
        b,0,M,010M,Y,20.5""",
        "labels.csv",
    )
    scored = read_scored(write("image,prob_Mass\na,0.5\nb,0.1"), labels)
    assert scored.groups["sex"].tolist() == ["F", "M"]
    assert scored.groups["age"].tolist() == pytest.approx([58, 10 / 12])
    assert scored.groups["scanner"].tolist() == ["X", "Y"]
    assert scored.weights is not None
    assert scored.weights.tolist() == [1.0, 20.5]


def test_validation_films_of_test_patients_are_refused(write: Write) -> None:
    def made(ids: list[str], patients: list[str]) -> Scored:
        labels = np.zeros((len(ids), 1), np.float32)
        return Scored(
            np.array(ids, object), np.array(patients, object), ["Mass"], labels, labels.astype(float)
        )

    refuse_shared(made(["a"], ["1"]), made(["b"], ["2"]))
    with pytest.raises(RefusedError, match="0 films and 1 patient are"):
        refuse_shared(made(["a", "c"], ["1", "3"]), made(["b"], ["1"]))
    with pytest.raises(
        RefusedError, match="0 films and 1 patient are"
    ):  # NIH's names say so, whatever the columns do
        refuse_shared(made(["00000007_000.png"], ["7"]), made(["00000007_001.png"], ["00000007"]))
    for same in ("images/a.png", "a.dcm"):
        with pytest.raises(RefusedError, match="1 film and 0 patients are"):
            refuse_shared(made(["a.png"], ["1"]), made([same], ["2"]))
    refuse_shared(made(["test/1.png"], ["1"]), made(["validation/1.png"], ["2"]))
    with pytest.raises(RefusedError, match="1 film and 0 patients are"):
        refuse_shared(made(["a"], ["1"]), made(["a"], ["2"]))


def test_figures_over_the_official_test_list_are_those_of_scikit_learn(
    shared_data: Path, tmp_path: Path
) -> None:
    """A file as published: the films of the official list in another order, float32 as text, findings in another order."""
    nih = shared_data / "nih"
    table = pd.read_csv(nih / "Data_Entry_2017_v2020.csv.gz")
    names = set(gzip.decompress((nih / "test_list.txt.gz").read_bytes()).decode().split())
    films = table[table["Image Index"].isin(names)].sample(frac=1, random_state=3)
    rng = np.random.default_rng(5)
    truth = {
        f: films["Finding Labels"].str.split("|").map(lambda c, f=f: f in c).to_numpy() for f in FINDINGS
    }
    scores = {
        f: np.round(rng.random(len(films)) ** 3 + 0.1 * truth[f], 4).astype(np.float32)
        for f in reversed(FINDINGS)
    }
    made = {"Image Index": films["Image Index"].to_numpy()} | {f"prob_{f}": s for f, s in scores.items()}
    pd.DataFrame(made).to_csv(tmp_path / "preds.csv", index=False)
    scored = read_scored(str(tmp_path / "preds.csv"), str(nih / "Data_Entry_2017_v2020.csv.gz"))
    assert (len(scored), scored.patients) == (25_596, 2_797)
    figures = metrics_by_finding(scored.labels, scored.scores, scored.findings)
    for f in FINDINGS:
        assert figures["auroc"][f] == pytest.approx(roc_auc_score(truth[f], scores[f]), abs=1e-12)
        assert figures["average_precision"][f] == pytest.approx(
            average_precision_score(truth[f], scores[f]), abs=1e-12
        )
