"""What a training asks of a cluster."""

import pytest

from ray_cxr.train.sizing import Needs


@pytest.mark.parametrize(
    ("needs", "have", "says"),
    [
        (Needs(2, gpu=False), {"CPU": 2.5}, None),
        (
            Needs(2, gpu=False),
            {"CPU": 2},
            "2 workers and the reading of films need 2.5 CPUs, but the cluster has 2",
        ),
        (Needs(2, gpu=False), {}, "need 2.5 CPUs, but the cluster has 0"),
        (Needs(4, gpu=True), {"CPU": 32, "GPU": 4}, None),
        (Needs(4, gpu=True), {"CPU": 32, "GPU": 3}, "4 workers need 4 GPUs, but the cluster has 3"),
        (Needs(4, gpu=True), {"CPU": 4, "GPU": 4}, "need 4.5 CPUs, but the cluster has 4"),
    ],
)
def test_what_is_missing_is_said(needs: Needs, have: dict[str, float], says: str | None) -> None:
    missing = needs.missing(have)
    if says is None:
        assert missing is None
    else:
        assert missing is not None
        assert says in missing


def test_a_worker_takes_a_gpu_only_where_it_is_to() -> None:
    assert Needs(2, gpu=True).bundle == {"CPU": 1, "GPU": 1}
    assert Needs(2, gpu=False).bundle == {"CPU": 1}
