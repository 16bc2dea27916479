"""Memory that training frees stays with its process, where the C library can be told so."""

import platform
import resource

import pytest
import torch

from ray_cxr.train.heap import keep_freed_memory

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
