"""What stands out in the data, in sentences, the gravest first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ray_cxr.report.blocks import Text
from ray_cxr.report.explore.counts import FindingCount, GroupCount
from ray_cxr.report.explore.exploration import Exploration
from ray_cxr.report.explore.overlap import Overlap
from ray_cxr.report.words import count_text

FEW_FILMS = 1000
FEW_TEST_FILMS = 300
FEW_POSITIVES = 50
FEW_TEST_POSITIVES = 10
EXTREME_RATIO = 100
_NAMED = 6

_PROPERTY = {"view": "the view position", "sex": "the sex", "age": "the age"}


def leak_alarm(found: Exploration) -> Text | None:
    """The first line of page and terminal where patients are in more than one set."""
    if found.material.leak is not None:
        return Text(f"The job's split would be refused: {found.material.leak}", "alarm")
    for name in ("splits", "folds") if "splits" in found.leaks else ("folds", "given"):
        held = found.leaks.get(name)
        if held is not None and not held.clean:
            return Text(f"Patient leak in {_SETS[name]}: {leak_sentence(held)}", "alarm")
    return None


_SETS = {"splits": "the splits", "folds": "the folds", "given": "the split that the label table gives"}


def leak_sentence(held: Overlap) -> str:
    """How many patients are shared, and where; or that none is."""
    if held.clean:
        return f"none of the {count_text(held.patients, 'patient')} is in more than one set."
    where = ", ".join(f"{n:,} in {pair}" for pair, n in held.pairs.items() if n)
    return f"{held.shared_patients:,} of {count_text(held.patients, 'patient')} are in more than one set ({where})."


def remarks(found: Exploration) -> list[Text]:
    """Sentences on what a careful reader would ask about."""
    sentences = [
        *found.material.notes,
        *_given_split(found),
        *_sizes(found),
        *_rare(found),
        *_shortcuts(found),
        *_labelling(found),
        *_films(found),
    ]
    return [Text(sentence, "warning") for sentence in sentences]


def _given_split(found: Exploration) -> Iterator[str]:
    held = found.leaks.get("given")
    if held is not None and not held.clean and "splits" in found.leaks:
        yield f"The label table gives a split of its own, in which {leak_sentence(held)}"


def _sizes(found: Exploration) -> Iterator[str]:
    rows, films = found.overall.films, found.films_here
    if films < rows:
        yield (
            f"Only {films:,} of the {rows:,} rows have their film here. The labels below are those of all rows, "
            "unless a column says otherwise; only films that are here can be trained on."
        )
    if films < FEW_FILMS:
        yield (
            f"{count_text(films, 'film')} are few: below {FEW_FILMS:,}, figures move a lot from one split to another."
        )
    test = found.splits.get("test")
    if test is not None and test.films < FEW_TEST_FILMS:
        yield (
            f"The test set has {count_text(test.films, 'film')}: below {FEW_TEST_FILMS}, the uncertainty of an AUROC "
            "is larger than most differences between models."
        )


def _rare(found: Exploration) -> Iterator[str]:
    train, test = found.trained, found.splits.get("test")
    lone = [f for f, c in train.findings.items() if c.one_class]
    where = "The training films" if "train" in found.splits else "The films"
    if lone:
        yield f"{where} hold one class only, or no label, of {_listed(lone)}: there is nothing to learn. Leave them out of the setting “findings”."
    rare = [f"{f} ({c.positives})" for f, c in train.findings.items() if 0 < c.positives < FEW_POSITIVES]
    if rare:
        yield f"{where} show fewer than {FEW_POSITIVES} times: {_listed(rare)}. A network sees too few to learn the finding well."
    untested = _few_in_test(test, lone)
    if untested:
        yield f"Fewer than {FEW_TEST_POSITIVES} positive test films: {_listed(untested)}. Its AUROC will say little."
    extreme = [
        f"{f} (1 : {c.negatives_per_positive:,.0f})"
        for f, c in train.findings.items()
        if (c.negatives_per_positive or 0) > EXTREME_RATIO
    ]
    if extreme:
        yield f"More than {EXTREME_RATIO} negative films for each positive one: {_listed(extreme)}. Weights or resampling are needed."


def _few_in_test(test: GroupCount | None, lone: Sequence[str]) -> list[str]:
    if test is None:
        return []
    few: list[tuple[str, FindingCount]] = [
        (f, c) for f, c in test.findings.items() if c.positives < FEW_TEST_POSITIVES and f not in lone
    ]
    return [f"{f} ({c.positives})" for f, c in few]


def _shortcuts(found: Exploration) -> Iterator[str]:
    for column, what in _PROPERTY.items():
        clear = {
            f: g[column].auroc or 0.0
            for f, g in found.people.giveaways.items()
            if column in g and g[column].clear
        }
        if clear:
            named = [f"{f} (AUROC {a:.2f})" for f, a in sorted(clear.items(), key=lambda item: -item[1])]
            yield (
                f"Without looking at the film, {what} alone tells much about {_listed(named)}. A network may learn that "
                "shortcut instead of the finding: test it in subgroups."
            )


def _labelling(found: Exploration) -> Iterator[str]:
    partly = [
        f"{f} ({c.labelled / found.overall.films:.1%})"
        for f, c in found.overall.findings.items()
        if 0 < c.labelled < found.overall.films
    ]
    if partly:
        yield f"Not every film is labelled for {_listed(partly)}. Cells that nobody labelled are left out of loss and figures."
    unknown = found.overall.films - found.people.age_known
    if 0 < unknown < found.overall.films:
        yield f"{count_text(unknown, 'film')} have no usable age: not given, unreadable, or beyond 120 years."


def _films(found: Exploration) -> Iterator[str]:
    refused = sum((found.material.refused or {}).values())
    if refused:
        yield f"{count_text(refused, 'film')} could not be used; the reasons are below."
    if found.duplicates:
        yield f"{count_text(found.duplicates, 'film')} with exactly the pixels of another film of this data set."
    shared = found.leaks.get("splits")
    if shared is not None and shared.same_films:
        yield f"{count_text(shared.same_films, 'film')} stand in one split and, pixel for pixel, in another one, too."
    if found.pixels is not None and found.pixels.refused:
        reasons = ", ".join(f"{n} × {reason}" for reason, n in found.pixels.refused.items())
        yield f"Of the films looked at, {sum(found.pixels.refused.values())} cannot be used: {reasons}."
    if found.pixels is not None and found.pixels.flat_rows:
        rows = [str(row) for row in found.pixels.flat_rows]
        yield f"Films of nearly one gray value: row {_listed(rows)}."


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
