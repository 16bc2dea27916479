"""The benchmark of what the numbers teach: its folds, its figures, and (slow) one fold of it on real films."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ray_cxr.bootstrap import draw_patient_weights

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules() -> Iterator[tuple[ModuleType, ModuleType]]:
    """teaching and teaching_tables, which lie beside each other and in no package."""
    sys.path.insert(0, str(BENCHMARKS))
    import teaching
    import teaching_tables

    yield teaching, teaching_tables
    sys.path.remove(str(BENCHMARKS))


def _films(films: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "image_id": [f"{i}.png" for i in range(films)],
            "patient_id": rng.integers(0, films // 2, films).astype(str),
        }
    )
    return table.assign(Mass=(rng.random(films) < 0.3) * 1.0, Hernia=(rng.random(films) < 0.05) * 1.0)


def test_folds_keep_patients_together_and_spread_rare_findings(
    modules: tuple[ModuleType, ModuleType],
) -> None:
    films = _films()
    fold = modules[0].deal_folds(films, ["Mass", "Hernia"])
    assert films.assign(fold=fold).groupby("patient_id")["fold"].nunique().max() == 1
    assert set(fold) == set(range(5)) and np.ptp(np.bincount(fold)) <= 0.1 * len(films)
    assert films["Hernia"].groupby(fold).sum().min() >= 2
    assert np.array_equal(fold, modules[0].deal_folds(films, ["Mass", "Hernia"]))


def test_plan_goes_fold_by_fold(modules: tuple[ModuleType, ModuleType]) -> None:
    films = _films()
    singles = modules[0].most_positives(films, ["Hernia", "Mass"])
    works = list(modules[0].plan(singles, [0, 1], ["reference", "only Mass"]))
    assert singles == ["Mass", "Hernia"]
    assert [w.name for w in works] == ["reference-0", "only Mass-0", "reference-1", "only Mass-1"]
    assert works[1].changes == ["findings=[Mass]"]


def test_auroc_within_one_fold_is_scikit_learns(modules: tuple[ModuleType, ModuleType]) -> None:
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 200).astype(float), rng.integers(0, 20, 200) / 20
    labels[:20] = np.nan
    weights = np.stack([np.ones(200), rng.integers(0, 4, 200).astype(float)])
    found = modules[1].auroc_within_folds(labels, scores, np.zeros(200, int), weights)
    expected = [roc_auc_score(labels[20:], scores[20:], sample_weight=w[20:]) for w in weights]
    assert found == pytest.approx(expected)


def test_films_of_other_folds_make_no_pair(modules: tuple[ModuleType, ModuleType]) -> None:
    """Fold 0: one pair of two right; fold 1, on another scale: four of four; fold 2 has no positive. 5 of 6 pairs."""
    labels = np.array([1, 0, 0, 1, 1, 0, 0, 0.0])
    scores = np.array([0.5, 0.4, 0.6, 0.03, 0.04, 0.01, 0.02, 0.9])
    fold = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    assert modules[1].auroc_within_folds(labels, scores, fold, np.ones((1, 8))) == pytest.approx([5 / 6])
    assert np.isnan(modules[1].auroc_within_folds(labels[:1], scores[:1], fold[:1], np.ones((1, 1)))).all()


def test_mean_leaves_out_what_cannot_be_measured(modules: tuple[ModuleType, ModuleType]) -> None:
    films = _films().assign(fold=0)
    rng = np.random.default_rng(2)
    for finding in ("Mass", "Hernia", "Edema"):
        films[f"label_{finding}"] = films.get(finding, 0.0)
        films[f"prob_{finding}"] = rng.random(len(films))
    draws = draw_patient_weights(films["patient_id"].tolist(), 50, seed=0)
    figure = modules[1].mean_auroc(films, ["Mass", "Hernia", "Edema"], draws)
    expected = [roc_auc_score(films[f"label_{f}"], films[f"prob_{f}"]) for f in ("Mass", "Hernia")]
    assert figure.value == pytest.approx(np.mean(expected)) and len(figure.draws) == 50


def test_variants_scored_on_other_films_are_refused(modules: tuple[ModuleType, ModuleType]) -> None:
    films = _films().assign(fold=0, label_Mass=lambda t: t["Mass"], prob_Mass=0.5)
    other = films.assign(fold=1)
    with pytest.raises(ValueError, match="same films in the same folds"):
        modules[1].render({"reference": films, "bce": other})


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_fold_on_real_films(
    modules: tuple[ModuleType, ModuleType],
    shared_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = [
        f"source.images={shared_data / 'nih/images'}",
        f"source.labels={shared_data / 'nih/Data_Entry_2017_v2020.csv.gz'}",
    ]
    command = ["--work", str(tmp_path), "--quick", *places]
    modules[0].main(command)
    page = capsys.readouterr().out
    assert page.strip() == (tmp_path / "teaching.md").read_text(encoding="utf-8").strip()
    assert page.count("| ") and all(f"| {title} |" in page for title in modules[1].TITLES.values())
    assert "| Pneumonia |" in page
    done = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "results").iterdir()}
    assert len(done) == 2 * 8
    modules[0].main(command)
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "results").iterdir()} == done, (
        "nothing is trained twice"
    )
