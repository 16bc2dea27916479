"""What a result says of the test that it comes from."""

from pathlib import Path

from ray_cxr.evaluate.consensus import Rule
from ray_cxr.evaluate.protocol import dataset_protocol, files_protocol
from ray_cxr.evaluate.readers import read_readings
from ray_cxr.evaluate.readers_files import write_consensus
from ray_cxr.evaluate.readers_result import ReaderOptions
from ray_cxr.storage import Folder


def test_of_a_data_set() -> None:
    manifest = {
        "protocol": "official", "fingerprint": "f", "films_fingerprint": "p", "leak_check": {"shared_patients": 2},
        "splits": {"test": {"images": 10, "patients": 4}}, "sources": [{"source": "nih"}, {"source": "csv"}],
        "protocol_details": {"minority_floor": 0.2},
    }  # fmt: skip
    assert dataset_protocol(manifest) == {
        "protocol": "official", "fingerprint": "f", "films_fingerprint": "p", "test_films": 10, "test_patients": 4,
        "label_source": "nih, csv", "consensus_rule": None, "shared_patients": 2, "split_minority_floor": 0.2,
    }  # fmt: skip


def test_of_files_with_and_without_a_rule_beside_the_labels(tmp_path: Path) -> None:
    (tmp_path / "readers.csv").write_text("image_id,reader,Mass\n1,a,1\n1,b,1\n2,a,0\n2,b,1\n")
    readings = read_readings([str(tmp_path / "readers.csv")])
    table = write_consensus(Folder(tmp_path / "out"), readings, ReaderOptions(Rule(ties="negative")))
    made = files_protocol("sampled", table, 2, None)
    assert made["label_source"] == "consensus.csv"
    assert made["consensus_rule"].startswith("2 readers: majority of the readers; no majority is negative")
    assert Path(table).read_text() == "image_id,Mass\n1,1\n2,0\n"
    plain = files_protocol(None, str(tmp_path / "readers.csv"), 2, 1)
    assert plain["consensus_rule"] is None
    assert files_protocol(None, None, 2, 1)["label_source"] == "the predictions' own columns"
