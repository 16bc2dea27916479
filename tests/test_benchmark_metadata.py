"""The benchmark of the metadata, in small: it runs, and what it prints holds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_benchmark_of_the_metadata(shared_data: Path) -> None:
    command = [
        sys.executable,
        "benchmarks/metadata.py",
        str(shared_data / "nih"),
        "--patients",
        "2000",
        "--seeds",
        "1",
    ]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if "|" in line
    ]
    kinds = {row[0]: row for row in rows if len(row) == 11}
    assert {row[7] for name, row in kinds.items() if name not in ("split", "---")} == {"0"}, (
        "no patient is shared"
    )
    floor = kinds["sampled, half of test with a finding"]
    assert float(floor[8].rstrip("%")) >= 50
    assert float(floor[9].rstrip("%")) == pytest.approx(float(floor[10].rstrip("%")), abs=3)
    worst = {
        (row[0], row[1]): float(row[2].rstrip(" %"))
        for row in rows
        if len(row) == 4 and row[2].endswith(" %")
    }
    assert worst["ray_cxr", "test"] < worst["random patients", "test"]
