"""Settings of the split stage."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ray_cxr.config import Settings


def _whole_above_one(size: float) -> float:
    if size >= 1 and size != int(size):
        raise ValueError(f"got {size:g}, but a number of films is whole, and a fraction of films is below 1")
    return size


Size = Annotated[float, Field(gt=0), AfterValidator(_whole_above_one)]
"""A fraction of films (< 1) or a number of films (≥ 1)."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Paths = Annotated[tuple[str, ...], BeforeValidator(_as_list)]

ListedSet = Literal["train", "validation", "test", "train_validation"]
Word = Literal["train", "validation", "test", "unused"]


class SplitLists(Settings):
    """Lists of films: files with a film name a line (.txt, .csv or .gz), or folders of films; one or several."""

    train: Paths = ()
    """Training films; where no list names validation films, some of these patients are drawn for it."""
    validation: Paths = ()
    """Validation films."""
    test: Paths = ()
    """Test films."""
    train_validation: Paths = ()
    """Films for training and validation together; validation is drawn from them by patient."""

    def given(self) -> dict[ListedSet, tuple[str, ...]]:
        """The sets that have lists, and these."""
        names: tuple[ListedSet, ...] = ("train", "validation", "test", "train_validation")
        return {name: paths for name in names if (paths := getattr(self, name))}


class SplitSettings(Settings):
    """How patients are dealt out; every patient goes to one split only."""

    method: Literal["sampled", "official", "lists", "column"] = "sampled"
    """`sampled`: by patient, test first, then validation, training the rest; `official`: the lists of the data set;
    `lists`: those of split.lists; `column`: the split column of the source's table."""
    test: Size = 0.2
    """Size of the test set: a fraction of films (< 1) or a number of films; without effect where the set is given."""
    validation: Size = 0.1
    """Size of the validation set: a fraction of films (< 1) or a number of films; without effect where it is given."""
    target: str = "any"
    """The finding that the floor is about; `any`: films with at least one finding."""
    minority_floor: float | None = Field(default=None, gt=0, lt=1)
    """Least fraction of films positive for the target in each set that is drawn (test and validation); null: none."""
    min_positives: int | None = Field(default=None, ge=1)
    """Least number of positive films of every finding in each set that is drawn; null: none."""
    folds: int | None = Field(default=5, ge=2, le=100)
    """Folds for cross-validation, by patient, over all films but the test set's; null: none."""
    lists: SplitLists = SplitLists()
    """Lists for `lists` and, where they do not lie beside source.labels, for `official`."""
    words: dict[str, Word] = Field(default={})
    """For `column`: further words of the column and what they mean: train, validation, test or unused."""
    allow_leak: bool = False
    """Go on although a given split shares patients between its sets; every report then begins with that."""

    @property
    def weighted(self) -> bool:
        """Whether films of a drawn set are drawn with unequal chances."""
        return self.minority_floor is not None or self.min_positives is not None

    @model_validator(mode="after")
    def _leave_films_for_training(self) -> SplitSettings:
        drawn = self.method == "sampled"
        if drawn and self.test < 1 and self.validation < 1 and self.test + self.validation >= 1:
            raise ValueError(
                f"test {self.test:g} and validation {self.validation:g} together leave no film for training"
            )
        return self

    @model_validator(mode="after")
    def _have_the_lists(self) -> SplitSettings:
        given = self.lists.given()
        if given and self.method not in ("lists", "official"):
            raise ValueError(
                f"lists have no effect with method {self.method}; use method lists, or leave them out"
            )
        if self.method == "official" and {"train", "validation"} & given.keys():
            raise ValueError(
                "method official takes split.lists.train_validation and split.lists.test only, and draws validation by "
                f"patient, but got lists of {', '.join(given)}; use method lists, or leave train and validation out"
            )
        if self.words and self.method != "column":
            raise ValueError(
                f"words have no effect with method {self.method}; use method column, or leave them out"
            )
        if self.method == "lists" and not ("test" in given and {"train", "train_validation"} & given.keys()):
            raise ValueError(
                f"method lists needs split.lists.test and split.lists.train (or train_validation), got {sorted(given)}"
            )
        return self
