"""Codecs: the lossless ones give back every pixel, damaged bytes are an error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ray_cxr.films.codec import decode, encode
from ray_cxr.films.settings import Codec

CODECS: tuple[Codec, ...] = ("delta-zstd", "htj2k", "png", "jpeg")
LOSSLESS: tuple[Codec, ...] = ("delta-zstd", "htj2k", "png")


def _film(height: int, width: int, seed: int, noise: float) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 120, width))
    return np.clip(smooth + rng.normal(0, noise, (height, width)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("codec", LOSSLESS)
@settings(max_examples=25)
@given(st.integers(32, 300), st.integers(32, 300), st.integers(0, 99), st.sampled_from([0.0, 3.0, 200.0]))
def test_lossless_codecs_give_back_every_pixel(
    codec: Codec, height: int, width: int, seed: int, noise: float
) -> None:
    film = _film(height, width, seed, noise)
    back = decode(encode(film, codec), codec)
    assert back.dtype == np.uint8 and np.array_equal(back, film)


def test_jpeg_is_not_lossless_but_near() -> None:
    film = _film(256, 256, 0, 3.0)
    back = decode(encode(film, "jpeg"), "jpeg")
    error = np.abs(back.astype(int) - film)
    assert 0 < error.max() <= 12 and error.mean() < 2


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_are_smaller_than_pixels(codec: Codec) -> None:
    film = _film(256, 256, 0, 2.0)
    assert len(encode(film, codec)) < film.size * 0.6


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("data", [b"", b"no film at all", bytes(1000)])
def test_what_is_no_film_is_an_error(codec: Codec, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(data, codec)


def test_truncated_png_is_an_error() -> None:
    data = encode(_film(256, 256, 0, 20.0), "png")
    with pytest.raises(ValueError, match="not a png film"):
        decode(data[: len(data) // 2], "png")


def test_png_is_no_htj2k_film() -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(encode(_film(64, 64, 0, 3.0), "png"), "htj2k")
