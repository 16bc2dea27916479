"""Reading films: real published bytes, every form that a film comes in, and every way that a file is bad."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ray_cxr.films.read import FilmRefused, read_film, resize_square

Pixels = NDArray[np.uint8]


def _gray(height: int = 48, width: int = 64) -> Pixels:
    """A film whose four corners, and hence orientation, can be told apart."""
    rows, columns = np.mgrid[:height, :width]
    return (40 + 100 * rows / height + 60 * columns / width).astype(np.uint8)


def _saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _png_with_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and brings next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.fixture(scope="module")
def originals(shared_data: Path) -> list[bytes]:
    """Sixteen films as NIH publishes them, 1024 × 1024, four of them RGBA."""
    return [p.read_bytes() for p in sorted((shared_data / "nih-originals" / "images").glob("*.png"))]


def test_published_films_are_read_as_the_gray_that_they_show(originals: list[bytes]) -> None:
    forms = []
    for data in originals:
        image = Image.open(io.BytesIO(data))
        forms.append(image.mode)
        film = read_film(data)
        assert film.shape == (1024, 1024) and film.dtype == np.uint8
        # An RGBA film repeats its gray in three channels and is opaque.
        assert np.array_equal(film, np.asarray(image) if image.mode == "L" else np.asarray(image)[..., 0])
    assert len(forms) == 16 and forms.count("RGBA") == 4


def test_published_films_resized_are_those_of_the_256_px_collection(
    originals: list[bytes], shared_data: Path
) -> None:
    """The collection was area-averaged by others; a film is 4 × 4 means of the original."""
    names = sorted(p.name for p in (shared_data / "nih-originals" / "images").glob("*.png"))
    compared = 0
    for name, data in zip(names, originals, strict=True):
        path = shared_data / "nih" / "images" / name
        if path.exists():
            ours = resize_square(read_film(data), 256).astype(int)
            theirs = read_film(path.read_bytes()).astype(int)
            assert np.abs(ours - theirs).max() <= 1, name
            compared += 1
    assert compared >= 8


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_gray_film_comes_back(form: str) -> None:
    gray = _gray()
    film = read_film(_saved(Image.fromarray(gray), form, quality=98))
    assert film.shape == gray.shape and film.dtype == np.uint8
    assert np.abs(film.astype(int) - gray).max() <= (0 if form == "PNG" else 3)


def test_transparency_is_dropped() -> None:
    gray = _gray()
    alpha = np.where(np.arange(64) < 32, 0, 255).astype(np.uint8) + np.zeros_like(gray)
    rgba = Image.fromarray(np.dstack([gray, gray, gray, alpha]))
    assert np.array_equal(read_film(_saved(rgba)), gray)
    assert np.array_equal(read_film(_saved(Image.fromarray(np.dstack([gray, alpha])))), gray)


def test_colour_becomes_luminance() -> None:
    # ITU-R BT.601: 0.299 red + 0.587 green + 0.114 blue.
    colours = {(200, 0, 0): 59.8, (0, 200, 0): 117.4, (0, 0, 200): 22.8, (200, 200, 200): 200}
    for colour, luminance in colours.items():
        film = read_film(_saved(Image.new("RGB", (40, 40), colour)))
        assert np.all(np.abs(film - luminance) <= 1), colour


def test_palette_is_looked_up_and_not_taken_for_gray() -> None:
    numbers = (np.arange(40 * 40).reshape(40, 40) % 4).astype(np.uint8)
    image = Image.fromarray(numbers, mode=None).convert("P")
    image.putpalette([210, 210, 210, 20, 20, 20, 130, 130, 130, 77, 77, 77])
    shades = np.array([210, 20, 130, 77], np.uint8)
    indices = np.asarray(image)
    assert np.array_equal(read_film(_saved(image)), shades[indices])
    assert set(np.unique(indices)) == {0, 1, 2, 3}


def test_one_bit_film_is_black_and_white() -> None:
    bits = (np.indices((40, 40)).sum(0) % 2).astype(bool)
    assert np.array_equal(read_film(_saved(Image.fromarray(bits))), bits * np.uint8(255))


@pytest.mark.parametrize(("low", "high"), [(0, 65535), (1000, 5095), (300, 301)])
def test_sixteen_bit_film_is_stretched_from_its_darkest_to_its_brightest(low: int, high: int) -> None:
    values = np.linspace(low, high, 40 * 40).round().astype(np.uint16).reshape(40, 40)
    film = read_film(_saved(Image.fromarray(values)))
    expected = (values.astype(np.float64) - low) * 255 / (high - low)
    assert film.dtype == np.uint8 and (film.min(), film.max()) == (0, 255)
    assert np.abs(film - expected).max() <= 0.51


def test_sixteen_bit_film_of_one_value_is_black() -> None:
    assert not read_film(_saved(Image.fromarray(np.full((40, 40), 999, np.uint16)))).any()


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(1, lambda f: f), (2, np.fliplr), (3, lambda f: np.rot90(f, 2)), (6, lambda f: np.rot90(f, -1)),
     (8, lambda f: np.rot90(f, 1))],
)  # fmt: skip
def test_exif_orientation_is_applied(orientation: int, turn: Any) -> None:
    """EXIF 2.3, tag 0x0112: 6 = the film must be turned clockwise to stand upright, 8 = anticlockwise."""
    gray, exif = _gray(), Image.Exif()
    exif[0x0112] = orientation
    film = read_film(_saved(Image.fromarray(gray), "JPEG", quality=98, exif=exif))
    expected = turn(gray)
    assert film.shape == expected.shape
    assert np.abs(film.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("kept", [0.02, 0.4, 0.9, 0.999])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_truncated_film_is_refused(form: str, kept: float) -> None:
    rng = np.random.default_rng(0)
    data = _saved(Image.fromarray(rng.integers(0, 256, (200, 200), dtype=np.uint8)), form)
    read_film(data)
    with pytest.raises(FilmRefused, match=r"damaged|not a PNG or JPEG"):
        read_film(data[: int(len(data) * kept)])


def test_truncated_published_films_are_refused(originals: list[bytes]) -> None:
    for data in originals:
        with pytest.raises(FilmRefused, match="damaged"):
            read_film(data[: len(data) * 3 // 4])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"Image Index,Finding Labels\n00000001_000.png,Mass\n", "not a PNG or JPEG file"),
        (b"<!DOCTYPE html><html></html>", "not a PNG or JPEG file"),
        (b"\x89PNG\r\n\x1a\n", "not a PNG or JPEG file"),
        (os.urandom(4096), "not a PNG or JPEG file"),
        (_saved(Image.fromarray(_gray()), "TIFF"), "not a PNG or JPEG file"),
        (_saved(Image.fromarray(_gray()), "GIF"), "not a PNG or JPEG file"),
        (_png_with_header(30_000, 30_000), "more than 64 megapixels"),
        (_png_with_header(8_001, 8_000), "8001×8000 is more than 64 megapixels"),
        (_png_with_header(9_000, 9_000), "9000×9000 is more than 64 megapixels"),
        (_saved(Image.fromarray(_gray(20, 64))), "64×20 is smaller than 32 pixels"),
    ],
    ids=[
        "empty",
        "text",
        "html",
        "signature",
        "noise",
        "tiff",
        "gif",
        "bomb",
        "just-above",
        "large",
        "small",
    ],
)
def test_what_is_no_film_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(FilmRefused, match=reason):
        read_film(data)


def test_size_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(cv2, "imdecode", never)
    for width, height in ((30_000, 30_000), (9_000, 9_000), (2**31 - 1, 2**31 - 1)):
        with pytest.raises(FilmRefused):
            read_film(_png_with_header(width, height))


def test_file_of_too_many_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_cxr.films.read.MAX_BYTES", 2**20)
    with pytest.raises(FilmRefused, match="file of 2 MiB, allowed are 1"):
        read_film(_saved(Image.fromarray(_gray())) + b"\0" * 2**21)


def test_animation_is_refused() -> None:
    first, second = Image.fromarray(_gray()), Image.fromarray(255 - _gray())
    with pytest.raises(FilmRefused, match=r"animated \(2 frames\)"):
        read_film(_saved(first, save_all=True, append_images=[second]))


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((200, 100), slice(0, 64), slice(16, 48)), ((100, 200), slice(16, 48), slice(0, 64)),
     ((300, 300), slice(0, 64), slice(0, 64)), ((40, 20), slice(0, 64), slice(16, 48))],
)  # fmt: skip
def test_film_that_is_not_square_keeps_its_aspect_between_black_bars(
    shape: tuple[int, int], rows: slice, columns: slice
) -> None:
    square = resize_square(np.full(shape, 200, np.uint8), 64)
    expected = np.zeros((64, 64), np.uint8)
    expected[rows, columns] = 200
    assert np.array_equal(square, expected)


def test_sliver_of_a_film_is_not_lost() -> None:
    assert resize_square(np.full((3000, 32), 200, np.uint8), 64).max() == 200


def test_shrinking_averages_areas() -> None:
    checks = (np.indices((128, 128)).sum(0) % 2 * 200).astype(np.uint8)
    assert np.array_equal(resize_square(checks, 64), np.full((64, 64), 100, np.uint8))


def test_film_of_the_right_size_is_left_as_it_is() -> None:
    film = _gray(64, 64)
    assert np.array_equal(resize_square(film, 64), film)
