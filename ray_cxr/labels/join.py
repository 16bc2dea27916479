"""Sources joined: findings by what their names mean, patients and films by their ids. Pure but for the keys.

Reads: `SourceTable`s. Gives: the same tables with the findings' common names, and ids that are safe to store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from ray_cxr.errors import InputError
from ray_cxr.labels.names import match_findings, nearest
from ray_cxr.labels.pseudonym import pseudonyms
from ray_cxr.labels.source import SourceTable


def common_names(
    tables: Mapping[str, SourceTable], wanted: Sequence[str] | None
) -> tuple[list[str], dict[str, dict[str, str]], list[str]]:
    """The findings, for each source its name → the common one, and sentences on names that were joined.

    Without `wanted`, all findings in the order of sources, under the name that the first of them has; with it, these.
    Raises InputError for a wanted finding that no source labels, or that is wanted twice.
    """
    if wanted is not None and len(set(wanted)) < len(wanted):
        raise InputError(f"findings: got {', '.join(wanted)}; give each finding once.")
    common = list(wanted or [])
    renamed: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    for source, table in tables.items():
        same = {f: f for f in table.findings if f in common}
        joined = match_findings(
            [f for f in table.findings if f not in same], [c for c in common if c not in same]
        )
        if joined:
            pairs = ", ".join(f"{name!r} is {found!r}" for name, found in joined.items())
            notes.append(f"source {source}: {pairs}")
        renamed[source] = same | joined
        if wanted is None:
            new = [f for f in table.findings if f not in renamed[source]]
            common += new
            renamed[source] |= {f: f for f in new}
    for finding in common:
        if not any(finding in names.values() for names in renamed.values()):
            known = list(dict.fromkeys(f for table in tables.values() for f in table.findings))
            close = nearest(finding, known)
            near = f"did you mean {close!r}? Labelled" if close else "labelled"
            raise InputError(
                f"findings: {finding!r} is labelled by no source; {near} are {', '.join(known)}."
            )
    return common, renamed, notes


def join_patients(ids: pd.Series, source: pd.Series) -> tuple[pd.Series, int]:
    """Patient ids [N] under which equal ids of several sources are the same person, and how many ids are shared.

    Numbers are equal whatever zeros they begin with. Whether they really are one person nobody can tell from ids; to
    keep them together costs a stranger's place in the same split, to part them may put one patient into two.
    """
    if source.nunique() < 2:
        return ids, 0
    different = pd.DataFrame({"id": ids, "source": source}).drop_duplicates()
    different["same"] = different["id"].map(lambda text: text.lstrip("0") if text.isdigit() else text)
    shared = different.groupby("same")["source"].nunique()
    shared = shared[shared > 1]
    several = different[different["same"].isin(shared.index)]
    first = several.groupby("same", sort=False)["id"].first()
    renamed = dict(zip(several["id"], several["same"].map(first), strict=True))
    return ids.map(lambda text: renamed.get(text, text)), len(shared)


def alike_patients(ids: pd.Series) -> int:
    """How many different ids are another one but for capitals, zeros in front of the number, or a ".0" at the end."""
    different = pd.Series(ids.unique(), dtype=str)
    plain = different.map(
        lambda text: re.sub(r"^(\D*)0+(?=\d)", r"\1", re.sub(r"\.0+$", "", text.casefold()))
    )
    return int(plain.duplicated(keep=False).sum())


def part_films(frame: pd.DataFrame, public: set[str]) -> tuple[pd.Series, int]:
    """Film ids [N] that are unique over sources, and how many films' names stand in several.

    Different files of one name get the number of their source before it. The same file in two sources is refused, and
    so is the same name in a source whose names are public (`public`): it is the same film.
    """
    files = frame[["locator", "source"]].dropna().drop_duplicates()["locator"].duplicated()
    if files.any():
        raise InputError(
            f"source: {int(files.sum()):,} films are labelled by several sources; keep each film in one source only, or "
            "put its labels into one table."
        )
    ids = frame["image_id"]
    repeated = ids.duplicated(keep=False)
    again = ids.duplicated()
    if not again.any():
        return ids, 0
    several = frame[repeated]
    missing = several["locator"].isna()
    within = several.duplicated(["image_id", "source"], keep=False)
    if (missing | within | several["source"].isin(public)).any():
        raise InputError(
            f"source: {int(again.sum()):,} image ids stand more than once in the label tables of "
            f"{', '.join(several['source'].unique())}; keep one row a film, in one source."
        )
    number = frame["source"].str.split(":").str[0]
    return ids.where(~again, number + ":" + ids), int(again.sum())


def pseudonymise(frame: pd.DataFrame, keys: Mapping[str, bytes]) -> pd.DataFrame:
    """The frame with keyed hashes for patient and film ids. keys: source → key, of those that ask for it.

    A patient who stands in several sources has one id: if one of them asks for pseudonyms, he has that of the first.
    """
    if not keys:
        return frame
    rank = {source: n for n, source in enumerate(keys)}
    source_of = frame["source"].map(rank)
    first = source_of.groupby(frame["patient_id"]).transform("min")
    patient, image = frame["patient_id"].copy(), frame["image_id"].copy()
    for source, key in keys.items():
        rows = first == rank[source]
        patient[rows] = patient[rows].map(pseudonyms(patient[rows].unique(), "patient", key))
        rows = source_of == rank[source]
        image[rows] = image[rows].map(pseudonyms(image[rows], "image", key))
    return frame.assign(patient_id=patient, image_id=image)
