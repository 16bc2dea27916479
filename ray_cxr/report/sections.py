"""The sections of the report, in reading order: each a function of the contents.

To add one, write the function and name it here.
"""

from __future__ import annotations

from collections.abc import Callable

from ray_cxr.report.blocks import Section
from ray_cxr.report.contents import ReportContents
from ray_cxr.report.origin_sections import exposure, learning, provenance, refused, settings, splits
from ray_cxr.report.result_sections import precision_recall, results, roc, summary

SECTIONS: tuple[Callable[[ReportContents], Section], ...] = (
    summary, results, roc, precision_recall, learning, splits, exposure, refused, settings, provenance,
)  # fmt: skip
