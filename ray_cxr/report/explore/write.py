"""`explore`: writes `index.html` (one self-contained page) and `explore.json` from a data set or a label table.

Reads: `Material`. Writes: both files into one folder, which is nobody's data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray_cxr.errors import InputError
from ray_cxr.report.blocks import Section
from ray_cxr.report.explore import film_sections, label_sections, people_sections
from ray_cxr.report.explore.exploration import Exploration, exploration_json
from ray_cxr.report.explore.pixels import PixelFacts
from ray_cxr.report.explore.remarks import leak_alarm, remarks
from ray_cxr.report.html import render_page
from ray_cxr.storage import Folder

if TYPE_CHECKING:
    from ray_cxr.model.build import Normalisation

PAGE, FIGURES = "index.html", "explore.json"


def output_folder(out: str | None, dataset: str) -> Folder:
    """Where page and figures go: `out`, or beside the data set with `-explore` behind its name.

    Raises InputError where they would land in the data set, or over somebody's page.
    """
    data = Folder(dataset)
    folder = Folder(f"{data.url.rstrip('/')}-explore" if out is None else out)
    if folder.url == data.url or folder.exists("manifest.json"):
        raise InputError(f"--out: {folder} is a data set's own directory; give another one.")
    if folder.exists(PAGE) and not folder.exists(FIGURES):
        raise InputError(f"--out: {folder} holds an {PAGE} that is not of explore; give another directory.")
    return folder


def write_exploration(
    folder: Folder, title: str, found: Exploration, backbone: str, normalisation: str | None
) -> dict[str, Any]:
    """Writes both files and gives what is in explore.json. normalisation: the job's choice, None = there is no job."""
    norms = _normalisations(found, found.pixels, backbone) if found.pixels and found.pixels.films else []
    page = render_page(
        "explore/explore.html.jinja", title, sections(found, norms, normalisation), leak_alarm(found)
    )
    alarm = leak_alarm(found)
    said = [text.text for text in ([alarm] if alarm else []) + remarks(found)]
    figures = exploration_json(found) | {
        "title": title,
        "remarks": said,
        "normalisations": [n.as_dict() for n in norms],
    }
    folder.write_bytes(PAGE, page.encode())
    folder.write_json(FIGURES, figures)
    return figures


def sections(found: Exploration, norms: Sequence[Normalisation], normalisation: str | None) -> list[Section]:
    """The page's sections in reading order: labels, people, films, sources."""
    made = [
        label_sections.overview(found),
        label_sections.prevalence(found),
        label_sections.balance(found),
        people_sections.splits(found),
        people_sections.patients(found),
        label_sections.together(found),
        people_sections.people(found),
    ]
    if found.pixels is not None and found.pixels.single is not None and norms:
        made += [
            film_sections.one_film(found, found.pixels),
            film_sections.grid(found, found.pixels),
            film_sections.gray_values(found, found.pixels, norms, normalisation),
            film_sections.augmentation(found, found.pixels),
        ]
    return [*made, label_sections.labellers(found)]


def _normalisations(found: Exploration, pixels: PixelFacts, backbone: str) -> list[Normalisation]:
    """What the choices of `stream.normalisation` would do; of the data set's own, the sample's before `prepare`."""
    from ray_cxr.model.build import resolve_normalisation

    mean, std = pixels.mean_and_std
    statistics = (found.material.dataset or {}).get("pixel_statistics") or {"mean": mean, "std": std}
    return [resolve_normalisation(kind, backbone, statistics) for kind in ("dataset", "imagenet", "none")]
