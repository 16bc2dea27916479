"""The phantom cohort: who the patients are, which films they have, what those films show.

Reads a seed, writes the label table (`phantom_table`) and, for one locator, the description that the drawing
side turns into a film (`describe`). No number depends on how many patients are asked for: each patient has
random streams of his own, keyed by (seed, patient, film, purpose).
"""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import pandas as pd

from ray_cxr.labels.phantom_anatomy import (
    LEFT,
    MASS_CM,
    NODULE_CM,
    RIGHT,
    Anatomy,
    Lesion,
    Mark,
    sample_anatomy,
    sample_lesion,
    sample_mark,
)

FINDINGS: tuple[str, ...] = (
    "Cardiomegaly",
    "Effusion",
    "Mass",
    "Nodule",
    "Pneumothorax",
    "Edema",
    "Consolidation",
)
MAX_FILMS = 6
SHALLOWEST_BREATH_CM = -2.0
_LOCATOR = re.compile(r"phantom:(\d{1,18})/(\d{1,9})/(\d{1,3})")


class _Purpose(IntEnum):
    """The last word of a random stream's key; a new use gets a new number and leaves old films alone."""

    COURSE = 0
    BODY = 1
    DISEASE = 2
    TECHNIQUE = 3


@dataclass(frozen=True)
class Effusion:
    """Fluid in one pleural sac."""

    side: int
    height_cm: float
    """Top of the meniscus at the chest wall, above the tip of the costophrenic angle."""


@dataclass(frozen=True)
class Pneumothorax:
    """Air in one pleural sac of the upright patient."""

    side: int
    gap_cm: float
    """Widest distance between chest wall and visceral pleura, at the apex."""


@dataclass(frozen=True)
class Edema:
    """Fluid in both lungs, around the hila first."""

    severity: float
    """0.4 = interstitial only, 1 = alveolar."""


@dataclass(frozen=True)
class Consolidation:
    """A patch of lung whose air is displaced; centre and radius in the patient's cm."""

    side: int
    x_cm: float
    y_cm: float
    radius_cm: float
    density: float
    """Share of the air that is displaced at the centre."""
    seed: int


@dataclass(frozen=True)
class Technique:
    """How the film was taken: nothing of it belongs to the patient."""

    view: str
    shift_cm: tuple[float, float]
    rotation_deg: float
    zoom: float
    breath_cm: float
    exposure: float
    """Shift of the tone curve, in units of the density scale; positive = darker film."""
    contrast: float
    noise: float
    blur_cm: float
    collimation_cm: tuple[float, float, float, float] | None
    """Shuttered margins (left, top, right, bottom)."""
    marker: tuple[str, float, float] | None
    """The lead letter and its place on the detector."""
    seed: int


@dataclass(frozen=True)
class Patient:
    """What all films of a patient share: his anatomy, and a mark of his own."""

    patient_id: str
    sex: str
    anatomy: Anatomy
    mark: Mark | None


@dataclass(frozen=True)
class Film:
    """What one film shows beside the patient's anatomy, and how it was taken."""

    image_id: str
    age: float
    findings: tuple[bool, ...]
    """In the order of `FINDINGS`; cardiomegaly itself lives in the patient's anatomy."""
    technique: Technique
    masses: tuple[Lesion, ...] = ()
    nodules: tuple[Lesion, ...] = ()
    effusions: tuple[Effusion, ...] = ()
    pneumothorax: Pneumothorax | None = None
    edema: Edema | None = None
    consolidations: tuple[Consolidation, ...] = ()


@dataclass(frozen=True)
class Course:
    """A patient's history without its geometry: cheap, and all that the label table needs."""

    sex: str
    ages: tuple[float, ...]
    views: tuple[str, ...]
    findings: tuple[tuple[bool, ...], ...]


def patient_course(seed: int, patient: int) -> Course:
    """How many films patient number `patient` has and what they show.

    One hidden frailty drives age, number of films, AP share and findings, so that findings keep company as
    they do on a ward. Cardiomegaly is lifelong, a mass or a nodule stays once it is there, the others come
    and go.
    """
    rng = _stream(seed, patient, 0, _Purpose.COURSE)
    frailty = rng.standard_normal()
    age = float(np.clip(55 + 6 * frailty + 15 * rng.standard_normal(), 18, 94))
    sex = "F" if rng.random() < 0.46 else "M"
    films = 1 + int(rng.binomial(MAX_FILMS - 1, _logistic(-1.36 + 0.75 * frailty)))
    cardiomegaly = rng.random() < _logistic(-2.95 + 0.75 * frailty + (age - 55) / 40)
    onset = {
        name: int(rng.integers(0, films + 1))
        if rng.random() < _logistic(base + 0.3 * frailty + (age - 55) / 40)
        else films
        for name, base in (("Mass", -2.95), ("Nodule", -2.2))
    }
    ages, views, findings = [], [], []
    state: dict[str, bool] = dict.fromkeys(FINDINGS, False)
    for film in range(films):
        state = {
            "Cardiomegaly": cardiomegaly,
            "Mass": film >= onset["Mass"],
            "Nodule": film >= onset["Nodule"],
            **_acute_findings(rng, frailty, state, cardiomegaly),
        }
        acute = state["Effusion"] or state["Edema"] or state["Pneumothorax"]
        views.append("AP" if rng.random() < _logistic(-1.7 + 0.8 * frailty + 0.9 * acute) else "PA")
        ages.append(round(age, 1))
        findings.append(tuple(state[name] for name in FINDINGS))
        age += float(rng.exponential(0.6))
    return Course(sex, tuple(ages), tuple(views), tuple(findings))


def phantom_table(patients: int, seed: int, min_films: int = 1) -> pd.DataFrame:
    """The label table of the first `patients` patients with `min_films` films or more, ordered by patient then film.

    Columns: image_id, patient_id, locator, view ("PA"/"AP"), age (years), sex ("F"/"M"), then one float32
    column of 0.0/1.0 for each of `FINDINGS`. Raises ValueError for a negative number of patients or seed, and for more
    films than a patient has.
    """
    if patients < 0 or seed < 0:
        raise ValueError(f"patients and seed must be 0 or more, but got patients={patients}, seed={seed}.")
    if min_films > MAX_FILMS:
        raise ValueError(f"min_films must be {MAX_FILMS} or less, but got min_films={min_films}.")
    columns = ("image_id", "patient_id", "locator", "view", "age", "sex")
    rows: list[tuple[str, str, str, str, float, str]] = []
    labels: list[tuple[bool, ...]] = []
    with_enough = (p for p in itertools.count() if len(patient_course(seed, p).findings) >= min_films)
    for patient in itertools.islice(with_enough, patients):
        course = patient_course(seed, patient)
        patient_id = _patient_id(patient)
        for film, (view, age) in enumerate(zip(course.views, course.ages, strict=True)):
            locator = f"phantom:{seed}/{patient}/{film}"
            rows.append((_image_id(patient, film), patient_id, locator, view, age, course.sex))
        labels.extend(course.findings)
    table = pd.DataFrame(rows, columns=pd.Index(columns))
    values = np.array(labels, np.float32).reshape(len(rows), len(FINDINGS))
    return table.assign(**{name: values[:, column] for column, name in enumerate(FINDINGS)})


def parse_locator(locator: str) -> tuple[int, int, int]:
    """(seed, patient, film) of "phantom:<seed>/<patient>/<film>"; ValueError for anything else."""
    match = _LOCATOR.fullmatch(locator)
    if match is None:
        raise ValueError(f'locator must look like "phantom:<seed>/<patient>/<film>", but got {locator!r}.')
    seed, patient, film = (int(group) for group in match.groups())
    return seed, patient, film


def describe(locator: str) -> tuple[Patient, Film]:
    """The patient and the film behind a locator.

    Raises ValueError if the locator is malformed or the patient has no such film.
    """
    seed, patient, film = parse_locator(locator)
    course = patient_course(seed, patient)
    if film >= len(course.findings):
        last = len(course.findings) - 1
        raise ValueError(f"locator {locator!r} asks for film {film}, but that patient has films 0 to {last}.")
    shown = dict(zip(FINDINGS, course.findings[film], strict=True))
    body_rng = _stream(seed, patient, 0, _Purpose.BODY)
    anatomy = sample_anatomy(body_rng, course.sex, shown["Cardiomegaly"])
    mark = sample_mark(body_rng, anatomy)
    # Lesions must stay above the domes on the shallowest breath.
    shallow = replace(anatomy, breath_cm=SHALLOWEST_BREATH_CM)
    mass, nodules = sample_lesion(body_rng, shallow, MASS_CM), tuple(_nodules(body_rng, shallow))
    sides = _habitual_sides(body_rng)
    picture = Film(
        image_id=_image_id(patient, film),
        age=course.ages[film],
        findings=course.findings[film],
        technique=_technique(_stream(seed, patient, film, _Purpose.TECHNIQUE), course.views[film]),
        masses=(mass,) if shown["Mass"] else (),
        nodules=nodules if shown["Nodule"] else (),
    )
    disease_rng = _stream(seed, patient, film, _Purpose.DISEASE)
    person = Patient(_patient_id(patient), course.sex, anatomy, mark)
    return person, _add_acute(picture, disease_rng, anatomy, shown, sides)


def _acute_findings(
    rng: np.random.Generator, frailty: float, before: dict[str, bool], cardiomegaly: bool
) -> dict[str, bool]:
    """The findings that come and go, each likelier if it was on the film before."""
    edema = rng.random() < _logistic(-4.3 + 0.8 * frailty + 1.7 * cardiomegaly + 2.2 * before["Edema"])
    effusion = rng.random() < _logistic(
        -2.75
        + 0.6 * frailty
        + 1.9 * edema
        + 0.8 * cardiomegaly
        + 0.8 * before["Mass"]
        + 1.8 * before["Effusion"]
    )
    consolidation = rng.random() < _logistic(
        -3.3 + 0.4 * frailty + 0.7 * effusion + 1.8 * before["Consolidation"]
    )
    pneumothorax = rng.random() < _logistic(-3.45 + 0.2 * frailty + 1.8 * before["Pneumothorax"])
    return {
        "Edema": edema,
        "Effusion": effusion,
        "Consolidation": consolidation,
        "Pneumothorax": pneumothorax,
    }


def _habitual_sides(rng: np.random.Generator) -> dict[str, int]:
    """A recurrence tends to the side of the first episode, so the side is the patient's."""
    return {
        name: LEFT if rng.random() < 0.48 else RIGHT for name in ("Effusion", "Pneumothorax", "Consolidation")
    }


def _nodules(rng: np.random.Generator, anatomy: Anatomy) -> Iterator[Lesion]:
    for _ in range(int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))):
        yield sample_lesion(rng, anatomy, NODULE_CM)


def _add_acute(
    film: Film, rng: np.random.Generator, anatomy: Anatomy, shown: dict[str, bool], sides: dict[str, int]
) -> Film:
    """Size and place of the findings that come and go. All are drawn, so that one never moves another."""
    side = sides["Effusion"]
    effusions: tuple[Effusion, ...] = (Effusion(side, 2.3 + 8.4 * float(rng.beta(1.0, 2.2))),)
    other = Effusion(-side, 2.2 + 4.5 * float(rng.beta(1.0, 2.5)))
    if rng.random() < (0.7 if shown["Edema"] else 0.3):
        effusions += (other,)
    pneumothorax = Pneumothorax(sides["Pneumothorax"], 2.0 + 3.6 * float(rng.beta(1.3, 1.7)))
    edema = Edema(0.42 + 0.58 * float(rng.beta(1.2, 1.6)))
    consolidation = _consolidation(rng, anatomy, sides["Consolidation"])
    return replace(
        film,
        effusions=effusions if shown["Effusion"] else (),
        pneumothorax=pneumothorax if shown["Pneumothorax"] else None,
        edema=edema if shown["Edema"] else None,
        consolidations=(consolidation,) if shown["Consolidation"] else (),
    )


def _consolidation(rng: np.random.Generator, anatomy: Anatomy, side: int) -> Consolidation:
    """Lower zones more often than upper ones, as with aspiration and bacterial pneumonia."""
    y_cm = anatomy.apex_y_cm + anatomy.lung_height_cm * (0.2 + 0.58 * float(rng.beta(2.0, 1.3)))
    border = anatomy.mediastinum_border(side)
    inner = float(np.interp(y_cm, border[:, 1], np.abs(border[:, 0])))
    x_cm = inner + (float(anatomy.lateral_cm(y_cm)) - inner) * float(rng.uniform(0.3, 0.7))
    radius, density = float(rng.uniform(2.2, 4.2)), float(rng.uniform(0.45, 0.75))
    return Consolidation(side, side * x_cm, y_cm, radius, density, int(rng.integers(2**31)))


def _technique(rng: np.random.Generator, view: str) -> Technique:
    """Pose, breath, exposure; a bedside (AP) film is shallower, greyer, noisier and more askew."""
    bedside = view == "AP"
    spread = 1.5 if bedside else 1.0
    shift = np.clip(rng.normal(0, 0.55 * spread, 2), -2, 2)
    rotation = float(np.clip(rng.normal(0, 1.3 * spread), -5, 5))
    margins = rng.uniform(0.0, 2.2, 4)
    collimation = (margins[0], margins[1], margins[2], margins[3]) if rng.random() < 0.3 else None
    letter = "L" if rng.random() < 0.5 else "R"
    # The marker stands beside the patient, on the side that it names.
    marker_x = (1 if letter == "L" else -1) * rng.uniform(14.5, 17.5)
    marker = (letter, float(marker_x), float(rng.uniform(2.6, 5.0))) if rng.random() < 0.6 else None
    return Technique(
        view=view,
        shift_cm=(float(shift[0]), float(shift[1])),
        rotation_deg=rotation,
        zoom=float(rng.normal(1.03 if bedside else 1.0, 0.018)),
        breath_cm=float(rng.uniform(SHALLOWEST_BREATH_CM, -0.5) if bedside else rng.uniform(-0.8, 0.3)),
        exposure=float(rng.normal(0, 0.035 * spread)),
        contrast=float(rng.uniform(0.85, 1.0) if bedside else rng.uniform(0.92, 1.12)),
        noise=float(rng.uniform(0.8, 1.6) * spread),
        blur_cm=float(rng.uniform(0.03, 0.09)),
        collimation_cm=collimation,
        marker=marker,
        seed=int(rng.integers(2**31)),
    )


def _stream(seed: int, patient: int, film: int, purpose: _Purpose) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, patient, film, int(purpose)))))


def _logistic(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit))


def _patient_id(patient: int) -> str:
    return f"phantom-{patient:06d}"


def _image_id(patient: int, film: int) -> str:
    return f"phantom-{patient:06d}-{film:03d}"
