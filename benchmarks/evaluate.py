"""What the uncertainty of a test costs: 2,000 draws of patients × 14 findings × 22,433 films, as tables.

    python benchmarks/evaluate.py [--draws 2000] [--films 22433]

Films, patients and prevalences are like those of ChestX-ray14's test list; scores are made up. The peer is what people
write: films resampled by index, `roc_auc_score` in a loop; it is timed over a few draws and reckoned up.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from ray_cxr.bootstrap import area_draws, auroc_draws, draw_patient_weights
from ray_cxr.evaluate.delong import delong
from ray_cxr.evaluate.figures import Choices, measure
from ray_cxr.evaluate.inputs import Scored

PREVALENCE = [0.13, 0.04, 0.18, 0.24, 0.07, 0.06, 0.02, 0.10, 0.07, 0.04, 0.04, 0.017, 0.045, 0.003]
PATIENTS = 2797
_PEER_DRAWS = 5


def films_like_nih(films: int) -> Scored:
    """Made-up scores; a patient's films resemble each other."""
    rng = np.random.default_rng(0)
    patient = np.sort(rng.integers(0, PATIENTS, films))
    labels = (rng.random((films, len(PREVALENCE))) < PREVALENCE).astype(np.float32)
    logits = (
        rng.normal(size=labels.shape)
        + 1.2 * labels
        - 2
        + 0.7 * rng.normal(size=(PATIENTS, len(PREVALENCE)))[patient]
    )
    groups = pd.DataFrame(
        {
            "sex": rng.choice(["F", "M"], films),
            "age": rng.integers(1, 95, films),
            "view": rng.choice(["PA", "AP"], films),
        }
    )
    names = np.array([f"{n:08d}" for n in patient], object)
    ids = np.array([f"{n:08d}_{i:03d}" for i, n in enumerate(patient)], object)
    return Scored(
        ids, names, [f"finding {n}" for n in range(14)], labels, 1 / (1 + np.exp(-logits)), groups=groups
    )


def peer_s(test: Scored, draws: int) -> float:
    """Seconds that a loop over scikit-learn's AUROC would take, from a few draws of all findings."""
    rng, found = np.random.default_rng(0), time.perf_counter()
    for _ in range(_PEER_DRAWS):
        drawn = rng.integers(0, len(test), len(test))
        for f in range(len(test.findings)):
            roc_auc_score(test.labels[drawn, f], test.scores[drawn, f])
    return (time.perf_counter() - found) / _PEER_DRAWS * draws


def timed(name: str, work: object, rows: list[tuple[str, float]]) -> None:
    """Calls `work`, keeps its seconds."""
    started = time.perf_counter()
    work()  # type: ignore[operator]
    rows.append((name, time.perf_counter() - started))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--films", type=int, default=22_433)
    options = parser.parse_args()
    test = films_like_nih(options.films)
    columns = [test.column(f) for f in test.findings]
    draws = draw_patient_weights(test.units.tolist(), options.draws, 0)
    rows: list[tuple[str, float]] = []
    timed("AUROC, one process", lambda: [auroc_draws(y, s, draws) for y, s in columns], rows)
    timed(
        "AUROC and average precision, one process",
        lambda: [area_draws(y, s, draws) for y, s in columns],
        rows,
    )
    timed(
        "DeLong by patient, no draws", lambda: [delong(y, s, test.units.tolist()) for y, s in columns], rows
    )
    choices = Choices(draws=options.draws)
    timed("the whole report's figures, one process", lambda: measure(test, test, choices, workers=0), rows)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    timed(
        "the whole report's figures, Ray tasks, with Ray's start",
        lambda: measure(test, test, choices, workers=2),
        rows,
    )
    rows.append(("peer: scikit-learn in a loop, AUROC by film (reckoned up)", peer_s(test, options.draws)))
    print(
        f"{options.draws:,} draws × {len(columns)} findings × {options.films:,} films of {test.patients:,} patients"
    )
    print("| | seconds |\n|---|---|")
    for name, seconds in rows:
        print(f"| {name} | {seconds:.1f} |")
    print(f"peak memory of the one process: {own:.2f} GiB")


if __name__ == "__main__":
    main()
