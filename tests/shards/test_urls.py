"""Data sets and runs in places that are no disk: `memory://`, and an object store (a local S3 server)."""

import io
import uuid
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_cxr.config import to_yaml
from ray_cxr.errors import InputError, RefusedError
from ray_cxr.job import Job, load_job
from ray_cxr.shards.claim import BEGUN
from ray_cxr.shards.dataset import open_dataset
from ray_cxr.shards.lock import locked
from ray_cxr.shards.prepare import prepare
from ray_cxr.storage import Folder
from ray_cxr.stream.read import ShardRead, read_films
from ray_cxr.train.fit import fit
from tests.conftest import Silent


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 server in this process, found as any other is: by the environment."""
    moto = pytest.importorskip("moto.server", reason="no S3 server: pip install 'moto[s3]' flask flask-cors")
    s3fs = pytest.importorskip("s3fs", reason="no S3 client: pip install s3fs")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem(use_listings_cache=False).mkdir("radiographs")
        yield "s3://radiographs"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path_factory.mktemp("place"))
    else:
        root = "memory:/" if request.param == "memory" else request.getfixturevalue("s3")
        yield f"{root}/{uuid.uuid4()}"


@pytest.fixture
def job(place: str) -> Callable[..., Job]:
    def make(*overrides: str) -> Job:
        return load_job(
            None,
            [
                "source.kind=phantom", "source.patients=60", "shards.image_px=64", "stream.image_px=64", "stream.batch_size=16",
                "model.backbone=test_convnext", "train.epochs=1", "train.workers=0", "findings=[Effusion]", "split.validation=0.25",
                f"dataset={place}/dataset", f"out={place}/run", *overrides,
            ],
        )  # fmt: skip

    return make


@pytest.mark.parametrize("place", ["memory", "s3"], indirect=True)
def test_prepare_train_and_another_split(
    job: Callable[..., Job], place: str, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_cxr.shards.lock._SETTLE_S", 0.05)
    made = prepare(job(), silent)
    films = made["films"]["decoded"]
    dataset = open_dataset(f"{place}/dataset", ("train", "validation", "test"))
    assert len(dataset.index) == films
    assert not dataset.folder.exists(BEGUN)
    fit(job(), to_yaml(job()), lambda event: None)
    assert Folder(f"{place}/run").read_json("metrics.json")["films"] > 0
    again = prepare(job("seed=1"), silent)
    assert again["films"] == {"decoded": 0, "kept": films}
    assert again["shards"] == {"written": 3, "kept": 0}
    assert len((Folder(f"{place}/dataset") / "shards/train").names()) == 1
    same = prepare(job("seed=1"), silent)
    assert (same["films"]["decoded"], same["shards"]["written"]) == (0, 0)
    assert same["fingerprint"] == again["fingerprint"] != made["fingerprint"]


def test_second_preparation_is_refused_and_the_first_goes_on(
    job: Callable[..., Job], place: str, silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_cxr.shards.lock._SETTLE_S", 0.05)
    with locked(Folder(f"{place}/dataset"), BEGUN, silent.say) as held:
        with pytest.raises(
            RefusedError, match=r"is being prepared by process \d+ on .*, since .* nothing was changed"
        ):
            prepare(job(), silent)
        held.check()
        assert Folder(f"{place}/dataset").names() == [BEGUN]
    assert not Folder(f"{place}/dataset").exists(BEGUN)
    prepare(job(), silent)
    assert silent.lines and not any("going on" in line or "taking over" in line for line in silent.lines)


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_a_row_group_is_fetched_without_the_rest_of_its_shard(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """s3fs fetches 50 MB more than is asked for, unless it is told not to."""
    rng, fetched = np.random.default_rng(0), list[int]()
    films = pa.array([rng.bytes(4096) for _ in range(256)], pa.binary())
    table = pa.table({"image_id": [f"film-{n}" for n in range(256)], "film": films})
    as_shards = {
        "row_group_size": 16,
        "compression": "none",
        "use_dictionary": False,
        "write_statistics": False,
    }
    pq.write_table(table, shard := io.BytesIO(), **as_shards)
    folder, file_type = Folder(place), pytest.importorskip("s3fs").core.S3File
    folder.write_bytes("shards/train/part-0.parquet", shard.getvalue())
    fetch = file_type._fetch_range

    def counting(self: object, start: int, end: int) -> bytes:
        fetched.append(end - start)
        return bytes(fetch(self, start, end))

    monkeypatch.setattr(file_type, "_fetch_range", counting)
    read = read_films(folder, [ShardRead("shards/train/part-0.parquet", [3, 4], [16, 16])])
    assert read["film"].to_pylist() == films[48:80].to_pylist()
    # 64 KiB from the end, where Parquet says what lies where, and the two row groups in one request.
    assert len(fetched) == 2
    assert 32 * 4096 < sum(fetched) - 65_536 < 32 * 4096 + 4096


def test_store_that_cannot_be_reached_is_told(silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    s3fs = pytest.importorskip("s3fs", reason="no S3 client: pip install s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        InputError, match=r"s3://radiographs/x cannot be reached \(.*credentials.*\); check its address"
    ):
        prepare(load_job(None, ["dataset=s3://radiographs/x"]), silent)
    s3fs.S3FileSystem.clear_instance_cache()


def test_processes_of_a_cluster_cannot_see_this_memory() -> None:
    memory = f"memory://{uuid.uuid4()}"
    with pytest.raises(InputError, match=r"shards\.engine: got 'ray', but memory://.* use threads or auto"):
        prepare(load_job(None, [f"dataset={memory}", "shards.engine=ray"]), Silent())
    for place, other in (("dataset", "out"), ("out", "dataset")):
        job = load_job(None, [f"{place}={memory}", f"{other}=elsewhere", "train.workers=2"])
        with pytest.raises(InputError, match=rf"{place}: memory://.* use train\.workers=0"):
            fit(job, to_yaml(job), lambda event: None)
