"""Sections on the films themselves: one film, gray values, sizes, a grid by finding, what training sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ray_cxr.report.blocks import Block, Facts, Picture, Pictures, Plot, Section, Table, Text
from ray_cxr.report.explore.exploration import Exploration
from ray_cxr.report.explore.figures import brightness_figure, film_figure, gray_figure
from ray_cxr.report.explore.label_sections import percent
from ray_cxr.report.explore.people import given
from ray_cxr.report.explore.pixels import (
    DETAIL_PX,
    NO_FINDING,
    SINGLE_PX,
    STRIP_PX,
    FilmFacts,
    PixelFacts,
    augmented,
    enlarged_detail,
    gray_histogram,
    thumbnail,
)
from ray_cxr.report.words import count_text

if TYPE_CHECKING:
    from ray_cxr.model.build import Normalisation  # torch takes seconds, and only its numbers are shown here

GRID_PX = 144
_SIZES_LISTED = 12
_HISTOGRAM_ROWS = 8


def one_film(found: Exploration, pixels: PixelFacts) -> Section:
    """A film with its figures: what a network is given is a table of numbers."""
    film = pixels.single
    assert film is not None
    picture = Picture(
        thumbnail(pixels.pictures[film.row], SINGLE_PX),
        f"Film {film.row}: {_shown(found, film.row)}",
        _spoken(found, film.row),
    )
    pixels_of_it = pixels.pictures[film.row]
    detail = Picture(
        enlarged_detail(pixels_of_it),
        f"A detail of {DETAIL_PX} × {DETAIL_PX} pixels, enlarged: each square is one number",
        "A detail of the film, so large that its pixels can be seen",
    )
    stored = found.material.image_px
    size = _original(found, film)
    facts = [
        *([("Size of the file", f"{size[1]} × {size[0]} pixels (width × height)")] if size else []),
        ("Size as stored", f"{stored} × {stored} pixels, one channel (gray)"),
        ("Darkest pixel", str(film.least)),
        ("Brightest pixel", str(film.greatest)),
        ("Mean gray value", f"{film.mean:.1f}"),
        ("Standard deviation", f"{film.std:.1f}"),
    ]
    histogram = gray_histogram(pixels_of_it)
    eighths = histogram.reshape(_HISTOGRAM_ROWS, -1).sum(1) / histogram.sum()
    table = Table(
        "Gray values of this film", ["Gray values", "Pixels"],
        [[f"{32 * i}–{32 * i + 31}", percent(float(s))] for i, s in enumerate(eighths)],
    )  # fmt: skip
    label = "Histogram of the gray values of one film. The table says the same in eighths."
    return Section("film", "One film in numbers", [
        Text("To a network a film is a table of numbers: one gray value per pixel, 0 black (air), 255 white (bone, metal)."),
        Pictures("A film as it is stored", [picture, detail], wide=True),
        Facts(facts),
        Plot("plot-film", film_figure(histogram), label, table),
    ])  # fmt: skip


def gray_values(
    found: Exploration, pixels: PixelFacts, norms: Sequence[Normalisation], chosen: str | None
) -> Section:
    """Gray values of the sample before and after normalisation, film by film, and sizes."""
    drawn = next((n for n in norms if n.kind == chosen), norms[0])
    after = f"after “{drawn.kind}”"
    figure = gray_figure(pixels.histogram, list(zip(drawn.mean, drawn.std, strict=True)), after)
    mean, std = pixels.mean_and_std
    rows = [
        ["Stored, 0 to 255", f"{255 * mean:.1f}", f"{255 * std:.1f}"],
        ["Scaled, 0 to 1", f"{mean:.3f}", f"{std:.3f}"],
        *(row for norm in norms for row in _normalised_rows(norm, mean, std, norm.kind == chosen)),
    ]
    table = Table(
        f"Mean and spread of the pixels of {count_text(len(pixels.films), 'film')}",
        ["Pixels", "Mean", "Std"],
        rows,
    )
    views = given(found.material.frame, "view").loc[[f.row for f in pixels.films]].astype(str).tolist()
    dots = Plot(
        "plot-brightness", brightness_figure(pixels.films, views),
        "Each film as a dot: mean gray value and standard deviation. The table gives quartiles.", _brightness_table(pixels.films),
    )  # fmt: skip
    label = (
        "Histograms of gray values as stored, and as the network gets them. The table gives mean and spread."
    )
    blocks: list[Block] = [
        Text(_sample_sentence(found, pixels)),
        Plot("plot-gray", figure, label, table),
        Text(
            "Normalisation takes off a mean and divides by a spread: the histogram is moved and stretched, its shape stays. Values "
            "around 0 with a spread near 1 are what networks learn from best, and a pretrained network wants those it grew up with.",
            "lesson",
        ),
        dots,
        Text(
            "A dot far from the others is a film to look at: overexposed, nearly empty, or inverted. Hover to see its row.",
            "hint",
        ),
        *_sizes(found),
    ]
    return Section("pixels", "Gray values, before and after normalisation", blocks)


_UNSEEN = " Test films are not looked at: whoever looks at them, and then changes something, has used them."


def _sample_sentence(found: Exploration, pixels: PixelFacts) -> str:
    whose = f" of the {found.material.films_from} split" if found.material.films_from else ""
    return (
        f"A sample of {count_text(len(pixels.films), 'film')}{whose}, at {found.material.image_px} × {found.material.image_px} "
        f"pixels.{_UNSEEN if found.material.films_from == 'train' else ''}"
    )


def _normalised_rows(norm: Normalisation, mean: float, std: float, chosen: bool) -> list[list[str]]:
    mark = ", set in this job" if chosen else ""
    channels = list(dict.fromkeys(zip(norm.mean, norm.std, strict=True)))
    names = [
        f"“{norm.kind}”{mark}" + (f", channel {i + 1}" if len(channels) > 1 else "")
        for i in range(len(channels))
    ]
    return [
        [name, f"{(mean - m) / s:.3f}", f"{std / s:.3f}"]
        for name, (m, s) in zip(names, channels, strict=True)
    ]


def _brightness_table(films: Sequence[FilmFacts]) -> Table:
    points = {"Least": 0.0, "First quartile": 0.25, "Median": 0.5, "Third quartile": 0.75, "Greatest": 1.0}
    means, stds = [f.mean for f in films], [f.std for f in films]
    rows = [
        [name, f"{np.quantile(means, q):.1f}", f"{np.quantile(stds, q):.1f}"] for name, q in points.items()
    ]
    return Table("Gray values film by film", ["", "Mean", "Std"], rows)


def _sizes(found: Exploration) -> list[Block]:
    sizes = found.sizes
    if not sizes:
        return []
    whose = "all films" if found.material.sizes is not None else "the films looked at"
    if len(sizes) == 1:
        width, height = next(iter(sizes))
        return [Text(f"The files of {whose} are {width} × {height} pixels.")]
    total = sum(sizes.values())
    rows = [[f"{w} × {h}", f"{n:,}", percent(n / total)] for (w, h), n in list(sizes.items())[:_SIZES_LISTED]]
    rest = total - sum(list(sizes.values())[:_SIZES_LISTED])
    foot = [f"{len(sizes) - _SIZES_LISTED} other sizes", f"{rest:,}", percent(rest / total)] if rest else []
    return [
        Table(f"Sizes of the files of {whose} (width × height)", ["Pixels", "Films", "Share"], rows, foot)
    ]


def grid(found: Exploration, pixels: PixelFacts) -> Section:
    """A few films of each finding."""
    blocks: list[Block] = [
        Text(
            "Films on which a finding stands alone come first. Can you see it? Labels that were read out of reports by a program "
            "are wrong now and then; what does not look like its label is worth a second look."
        ),
        Text(_number_sentence(found), "muted"),
    ]
    for finding, rows in pixels.grid.items():
        if rows:
            pictures = [_grid_picture(found, pixels, finding, row) for row in rows]
            blocks.append(Pictures(finding, pictures))
    empty = [finding for finding, rows in pixels.grid.items() if not rows]
    if empty:
        blocks.append(Text(f"No film to show: {', '.join(empty)}.", "muted"))
    return Section("grid", "Films by finding", blocks)


def _number_sentence(found: Exploration) -> str:
    if found.material.prepared:
        return "A film's number is its row in index.parquet, counted from 0: that is where its name can be looked up."
    return "Films are numbered in the order in which they would be stored."


def _grid_picture(found: Exploration, pixels: PixelFacts, finding: str, row: int) -> Picture:
    others = [name for name in _findings_of(found, row) if name != finding]
    caption = f"film {row}" + (f", also {', '.join(others)}" if others else "")
    return Picture(thumbnail(pixels.pictures[row], GRID_PX), caption, _spoken(found, row))


def _findings_of(found: Exploration, row: int) -> list[str]:
    labels = found.material.frame.loc[row, found.findings]
    return [name for name in found.findings if labels[name] == 1]


def _shown(found: Exploration, row: int) -> str:
    return ", ".join(_findings_of(found, row)) or NO_FINDING.lower()


def _spoken(found: Exploration, row: int) -> str:
    return f"Chest film {row}, labelled: {_shown(found, row)}"


def _original(found: Exploration, film: FilmFacts) -> tuple[int, int] | None:
    sizes = found.material.sizes
    if film.original is None and sizes is not None and film.row in sizes.index:
        width, height = sizes.loc[[film.row], ["width", "height"]].to_numpy()[0].tolist()
        return height, width
    return film.original


def augmentation(found: Exploration, pixels: PixelFacts) -> Section:
    """One film as training sees it, epoch by epoch."""
    film = pixels.single
    assert film is not None
    if found.stream.augmentation == "none":
        return Section(
            "augmentation", "What training sees", [Text("This job trains on the films as they are stored.")]
        )
    shown = pixels.pictures[film.row]
    first = Picture(thumbnail(shown, STRIP_PX), "as stored", _spoken(found, film.row))
    stream, seed = found.stream, found.material.seed
    strip = augmented(shown, film.row, stream.image_px, seed, stream.augmentation_strength)
    drawn = [
        Picture(png, f"epoch {epoch}", f"The same film, changed as in epoch {epoch}")
        for epoch, png in enumerate(strip, 1)
    ]
    return Section("augmentation", "What training sees", [
        Text(
            "In every epoch a film is turned, shifted, zoomed, brightened and contrasted a little, anew and at random, so that "
            "the network learns the finding and not the film. Never mirrored: that would put the heart on the other side."
        ),
        Pictures(f"Film {film.row}", [first, *drawn]),
    ])  # fmt: skip
