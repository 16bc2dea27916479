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
from PIL import Image, ImageCms

from ray_cxr.films.read import FilmRefused, read_file, read_film, reason_kind, resize_square

Pixels = NDArray[np.uint8]


def _gray(height: int = 48, width: int = 64) -> Pixels:
    """A film whose four corners, and hence orientation, can be told apart."""
    rows, columns = np.mgrid[:height, :width]
    return (40 + 100 * rows / height + 60 * columns / width).astype(np.uint8)


def _saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _form(image: Image.Image, form: str) -> bytes:
    """JPEG in three forms, one with a preview (a whole JPEG) among its EXIF data, or PNG."""
    if form != "preview":
        return _saved(image, form.replace("progressive", "JPEG"), progressive=form == "progressive")
    preview = b"Exif\0\0" + _saved(image.resize((40, 40)), "JPEG")
    data = _saved(image, "JPEG")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(preview) + 2) + preview + data[2:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(header: bytes, compressed: bytes) -> bytes:
    """A PNG of a header and its pixels, as the standard (ISO/IEC 15948) puts them together."""
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", compressed) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _png_with_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and brings next to nothing."""
    return _png(struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), zlib.compress(b"\0" * 64))


def _interlaced(film: Pixels) -> bytes:
    """Adam7: seven passes over the film, each (first row, first column, row step, column step); no row filter."""
    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    rows = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in film[y::dy, x::dx])
    return _png(struct.pack(">IIBBBBB", film.shape[1], film.shape[0], 8, 0, 0, 0, 1), zlib.compress(rows))


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
        image = Image.new("RGB", (40, 40), colour)
        image.putpixel((0, 0), (0, 0, 0))
        film = read_film(_saved(image))
        assert film[0, 0] == 0
        assert np.all(np.abs(film[1:] - luminance) <= 1), colour


@pytest.mark.parametrize("black", [0, 60])
def test_print_colours_become_luminance(black: int) -> None:
    """CMYK is subtractive: the paper's white less the ink, and black ink darkens what is left."""
    gray = _gray()
    ink = np.dstack([255 - gray] * 3 + [np.full_like(gray, black)])
    film = read_film(_saved(Image.fromarray(ink, "CMYK"), "JPEG", quality=95))
    assert np.abs(film - gray * ((255 - black) / 255)).max() <= 4


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


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_blank_film_is_refused(kind: type) -> None:
    with pytest.raises(FilmRefused, match=r"blank: all pixels are alike \(every one is 99\)"):
        read_film(_saved(Image.fromarray(np.full((40, 40), 99, kind))))


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(1, lambda f: f), (2, np.fliplr), (3, lambda f: np.rot90(f, 2)), (4, np.flipud), (5, np.transpose),
     (6, lambda f: np.rot90(f, -1)), (7, lambda f: np.rot90(f, 2).T), (8, lambda f: np.rot90(f, 1))],
)  # fmt: skip
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(orientation: int, turn: Any, form: str) -> None:
    """EXIF 2.3, tag 0x0112: 6 = the film must be turned clockwise to stand upright, 8 = anticlockwise."""
    gray, exif = _gray(), Image.Exif()
    exif[0x0112] = orientation
    film = read_film(_saved(Image.fromarray(gray), form, quality=98, exif=exif))
    expected = turn(gray)
    assert film.shape == expected.shape
    assert np.abs(film.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("mode", ["P", "LA", "RGB", "RGBA", "1"])
def test_every_form_of_png_gives_the_gray_that_a_viewer_shows(mode: str) -> None:
    image = Image.fromarray(_gray()).convert(mode)
    shown = np.asarray(image.convert("RGB").convert("L")).astype(int)
    assert np.abs(read_film(_saved(image)) - shown).max() <= 1
    if mode == "P":
        assert np.abs(read_film(_saved(image, transparency=bytes(range(256)))) - shown).max() <= 1


def test_interlaced_png_is_read() -> None:
    assert np.array_equal(read_film(_interlaced(_gray())), _gray())


def test_gamma_and_colour_profile_change_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Films are read by value: a display's gamma is none of the film's."""
    data, gray = _saved(Image.fromarray(_gray())), _gray()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for gamma in (100_000, 45_455, 22_222):
        chunk = _chunk(b"gAMA", struct.pack(">I", gamma))
        assert np.array_equal(read_film(data[:33] + chunk + data[33:]), gray)
    assert np.array_equal(read_film(_saved(Image.fromarray(gray), icc_profile=profile)), gray)
    jpeg = read_film(_saved(Image.fromarray(gray), "JPEG", quality=98, icc_profile=profile))
    assert np.abs(jpeg.astype(int) - gray).max() <= 3
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kept", [0.02, 0.4, 0.9, 0.999])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "progressive", "preview"])
def test_truncated_film_is_refused(form: str, kept: float, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    data = _form(Image.fromarray(rng.integers(0, 256, (200, 200), dtype=np.uint8)), form)
    read_film(data)
    with pytest.raises(FilmRefused, match="damaged"):
        read_film(data[: int(len(data) * kept)])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("form", ["JPEG", "progressive", "preview"])
@pytest.mark.parametrize("kept", [0.4, 0.9, 0.999])
def test_truncated_jpeg_is_refused_whatever_the_decoder_makes_of_it(
    form: str, kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV 4.10 decodes a cut JPEG to black below the cut, without a word."""
    data = _form(Image.fromarray(_gray(200, 200)), form)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: _gray(200, 200))
    read_film(data)
    with pytest.raises(FilmRefused, match="cut short"):
        read_film(data[: int(len(data) * kept)])


def test_bytes_after_the_end_of_a_film_do_no_harm() -> None:
    for form in ("PNG", "JPEG"):
        data = _saved(Image.fromarray(_gray()), form)
        assert np.array_equal(read_film(data + b"\0" * 64), read_film(data))


def test_changed_bit_of_a_png_is_seen(originals: list[bytes], capfd: pytest.CaptureFixture[str]) -> None:
    for data in originals[::5]:
        changed = bytearray(data)
        changed[len(data) // 2] ^= 1
        with pytest.raises(FilmRefused, match="damaged: it is cut short, or a checksum is wrong"):
            read_film(bytes(changed))
    assert capfd.readouterr().err == ""


def test_truncated_published_films_are_refused(originals: list[bytes]) -> None:
    for data in originals:
        with pytest.raises(FilmRefused, match="damaged"):
            read_film(data[: len(data) * 3 // 4])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"Image Index,Finding Labels\n00000001_000.png,Mass\n", "not a PNG or JPEG film, but text"),
        ("Röntgenbild, ".encode() * 99, "not a PNG or JPEG film, but text"),
        (b"\n<!DOCTYPE html><html></html>", "not a PNG or JPEG film, but an HTML page"),
        (_saved(Image.fromarray(_gray()), "TIFF"), "not a PNG or JPEG film, but a TIFF image"),
        (_saved(Image.fromarray(_gray()), "GIF"), "not a PNG or JPEG film, but a GIF image"),
        (_saved(Image.fromarray(_gray()), "BMP"), "not a PNG or JPEG film, but a BMP image"),
        (_saved(Image.fromarray(_gray()), "WEBP"), "not a PNG or JPEG film, but a WebP image"),
        (_saved(Image.fromarray(_gray()), "JPEG2000"), "not a PNG or JPEG film, but a JPEG 2000 image"),
        (np.random.default_rng(0).bytes(4096), "not a PNG or JPEG film, but unknown bytes"),
        (b"\x89PNG\r\n\x1a\n", "damaged: its header cannot be read"),
        (b"\xff\xd8\xff\xe0", "damaged: its header cannot be read"),
        (_png_with_header(30_000, 30_000), "too many pixels"),
        (_png_with_header(8_001, 8_000), r"too many pixels \(8001×8000 is more than 64 megapixels"),
        (_saved(Image.fromarray(_gray(20, 64))), r"too small \(64×20, at least 32 pixels each way"),
        (_saved(Image.fromarray(_gray(40, 161))), r"a strip \(161×40"),
    ],
    ids=[
        "empty", "csv", "umlauts", "html", "tiff", "gif", "bmp", "webp", "jp2", "noise", "png-signature",
        "jpeg-signature", "bomb", "just-above", "small", "strip",
    ],
)  # fmt: skip
def test_what_is_no_film_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(FilmRefused, match=reason):
        read_film(data)


def test_dicom_files_and_a_page_in_their_place_are_named(shared_data: Path) -> None:
    kinds = {}
    for path in sorted((shared_data / "dicom").iterdir()):
        with pytest.raises(FilmRefused, match="not a PNG or JPEG film, but ") as refused:
            read_film(read_file(str(path)))
        kinds[path.stem] = str(refused.value).partition("but ")[2]
    assert kinds.pop("html_not_dicom") == "an HTML page"
    assert set(kinds.values()) == {"a DICOM file"} and len(kinds) == 3


def test_film_of_the_longest_shape_is_read() -> None:
    assert read_film(_saved(Image.fromarray(_gray(40, 160)))).shape == (40, 160)


def test_size_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(cv2, "imdecode", never)
    for width, height in ((30_000, 30_000), (9_000, 9_000), (2**31 - 1, 2**31 - 1)):
        with pytest.raises(FilmRefused, match="too many pixels"):
            read_film(_png_with_header(width, height))


def test_a_real_decompression_bomb_is_refused_undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole PNG of 400 megapixels in a file of a few hundred kilobytes."""
    side = 20_000
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1) * 100) for _ in range(side // 100)) + packer.flush()
    data = _png(struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0), rows)
    assert len(data) < 2**19
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(FilmRefused, match="too many pixels"):
        read_film(data)


def test_file_of_too_many_bytes_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ray_cxr.films.read.MAX_BYTES", 2**20)
    data = _saved(Image.fromarray(_gray())) + b"\0" * 2**21
    with pytest.raises(FilmRefused, match=r"too large a file \(2 MiB, at most 1\)"):
        read_film(data)
    (tmp_path / "film.png").write_bytes(data)
    with pytest.raises(FilmRefused, match=r"too large a file \(2 MiB, at most 1\)"):
        read_file(str(tmp_path / "film.png"))


def test_what_cannot_be_opened_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    fates = {
        "folder.png": "unreadable: a folder",
        "pipe.png": "unreadable: not a file",
        "loop.png": "unreadable: Too many levels of symbolic links",
        "gone.png": "unreadable: No such file or directory",
    }
    for name, reason in fates.items():
        with pytest.raises(FilmRefused, match=reason):
            read_file(str(tmp_path / name))


def test_file_without_the_right_to_read_is_unreadable(tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(_saved(Image.fromarray(_gray())))
    film.chmod(0)
    tmp_path.chmod(0o755)
    if os.geteuid() == 0:  # root may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(FilmRefused, match="unreadable: Permission denied"):
            read_file(str(film))
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


def test_animation_is_refused() -> None:
    first, second = Image.fromarray(_gray()), Image.fromarray(255 - _gray())
    with pytest.raises(FilmRefused, match=r"animated \(2 frames\)"):
        read_film(_saved(first, save_all=True, append_images=[second]))


def test_reasons_are_counted_without_what_differs_from_film_to_film() -> None:
    kinds = set()
    for width in (8, 9, 10):
        with pytest.raises(FilmRefused) as refused:
            read_film(_saved(Image.fromarray(_gray(width, width))))
        kinds.add(reason_kind(str(refused.value)))
    assert kinds == {"too small"}
    assert reason_kind("unreadable: No such file or directory") == "unreadable: No such file or directory"


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
