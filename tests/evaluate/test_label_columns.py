"""Which columns label what."""

import pandas as pd
import pytest

from ray_cxr.errors import InputError
from ray_cxr.evaluate.label_columns import labelled_findings


def _table(second: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"image_id": list("abc"), "Effusion": ["1", "0", ""], "Pleural Effusion": second})


def test_two_columns_of_one_finding_that_agree_are_one() -> None:
    assert labelled_findings(_table(["yes", "0", "-1"]), own_columns=True).columns == {"Effusion": "Effusion"}


@pytest.mark.parametrize(
    ("second", "rows"), [(["0", "1", ""], "2 data rows"), (["1", "0", "1"], "1 data row")]
)
def test_two_columns_of_one_finding_that_differ_are_refused(second: list[str], rows: str) -> None:
    with pytest.raises(
        InputError, match=f"'Effusion' and 'Pleural Effusion' name one finding and differ in {rows};"
    ):
        labelled_findings(_table(second), own_columns=True)


def test_scores_beside_labels_of_a_like_name_are_no_contradiction() -> None:
    found = labelled_findings(_table(["0.2", "0.7", "0.4"]), own_columns=True)
    assert found.columns == {"Effusion": "Effusion"}
