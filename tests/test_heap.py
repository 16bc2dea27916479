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


def test_row_groups_do_not_map_their_pages_anew(tmp_path: Path) -> None:
    path, films = tmp_path / "films.parquet", pa.array([bytes(64 * 2**10)] * 256, pa.binary())
    pq.write_table(
        pa.table({"film": films}), path, row_group_size=64, compression="none", use_dictionary=False
    )

    def faults_of_a_read() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for batch in pq.ParquetFile(path).iter_batches(64, use_threads=False):
            assert batch.num_rows == 64
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    assert keep_freed_memory()
    faults_of_a_read()
    assert faults_of_a_read() < 1024  # a row group of 4 MiB has as many pages
