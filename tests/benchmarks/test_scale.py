"""The benchmark of scale: its arithmetic against numbers by hand, and its planning in small."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules() -> Iterator[SimpleNamespace]:
    """The benchmark's scripts, which lie beside each other and in no package."""
    sys.path.insert(0, str(BENCHMARKS))
    import scale
    import scale_needs
    import scale_networks
    import scale_planning

    yield SimpleNamespace(scale=scale, needs=scale_needs, networks=scale_networks, planning=scale_planning)
    sys.path.remove(str(BENCHMARKS))


def test_needs_of_eight_gpus_are_those_by_hand(modules: SimpleNamespace) -> None:
    inputs = modules.needs.Inputs(
        film_bytes=25_000,
        core_images_per_s={"slow": 500, "fast": 2000},
        requests_a_group=4,
        rows_per_group=32,
    )
    found = modules.needs.needs(8, 1000, inputs)
    assert found.images_per_s == 8000
    assert found.storage_gb_per_s == pytest.approx(0.2)
    assert found.requests_per_s == 1000
    assert found.cores == {"slow": 16, "fast": 4}


def test_ring_moves_two_parts_less_than_twice_the_bytes(modules: SimpleNamespace) -> None:
    # 8 members: 14/8 of 100 MB are 175 MB, and 25 Gb/s are 3,125 MB/s.
    assert modules.needs.all_reduce_s(8, 100e6, 25) == pytest.approx(0.056)
    assert modules.needs.all_reduce_s(1, 100e6, 25) == 0
    # 56 ms beside two thirds of a step: a step of 84 ms, 84 films at 1,000 a second.
    assert modules.needs.films_that_hide(0.056, 1000) == pytest.approx(84)


def test_epoch_of_512_gpus_with_8_films_each(modules: SimpleNamespace) -> None:
    found = modules.needs.epoch(10_000_000, 512, 8, 1000)
    assert (found.batch, found.streams, found.steps) == (4096, 512, 2442)
    assert found.seconds == pytest.approx(19.53, abs=0.01)
    # 16 streams have 15 borders between them; 3,200 films are 100 row groups.
    assert modules.needs.read_twice(3200, 128, 32) == 0.15


def test_bytes_of_a_resnet_are_those_of_its_published_parameters(modules: SimpleNamespace) -> None:
    """torchvision: ResNet-18 has 11,689,512 parameters, with 1,000 outputs of 513 each, and 1.81 G multiply-adds."""
    found = modules.networks.count("resnet18")
    parameters = 11_689_512 - 1000 * 513 + 14 * 513
    assert found.gradient_bytes == 4 * parameters
    # Weights and AdamW's two moments, and of 20 norms (4,800 channels) mean, variance and counter.
    assert found.checkpoint_bytes == pytest.approx(12 * parameters + 8 * 4800 + 8 * 20, rel=2e-3)
    assert found.checkpoint_bytes > 12 * parameters + 8 * 4800 + 8 * 20
    assert found.forward_gflop == pytest.approx(2 * 1.81, rel=0.01)


def test_tables_are_printed_for_the_rates_that_are_assumed(
    modules: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["needs", "--gpu-images-per-s", "500", "2000", "--film-bytes", "25000", "--core-images-per-s", "CPU=2000",
             "--requests", "4", "--backbones"]  # fmt: skip
    modules.scale.print_needs(modules.scale.parsed(words))
    printed = capsys.readouterr().out
    assert "| 512 | 2,000 | 1,024,000 | 25.60 | 128,000 | 512.0 |" in printed
    assert "| 8 | 500 | 4,000 | 0.10 | 500 | 2.0 |" in printed
    assert "| 512 | 128 | 65,536 | 8,192 | 2.62% | 153 | 39 | 10 |" in printed
    with pytest.raises(SystemExit):  # nothing stands in for a figure that was not measured
        modules.scale.parsed(["needs"])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is told by Linux")
def test_planning_of_a_small_data_set_is_measured(modules: SimpleNamespace, tmp_path: Path) -> None:
    folder = modules.planning.made(tmp_path, 5000)
    assert modules.planning.made(tmp_path, 5000) == folder
    took, told = modules.planning.of_a_rank(folder, ranks=8, batch=64)
    assert (told["films"], told["row groups"], told["streams"], told["steps"]) == (5000, 157, 16, 79)
    # An eighth of the row groups, and at most two borders of its two streams.
    assert 19 <= told["row groups that the last rank reads"] <= 22
    # Class-aware: films with each of 14 findings and films with none come equally often.
    assert told["films of the resampled epoch"] % 15 == 0
    assert all(t.seconds >= 0 for t in took)
    assert [t.part for t in modules.planning.opening(folder)] == [
        "read `index.parquet`, all columns", "check that no patient is shared", "fingerprint of films, labels and split",
    ]  # fmt: skip


def test_memory_that_a_part_keeps_is_told_from_memory_that_it_gives_back(modules: SimpleNamespace) -> None:
    if sys.platform != "linux":
        pytest.skip("memory is told by Linux")
    meter = modules.planning.Meter()
    kept = meter("keeps", lambda: bytearray(b"x" * 2**25))
    meter("gives back", lambda: len(bytearray(b"x" * 2**25)))
    first, second = meter.parts
    assert first.kept_mib == pytest.approx(32, abs=4) and len(kept) == 2**25
    assert second.peak_mib == pytest.approx(64, abs=8) and second.kept_mib == pytest.approx(0, abs=4)
