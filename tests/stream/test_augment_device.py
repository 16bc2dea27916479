"""The device's augmentation is the same picture as OpenCV's, for the same parameters."""

import numpy as np
import pytest
import torch

from ray_cxr.shards.dataset import Dataset, open_dataset
from ray_cxr.stream.augment import augment, draw_augmentation
from ray_cxr.stream.augment_device import augment_batch, on_device
from ray_cxr.stream.settings import StreamSettings
from ray_cxr.stream.stream import Stream


@pytest.fixture(scope="module")
def dataset(nih_dataset: str) -> Dataset:
    return open_dataset(nih_dataset, ("train",))


def _smooth_noise(films: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 255, (films, 1, 12, 12))).float()
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic", antialias=True)
    return smooth.clamp(0, 255).squeeze(1).byte().numpy()


@pytest.mark.parametrize(("side", "image_px"), [(256, 224), (96, 96), (256, 128), (200, 64), (64, 100)])
def test_the_same_parameters_give_the_same_picture(side: int, image_px: int) -> None:
    films = _smooth_noise(8, side)
    drawn = draw_augmentation(5, 2, np.arange(8), np.zeros(8, np.int64))
    here = np.stack([augment(film, image_px, drawn, i) for i, film in enumerate(films)]).astype(int)
    there = augment_batch(torch.from_numpy(films), image_px, drawn).numpy().astype(int)
    assert np.abs(here - there).mean() < 0.25
    assert np.percentile(np.abs(here - there), 99.9) <= 2
    assert np.abs(here - there).max() <= 6


def test_a_stream_for_the_device_gives_stored_films_and_their_parameters(dataset: Dataset) -> None:
    settings = {"image_px": 64, "batch_size": 24}
    cpu = Stream.open(dataset, "train", StreamSettings(**settings, augment_on="cpu"), seed=3)  # type: ignore[arg-type]
    gpu = Stream.open(dataset, "train", StreamSettings(**settings), seed=3, gpu=True)  # type: ignore[arg-type]
    batches = zip(cpu.train(cpu.plan(1)), gpu.train(gpu.plan(1)), strict=True)
    for number, (a, b) in enumerate(batches):
        if number == 3:
            break
        assert b.pixels.shape[1:] == (72, 72)
        part = np.arange(0, len(b.rows), 2)
        pixels = on_device(b.of(part), 64, torch.device("cpu")).numpy().astype(int)
        assert np.abs(pixels - a.pixels[part].astype(int)).mean() < 0.25
        assert np.array_equal(a.rows[part], b.of(part).rows)


def test_without_augmentation_the_device_has_nothing_to_do(dataset: Dataset) -> None:
    settings = StreamSettings(image_px=64, batch_size=24, augmentation="none")
    stream = Stream.open(dataset, "train", settings, seed=3, gpu=True)
    batch = next(stream.train(stream.plan(1)))
    assert batch.pending is None
    assert on_device(batch, 64, torch.device("cpu")).shape == (24, 64, 64)
