"""Memory that training frees stays with its process, where the C library can be told so."""

import platform
import resource
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_cxr.heap import keep_freed_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")


def _faults_of_large_tensors() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        torch.ones(4 * 2**20)  # 16 MiB, 4,096 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_large_tensors_do_not_map_their_pages_anew() -> None:
    assert keep_freed_memory()
    _faults_of_large_tensors()
    assert _faults_of_large_tensors() < 4096


def test_what_is_read_of_shards_does_not_map_its_pages_anew(tmp_path: Path) -> None:
    path, films = tmp_path / "films.parquet", pa.array([bytes(16 * 2**10)] * 2048, pa.binary())
    pq.write_table(
        pa.table({"film": films}), path, row_group_size=64, compression="none", use_dictionary=False
    )

    def faults_of_a_read() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        with path.open("rb") as file:
            batches = list(pq.ParquetFile(file).iter_batches(64, use_threads=False))
        assert sum(batch.num_rows for batch in batches) == 2048
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    assert keep_freed_memory()
    for _ in range(3):
        faults_of_a_read()
    assert faults_of_a_read() < 2048  # a quarter of the pages that the films fill
