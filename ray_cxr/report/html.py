"""The test report of a trained classifier: one HTML file that asks the network for nothing.

Reads: `ReportContents`. Gives: the page, with styles, data and plotly.js inside it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ray_cxr.report.blocks import Panel, Plot, Section, Text
from ray_cxr.report.contents import Contents, ReportContents
from ray_cxr.report.figures import CONFIG, SMALL_CONFIG
from ray_cxr.report.origin_sections import leak_text
from ray_cxr.report.sections import all_sections

__all__ = ["ReportContents", "render_page", "render_report"]

_HERE = Path(__file__).parent


def render_report(contents: Contents, readers: Sequence[Section] = ()) -> str:
    """The whole page, with sections on readers where there are any. A leak between the splits is its first line."""
    leak = leak_text(contents.manifest["leak_check"]) if isinstance(contents, ReportContents) else None
    alarm = leak if leak is not None and leak.tone == "alarm" else None
    return render_page("report.html.jinja", contents.title, all_sections(contents, readers), alarm)


def render_page(template: str, title: str, sections: Sequence[Section], alarm: Text | None) -> str:
    """A page of sections; `alarm`, if any, is its first line. The template is given from this folder on."""
    scripts = [get_plotlyjs(), (_HERE / "report.js").read_text(encoding="utf-8")]
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        title=title,
        alarm=alarm,
        sections=sections,
        policy=content_security_policy(scripts),
        styles=Markup((_HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704 (our own file)
        figures=figures_json([plot for section in sections for plot in section.plots]),
        scripts=[Markup(script) for script in scripts],  # noqa: S704 (our own file, and plotly's)
    )


def content_security_policy(scripts: Sequence[str]) -> str:
    """Allows exactly these inline scripts and no request: a script that a label smuggled in would not run either.

    Plotly writes styles into the page, and makes its PNG file through `data:` and `blob:` images.
    """
    digests = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def figures_json(plots: Sequence[Plot | Panel]) -> Markup:
    """The figures as JSON for a script element: no character in it can end that element or begin another."""
    figures = [
        {
            "target": plot.identifier,
            **plot.figure,
            "config": SMALL_CONFIG if isinstance(plot, Panel) else CONFIG,
        }
        for plot in plots
    ]
    text = json.dumps(figures, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 (escaped above)
