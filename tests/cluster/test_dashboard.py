"""The dashboard's queries name metrics that exist: ours, and Ray's own."""

import json
import re
from pathlib import Path

from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

from ray_cxr.train.watch import COUNTED, OF_A_WORKER, OF_THE_RUN, PREFIX

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "cluster/grafana-dashboard.json").read_text()
PANELS = json.loads(TEXT)["panels"]
OURS = {f"ray_{PREFIX}{name}" for name in [*OF_THE_RUN, *OF_A_WORKER, *COUNTED]}
RAYS = {f"ray_{name}" for name in METRICS_GAUGES}


def test_every_metric_of_a_query_exists() -> None:
    named = set(re.findall(r"\bray_\w+", TEXT))
    assert len(named) > 10
    assert named - OURS - RAYS == set()


def test_every_metric_of_ours_is_drawn() -> None:
    assert OURS - set(re.findall(r"\bray_cxr_\w+", TEXT)) == {"ray_cxr_epochs"}


def test_panels_neither_overlap_nor_leave_the_page() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_nothing_asks_for_a_patient_or_a_host() -> None:
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    assert all(set(re.findall(r"(\w+)=~?\"", query)) <= {"run"} for query in queries)
