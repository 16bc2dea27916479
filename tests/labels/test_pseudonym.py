"""Pseudonyms: the same for the same key and id, nothing of an id in a data set, no key anywhere."""

import hashlib
import hmac
import logging
import os
from pathlib import Path

import pandas as pd
import pytest

from ray_cxr.errors import InputError
from ray_cxr.job import load_job
from ray_cxr.labels.pseudonym import KEY_VARIABLE, pseudonyms, read_key, readable_by_others, write_new_key
from ray_cxr.shards.prepare import prepare
from tests.conftest import Silent

KEY = "0123456789abcdef" * 4


def test_a_pseudonym_is_hmac_sha256() -> None:
    wanted = hmac.new(KEY.encode(), b"patient\x00p-17", hashlib.sha256).hexdigest()
    made = pseudonyms(["p-17", "p-18"], "patient", KEY.encode())
    assert wanted.startswith(made["p-17"]) and len(made["p-17"]) == 20
    assert made["p-18"] != made["p-17"] != pseudonyms(["p-17"], "image", KEY.encode())["p-17"]
    assert pseudonyms(["p-17"], "patient", b"another key of thirty-two letters")["p-17"] != made["p-17"]


def test_a_key_is_made_for_its_owner_only(tmp_path: Path) -> None:
    path = str(tmp_path / "pseudonym.key")
    write_new_key(path)
    assert os.stat(path).st_mode & 0o777 == 0o600 and not readable_by_others(path)
    key = read_key(path)
    assert len(key) == 64
    with pytest.raises(FileExistsError):
        write_new_key(path)
    assert read_key(path) == key
    os.chmod(path, 0o644)
    assert readable_by_others(path)


def test_the_key_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert read_key(None) == KEY.encode()
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(InputError, match=f"there is no key .* `ray-cxr init` makes one, .*{KEY_VARIABLE}"):
        read_key(None)
    with pytest.raises(InputError, match="source.pseudonym_key_file: .* cannot be read"):
        read_key(str(tmp_path / "nothing"))


@pytest.mark.parametrize("key", ["", "short", "a" * 31, "a" * 64, "0101" * 16])
def test_a_weak_key_is_refused_and_not_shown(tmp_path: Path, key: str) -> None:
    path = tmp_path / "weak"
    path.write_text(key)
    with pytest.raises(InputError, match="holds a weak key; it needs 32 or more random characters") as caught:
        read_key(str(path))
    assert not key or key not in caught.value.message


def test_no_id_and_no_key_gets_into_a_data_set(
    shared_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    films = sorted((shared_data / "nih/images").iterdir())[:60]
    rows = []
    for n, film in enumerate(films):
        name = f"hospital{n:03d}x.png"
        (images / name).write_bytes(film.read_bytes() if n != 7 else b"no film")
        rows.append(f"{name},Jane-Doe-{film.name[:8]},{n % 2},{n % 3 % 2}")
    (tmp_path / "table.csv").write_text("\n".join(["image,patient,Mass,Edema", *rows]))
    (tmp_path / "pseudonym.key").write_text(KEY)
    dataset, silent = tmp_path / "dataset", Silent()
    overrides = [
        "source.kind=csv", f"source.images={images}", f"source.labels={tmp_path / 'table.csv'}",
        f"source.pseudonym_key_file={tmp_path / 'pseudonym.key'}", "source.max_refused=0.1", f"dataset={dataset}",
        "shards.image_px=32", "shards.engine=threads",
    ]  # fmt: skip
    with caplog.at_level(logging.INFO):
        prepare(load_job(None, overrides), silent)
    files = [p for p in dataset.rglob("*") if p.is_file()]
    # The list of refused films is there to name them.
    assert {p.suffix for p in files} >= {".json", ".parquet"} and len(files) > 5
    for path in files:
        data = path.read_bytes()
        assert KEY.encode() not in data
        if path.name != "refused.parquet":
            assert b"Jane-Doe" not in data and b"hospital" not in data, path.name
        if path.suffix == ".parquet":
            cells = pd.read_parquet(path).drop(columns="film", errors="ignore").astype(str).to_csv()
            assert "Jane-Doe" not in cells and KEY not in cells
            assert path.name == "refused.parquet" or "hospital" not in cells
    told = "\n".join([*silent.lines, caplog.text, *capfd.readouterr()])
    assert not any(word in told for word in ("Jane-Doe", "hospital0", KEY))
    assert "hospital007x.png" in pd.read_parquet(dataset / "refused.parquet")["locator"].iloc[0]
    index = pd.read_parquet(dataset / "index.parquet")
    assert index["patient_id"].nunique() == len({film.name[:8] for n, film in enumerate(films) if n != 7})
