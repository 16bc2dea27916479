"""The sections of the report, in reading order: each a function of the contents, None where it has nothing to say.

To add one, write the function and name it here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ray_cxr.report.blocks import Section
from ray_cxr.report.card_sections import environment, model_card, origin, protocol
from ray_cxr.report.contents import Contents, ReportContents
from ray_cxr.report.operating_sections import calibration, operating_points
from ray_cxr.report.origin_sections import exposure, learning, provenance, refused, settings, splits
from ray_cxr.report.result_sections import (
    natural_prevalence,
    precision_recall,
    results,
    roc,
    summary,
    uncertainty,
)
from ray_cxr.report.subgroup_sections import misses, subgroups

TEST_SECTIONS: tuple[Callable[[Contents], Section | None], ...] = (
    summary, results, uncertainty, roc, precision_recall, operating_points, calibration, natural_prevalence, subgroups,
)  # fmt: skip
"""What the test says; sections on readers follow them."""
RUN_SECTIONS: tuple[Callable[[ReportContents], Section], ...] = (learning, splits, exposure, refused)
LAST_SECTIONS: tuple[Callable[[Contents], Section | None], ...] = (model_card, protocol, origin, environment)
RUN_LAST_SECTIONS: tuple[Callable[[ReportContents], Section], ...] = (settings, provenance)


def all_sections(contents: Contents, readers: Sequence[Section] = ()) -> list[Section]:
    """The sections of a report, `readers` those on readers; where there is no run, those that need one are not there."""
    found: list[Section | None] = [section(contents) for section in TEST_SECTIONS]
    found += [*readers, misses(contents)]
    if isinstance(contents, ReportContents):
        found += [section(contents) for section in RUN_SECTIONS]
    found += [section(contents) for section in LAST_SECTIONS]
    if isinstance(contents, ReportContents):
        found += [section(contents) for section in RUN_LAST_SECTIONS]
    return [section for section in found if section is not None]
