"""Splits that somebody else made: the data set's lists, one's own lists, or a column of the label table.

Reads: film names or words of the column. Gives: a set per film. Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_cxr.errors import InputError, RefusedError
from ray_cxr.splits.lists import Lists

WORDS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation", "tune": "validation",
    "test": "test", "testing": "test",
    "unused": "unused",
}  # fmt: skip
"""What the words of a split column mean, whatever their case."""

_MOST_WORDS_SHOWN = 8
"""More unknown words than that are no words of a split, but perhaps names of films or patients, which are not shown."""


def by_lists(film_names: pd.Series, lists: Lists) -> NDArray[np.object_]:
    """[N] of the lists' sets; "unused" for films that no list names.

    Raises RefusedError where two lists name the same film, InputError where nothing can be told apart.
    """
    named = {
        name: (film_names.isin(films) | _stems(film_names).isin(films)).to_numpy()
        for name, films in lists.items()
    }
    for (a, first), (b, second) in itertools.combinations(named.items(), 2):
        if both := int((first & second).sum()):
            raise RefusedError(
                f"film leak: {both} films stand both in the list of {a} and in that of {b}; take them out of one."
            )
    twice = int(film_names.duplicated().sum())
    if twice:
        raise InputError(
            f"split.method: {twice} film names stand more than once in the sources, and lists know films by name "
            "only; use method sampled or column."
        )
    given = np.full(len(film_names), "unused", dtype=object)
    for name, films in named.items():
        if not films.any():
            raise InputError(
                f"split.lists.{name}: no film named there is among the {len(given)} films found; a list holds the names "
                "of files, with or without folder and suffix."
            )
        given[films] = name
    return given


def _stems(film_names: pd.Series) -> pd.Series:
    return film_names.str.replace(r"\.[A-Za-z0-9]+$", "", regex=True)


def by_column(column: pd.Series, words: Mapping[str, str]) -> NDArray[np.object_]:
    """[N] of "train", "validation", "test", "unused" (also where the cell is empty). InputError for unknown words."""
    known = WORDS | {word.strip().lower(): meaning for word, meaning in words.items()}
    texts = column.astype("string").str.strip().str.lower()
    texts = texts.mask(texts == "")
    if texts.isna().all():
        raise InputError(
            "split.method: column needs a split column in the source's table, and no source has one; name it in the "
            "source, or use method sampled."
        )
    unknown = texts[texts.notna() & ~texts.isin(known)].value_counts()
    if len(unknown):
        shown = ", ".join(f"{w!r} ({n} films)" for w, n in unknown.items())
        what = (
            shown if len(unknown) <= _MOST_WORDS_SHOWN else f"{len(unknown)} of them on {unknown.sum()} films"
        )
        raise InputError(
            f"split.words: the split column has words of unknown meaning: {what}; say as split.words.WORD=test what "
            f"a word means (train, validation, test, unused); known are {', '.join(known)}."
        )
    given: NDArray[np.object_] = texts.map(known).fillna("unused").to_numpy(object)
    for name, meanings in {"train": {"train"}, "test": {"test"}}.items():
        if not meanings & set(given):
            raise InputError(
                f"split.method: the split column has no {name} films; use method sampled, or mend the column."
            )
    return given
