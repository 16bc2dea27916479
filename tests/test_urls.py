"""URLs that hold a secret, and those that only look so."""

from pathlib import Path

import pytest

from ray_cxr.cli.main import run
from ray_cxr.config import read_settings
from ray_cxr.errors import InputError
from ray_cxr.job import Job
from ray_cxr.labels.text_table import read_text_table
from ray_cxr.storage import Folder
from ray_cxr.urls import holds_secret, secrets_in

SECRET = [
    "s3://AKIA:hush@bucket/d",
    "s3://AKIA:hu/sh+hush@bucket/d",
    "simplecache::s3://AKIA:hush@bucket/d",
    "ftp://me:hush@host:21/d",
    "sftp://me:hush@host/d",
    "https://hush@host/d",
    "https://host/d?X-Amz-Signature=hush",
    "https://host/d?sv=1&sig=hush",
    "postgresql://me:hush@host/study",
    "mysql+pymysql://me:hush@host:3306/study",
]
PLAIN = [
    "s3://bucket/d", "s3://bucket/d@2", "s3://bucket/2026:01@x", "http://host:8080/a@b", "http://[::1]:80/a@b",
    "abfs://container@account.dfs.core.windows.net/d", "sftp://me@host/d", "github://owner:repository@main/d",
    "hf://datasets/owner/d@main/x", "sqlite:///study.db", "memory://d", "/data/a:b@c", "me@example.org",
    "s3://bucket/d?versionId=3",
]  # fmt: skip


@pytest.mark.parametrize("url", SECRET)
def test_a_secret_is_seen(url: str) -> None:
    assert holds_secret(url)


@pytest.mark.parametrize("url", PLAIN)
def test_what_is_none_is_not_taken_for_one(url: str) -> None:
    assert not holds_secret(url)


def test_settings_with_secrets_are_named_wherever_they_stand() -> None:
    url = SECRET[0]
    raw = {
        "dataset": url,
        "seed": 1,
        "source": [{"images": ["/d", url]}, {"labels": "/t"}],
        "tune": {"storage": url},
    }
    assert list(secrets_in(raw)) == ["dataset", "source.images", "tune.storage"]


@pytest.mark.parametrize("url", SECRET)
def test_a_job_file_with_one_is_refused_without_it(url: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(f"dataset: {url}\nnonsense: {url}\n")
    with pytest.raises(InputError) as caught:
        read_settings(Job, tmp_path / "job.yaml")
    assert caught.value.message.startswith("dataset: the URL holds a password, key or signature")
    assert "hush" not in caught.value.message


@pytest.mark.parametrize("override", ["out={}", "seed.x={}", "tune.storage={}", "tune.space={{model.weights: {{choices: [{}]}}}}", "{}"])  # fmt: skip
def test_so_is_an_override(override: str) -> None:
    for url in SECRET:
        with pytest.raises(InputError) as caught:
            read_settings(Job, None, [override.format(url)])
        assert "hush" not in caught.value.message


@pytest.mark.parametrize("read", [Folder, read_text_table])
def test_so_is_what_a_command_is_given(read: type[Folder]) -> None:
    with pytest.raises(InputError) as caught:
        read("s3://AKIA:hush@bucket/d")
    assert "hush" not in caught.value.message


@pytest.mark.parametrize("command", [
    ["config", "show", "job.yaml"], ["train", "job.yaml"], ["prepare", "job.yaml"], ["tune", "job.yaml", "--json"],
    ["submit", "train", "job.yaml", "--address", "http://127.0.0.1:1"], ["explore", "s3://AKIA:hush@bucket/d"],
    ["evaluate", "s3://AKIA:hush@bucket/run"],
])  # fmt: skip
def test_no_command_says_it(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.yaml").write_text("out: s3://AKIA:hush@bucket/run\n")
    monkeypatch.chdir(tmp_path)
    assert run(command) == 2
    said = "".join(capfd.readouterr())
    assert "password, key or signature" in said
    assert "hush" not in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["job.yaml"]
