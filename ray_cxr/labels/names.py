"""One finding, several spellings: which name of one table is which name of another. Pure.

Only names that mean the same are joined. A wider or narrower name ("Lung Opacity" and "Consolidation", "Hiatal
Hernia" and "Hernia", "Lung Lesion" and "Nodule") stays a finding of its own: a wrong join would be a wrong label.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from ray_cxr.errors import InputError

SYNONYMS: dict[str, str] = {
    "Pleural Effusion": "Effusion",
    "Pleural Effusions": "Effusion",
    "Effusions": "Effusion",
    "Atelectases": "Atelectasis",
    "Enlarged Heart": "Cardiomegaly",
    "Heart Enlargement": "Cardiomegaly",
    "Infiltrate": "Infiltration",
    "Infiltrates": "Infiltration",
    "Lung Mass": "Mass",
    "Pulmonary Mass": "Mass",
    "Lung Nodule": "Nodule",
    "Pulmonary Nodule": "Nodule",
    "Nodule or Mass": "Nodule/Mass",
    "Consolidations": "Consolidation",
    "Oedema": "Edema",
    "Lung Edema": "Edema",
    "Pulmonary Edema": "Edema",
    "Pulmonary Oedema": "Edema",
    "Pulmonary Emphysema": "Emphysema",
    "Lung Fibrosis": "Fibrosis",
    "Pulmonary Fibrosis": "Fibrosis",
    "Thickened Pleura": "Pleural Thickening",
    "Fractures": "Fracture",
    "Support Device": "Support Devices",
    "TB": "Tuberculosis",
    "Covid": "COVID-19",
    "Covid19": "COVID-19",
}
"""Names that mean the same on a chest radiograph → the commonest of them (that of NIH ChestX-ray14 or CheXpert)."""

NO_FINDING = ("No Finding", "No Findings", "Normal", "Healthy")
"""Names that say that a film shows none of the findings."""

_SEPARATORS = re.compile(r"[\s_\-/.]+")


def spelling(name: str) -> str:
    """The name without what spellings differ in: case, spaces, underscores, hyphens, slashes and dots."""
    return _SEPARATORS.sub(" ", name.strip()).strip().casefold()


def meaning(name: str) -> str:
    """The spelling of the commonest synonym of a name; equal for names that mean the same."""
    return _MEANINGS.get(spelling(name), spelling(name))


def says_normal(name: str) -> bool:
    """Whether a name says that a film shows no finding."""
    return spelling(name) in _NORMAL


def canonical(name: str, known: Sequence[str]) -> str | None:
    """The known name that means the same as `name`: the same text, else another spelling, else a synonym.

    None where there is none. Raises InputError where several fit equally well.
    """
    if name in known:
        return name
    for form in (spelling, meaning):
        fitting = [k for k in known if form(k) == form(name)]
        if len(fitting) > 1:
            raise InputError(
                f"findings: {name!r} may be {' or '.join(map(repr, fitting))}; give them names that differ."
            )
        if fitting:
            return fitting[0]
    return None


def match_findings(names: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """name → known name that means the same; a name without one is left out.

    Raises InputError, listing them, where several names mean one known finding or one name may mean several.
    """
    matched: dict[str, str] = {}
    for name in names:
        found = canonical(name, known)
        if found is not None:
            matched[name] = found
    for one in dict.fromkeys(matched.values()):
        several = [name for name, found in matched.items() if found == one]
        if len(several) > 1:
            raise InputError(
                f"findings: {', '.join(map(repr, several))} all mean {one!r}; keep one of them, or rename the others."
            )
    return matched


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that looks most like `name`, for a message; None where none does."""
    by_spelling = {spelling(k): k for k in known}
    close = difflib.get_close_matches(spelling(name), list(by_spelling), n=1, cutoff=0.6)
    return by_spelling[close[0]] if close else None


_MEANINGS = {spelling(name): spelling(common) for name, common in SYNONYMS.items()}
_NORMAL = {spelling(name) for name in NO_FINDING}
