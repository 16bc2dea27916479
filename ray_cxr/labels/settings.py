"""Settings of the label stage: where films and labels come from."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ray_cxr.config import Settings


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _with_a_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"got '{pattern}', which is no regular expression ({error})") from None
    if not groups:
        raise ValueError(
            f"got '{pattern}', but the patient id must stand in a group in round brackets, as in '(patient\\d+)'"
        )
    return pattern


Folders = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
PatientRegex = Annotated[str, AfterValidator(_with_a_group)]


class PhantomSource(Settings):
    """Drawn chest radiographs: no data, no network; for demonstrations and tests."""

    kind: Literal["phantom"] = "phantom"
    """Which kind of source this is."""
    patients: int = Field(default=900, ge=4, le=1_000_000)
    """Number of drawn patients; each has about two films, more with `min_films`."""
    min_films: int = Field(default=1, ge=1, le=4)
    """Draw only patients with at least so many films; all films of a patient show his anatomy and his mark."""
    drawing_seed: int = Field(default=0, ge=0)
    """Seed of the drawing; the job's `seed` governs only splits and training."""
    max_refused: float = Field(default=0.0, ge=0, le=1)
    """Fraction of films that may be refused before `prepare` stops."""


class FilmSource(Settings):
    """What every source of real films has."""

    kind: str
    """Which kind of source this is."""
    images: Folders
    """Folder or list of folders with the films, searched with everything below them."""
    max_refused: float = Field(default=0.01, ge=0, le=1)
    """Fraction of films that may be refused (unreadable, too large) before `prepare` stops."""
    pseudonymise: bool = True
    """Store keyed hashes instead of patient and film ids."""
    pseudonym_key_file: str | None = None
    """File with the key of the pseudonyms; null: the environment variable RAY_CXR_PSEUDONYM_KEY. The key is stored nowhere."""


class NihSource(FilmSource):
    """NIH ChestX-ray14: its Data_Entry table (both published vintages) and folders of films."""

    kind: Literal["nih"] = "nih"
    """Which kind of source this is."""
    labels: str
    """The Data_Entry CSV, plain or .gz; rows without a film are counted and left out."""
    views: Annotated[list[Literal["PA", "AP"]], BeforeValidator(_as_list), Field(min_length=1)] | None = None
    """Keep only films of these view positions; all when null."""
    pseudonymise: bool = False
    """Store keyed hashes instead of patient and film ids; NIH's ids are public, so they stay by default."""


class Columns(Settings):
    """Which column of a table says what. What is not given is guessed from the usual names, and said."""

    image: str | None = None
    """The film: a file name or relative path, with or without suffix."""
    patient: str | None = None
    """The patient's id."""
    findings: str | list[str] | dict[str, str] | None = None
    """Columns of 0 and 1 (a list, or a mapping column → finding), or one column that names findings, as `A|B`."""
    separator: str | None = Field(default=None, min_length=1)
    """What stands between the names in one column of findings; null: the one of | ; , that occurs there."""
    view: Annotated[list[str], BeforeValidator(_as_list)] | None = None
    """The view position: a column, or several of which the first that is not blank counts."""
    age: str | None = None
    """Age in years, or as 058Y, 010M."""
    sex: str | None = None
    """M or F, male or female."""
    split: str | None = None
    """The table's own split, for `split.method: column`."""


class CsvSource(FilmSource):
    """Any label table (CSV, TSV, plain or .gz, Parquet) with a row per film, and folders of films."""

    kind: Literal["csv"] = "csv"
    """Which kind of source this is."""
    labels: str
    """The table; rows without a film are counted and left out."""
    columns: Columns = Columns()
    """Which column says what."""
    patient_regex: PatientRegex | None = None
    """Where the patient id stands in the film's name or path, for tables without a patient column: the first group."""
    rows_per_film: Literal["one", "any"] = "one"
    """`one`: a film in two rows is refused. `any`: a finding is present where any row of the film says so."""
    views: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)] | None = None
    """Keep only films of these views, as the table writes them (capitals do not matter); all when null."""

    @model_validator(mode="after")
    def _one_way_to_patients(self) -> CsvSource:
        if self.columns.patient is not None and self.patient_regex is not None:
            raise ValueError(
                f"columns.patient ({self.columns.patient!r}) and patient_regex ({self.patient_regex!r}) both say who "
                "the patient is; give one of them"
            )
        return self


class FolderSource(FilmSource):
    """A folder per class (NORMAL/, PNEUMONIA/), below train/, val/ and test/ if there are such: a film has one class."""

    kind: Literal["folder"] = "folder"
    """Which kind of source this is."""
    negative: Annotated[list[str], BeforeValidator(_as_list)] | None = None
    """Folders of films without any finding; null: those of the usual names (NORMAL, No Finding, Healthy)."""
    patient_regex: PatientRegex | None = None
    """Where the patient id stands in the film's path below `images`: the first group."""
    patients: str | None = None
    """Table with the columns image and patient, where no path says who the patient is."""

    @model_validator(mode="after")
    def _one_way_to_patients(self) -> FolderSource:
        if (self.patients is None) == (self.patient_regex is None):
            given = "neither" if self.patients is None else "both"
            raise ValueError(
                f"got {given} of patient_regex and patients, but one of them must say who the patient of a film is: "
                "patient_regex as the part of the path in round brackets, e.g. '(person\\d+)', or patients as a table; "
                "where each film is of another patient, patient_regex '(.+)' says so"
            )
        return self


Source = Annotated[PhantomSource | NihSource | CsvSource | FolderSource, Field(discriminator="kind")]


def _as_sources(value: Any) -> Any:
    return [value] if isinstance(value, (dict, Settings)) else value


Sources = Annotated[list[Source], BeforeValidator(_as_sources), Field(min_length=1)]
"""One source or a list of them."""
