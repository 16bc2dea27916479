"""What single cells of a label table mean: 0 or 1, lists of findings, ages, sexes, views. Pure.

Every function works on the different texts of a column, not on its rows, so that 112,120 rows take no time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ray_cxr.labels.names import meaning, says_normal

POSITIVE = ("1", "true", "yes", "y", "positive")
NEGATIVE = ("0", "false", "no", "n", "negative")
BLANK = ("", "-1", "nan", "na", "n/a", "none", "null")
UNCERTAIN = ("hedge", "uncertain", "unsure", "unclear", "equivocal")
"""What a reader says who does not decide."""
ALLOWED = "1, 0, true, false, yes, no, positive, negative, and blank or -1 for not labelled"

OLDEST_PATIENT_YEARS = 120
"""NIH's table holds ages up to 414; above this one an age counts as unknown."""

_AGE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([YMWD]?)\s*$", re.IGNORECASE)
_YEARS_PER_UNIT = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_WORDS = {**dict.fromkeys(POSITIVE, 1.0), **dict.fromkeys(NEGATIVE, 0.0), **dict.fromkeys(BLANK, np.nan)}
_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
_VIEWS = {"posteroanterior": "PA", "anteroposterior": "AP", "lat": "LATERAL", "l": "LATERAL", "ll": "LATERAL"}


@dataclass(frozen=True)
class Binary:
    """A column as labels: values [N] float32 (0, 1, NaN = not labelled); unreadable: other text → how often."""

    values: pd.Series
    unreadable: dict[str, int]

    @property
    def readable(self) -> int:
        """Number of cells that are 0 or 1."""
        return int(self.values.notna().sum())


def label_value(text: str, *, uncertain_words: bool = False) -> float | None:
    """What one cell says as a label: 0.0, 1.0, or NaN = not labelled (BLANK); None where it is none of these.

    Words count in any case, numbers in any notation ("1.0", "-0"). uncertain_words: UNCERTAIN are not labelled, too.
    """
    word = text.strip().casefold()
    if uncertain_words and word in UNCERTAIN:
        return float("nan")
    if word in _WORDS:
        return _WORDS[word]
    try:
        return {1.0: 1.0, 0.0: 0.0, -1.0: float("nan")}.get(float(word))
    except ValueError:
        return None


def binary(cells: pd.Series) -> Binary:
    """Cells [N] str → 0/1 labels. Blank, -1 and whatever is not 0/1-like are NaN; the last are counted."""
    counts = cells.value_counts()
    meanings = {text: label_value(text) for text in counts.index}
    unreadable = {text: int(counts[text]) for text, value in meanings.items() if value is None}
    known = {text: np.nan if value is None else value for text, value in meanings.items()}
    return Binary(cells.map(known).astype(np.float32), unreadable)


def is_binary(cells: pd.Series, *, uncertain_words: bool = False) -> bool:
    """Whether a column holds nothing but labels (`label_value`), and at least one 0 or 1."""
    texts = cells.unique()
    if len(texts) > 4 * len(_WORDS):
        return False
    values = [label_value(text, uncertain_words=uncertain_words) for text in texts]
    return None not in values and any(value in (0.0, 1.0) for value in values)


def contradicting(cells: pd.Series, separator: str) -> pd.Series:
    """[N] bool: whether a cell names a finding and no finding at once, as `Mass|No Finding`."""

    def both(text: str) -> bool:
        return len({says_normal(name) for name in parts(text, separator)}) == 2

    return _by_text(cells, both).astype(bool)


def one_spelling(cells: pd.Series, separator: str) -> dict[str, str]:
    """Name → the commonest name that means the same, of all names in cells such as `A|B`, where they differ."""
    counts: Counter[str] = Counter()
    for text, count in cells.value_counts().items():
        counts.update(dict.fromkeys(parts(str(text), separator), int(count)))
    commonest: dict[str, str] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        commonest.setdefault(meaning(name), name)
    found = {name: commonest[meaning(name)] for name in sorted(counts) if not says_normal(name)}
    return {name: common for name, common in found.items() if name != common}


def choose_separator(cells: pd.Series) -> str:
    """The commonest separator of names that occurs; `|` where none does."""
    texts = "".join(cells.unique())
    return next((s for s in "|;," if s in texts), "|")


def parts(text: str, separator: str) -> set[str]:
    """The names that stand in one cell."""
    return {part.strip() for part in text.split(separator)} - {""}


def named_findings(
    cells: pd.Series, separator: str, renamed: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """[N, F] float32 from cells such as `A|B`: 1 where named, else 0; all NaN where the cell is blank.

    renamed: name → the name that it is read as.
    Columns in alphabetical order; names of no finding ("No Finding", "Normal") are all zeros and no column.
    """
    texts = cells.unique()
    as_read = renamed or {}
    named = [{as_read.get(name, name) for name in parts(text, separator)} for text in texts]
    findings = sorted(name for name in set[str]().union(*named) if not says_normal(name))
    values = np.array(
        [[float(f in names) if names else np.nan for f in findings] for names in named], np.float32
    ).reshape(len(texts), len(findings))
    position = cells.map({text: n for n, text in enumerate(texts)}).to_numpy(np.intp)
    return pd.DataFrame(values[position], columns=findings, index=cells.index)


def parse_ages(cells: pd.Series) -> pd.Series:
    """Ages [N] in years, float32, from 58, 58.5, "058Y", "010M"; NaN where unreadable or above 120."""

    def years(text: str) -> float:
        match = _AGE.match(text)
        if match is None:
            return float("nan")
        value = float(match.group(1)) * _YEARS_PER_UNIT[match.group(2).upper()]
        return value if value <= OLDEST_PATIENT_YEARS else float("nan")

    return _by_text(cells, years).astype(np.float32)


def unknown_ages(cells: pd.Series, years: pd.Series) -> int:
    """Number of cells that hold something that is no age."""
    return int((years.isna() & ~cells.str.strip().str.lower().isin(BLANK)).sum())


def parse_sexes(cells: pd.Series) -> pd.Series:
    """ "M", "F", or missing."""
    return _by_text(cells, lambda text: _SEXES.get(text.strip().lower())).astype(object)


def parse_views(cells: pd.Series) -> pd.Series:
    """View positions in capitals ("PA", "AP", "LATERAL", …), or missing where blank."""

    def view(text: str) -> str | None:
        word = text.strip().lower()
        return None if word in BLANK else _VIEWS.get(word, word.upper())

    return _by_text(cells, view).astype(object)


def counted(values: Iterable[tuple[Hashable, int]], most: int = 3) -> str:
    """The commonest texts with their counts, cut short: a cell may hold anything."""
    ranked = sorted(values, key=lambda pair: -pair[1])
    shown = ", ".join(f"{str(text)[:20]!r} ×{count:,}" for text, count in ranked[:most])
    return shown + (f" and {len(ranked) - most} more" if len(ranked) > most else "")


def _by_text(cells: pd.Series, meaning: Callable[[str], object]) -> pd.Series:
    return cells.map({text: meaning(text) for text in cells.unique()})
