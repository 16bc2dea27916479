"""Tasks by Ray: what a person is told where the cluster runs none of them. What they give otherwise: tests/shards/test_prepare.py."""

import time

import pytest

from ray_cxr.errors import RayCxrError
from ray_cxr.films.crew import Crew


def _slow(task: int) -> int:
    time.sleep(20)
    return task


@pytest.mark.usefixtures("ray_cluster")
def test_a_cluster_where_nothing_goes_on_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray.data.DataContext.get_current(), "execution_no_progress_timeout_s", 1.0)
    with Crew(lambda line: None) as crew, pytest.raises(RayCxrError) as caught:
        list(crew.run(_slow, [1], by_ray=True))
    assert caught.value.message.startswith("nothing went on in the cluster for 1 s: it has ")
    assert "give the same command again" in caught.value.message
