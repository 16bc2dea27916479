"""What is sent to a cluster, and what stays at home."""

from pathlib import Path

import pytest

import ray_cxr
from ray_cxr.errors import InputError
from ray_cxr.submit import pack
from ray_cxr.submit.pack import KINDS, needs, package_files

PACKAGE = Path(ray_cxr.__file__).parent


def test_the_job_and_its_start_are_sent(tmp_path: Path) -> None:
    bundle = pack.pack(tmp_path, "seed: 3\n", with_package=False)
    assert sorted(p.name for p in bundle.work.iterdir()) == ["job.yaml", "needs.txt", "start.py"]
    assert (bundle.work / "job.yaml").read_text() == "seed: 3\n"
    assert bundle.package is None


def test_the_package_is_sent_whole(tmp_path: Path) -> None:
    bundle = pack.pack(tmp_path, "", with_package=True)
    assert bundle.package is not None
    there = {
        p.relative_to(PACKAGE) for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    assert {p.relative_to(bundle.package) for p in bundle.package.rglob("*") if p.is_file()} == there
    assert all(p.suffix in KINDS for p in there), "a new kind of file: pack.KINDS must name it"


def _package(root: Path, *more: str) -> Path:
    source = root / "ray_cxr"
    for name in ("__init__.py", "report/page.jinja", "py.typed", *more):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x")
    return source


def test_films_tokens_git_environments_and_links_stay_at_home(tmp_path: Path) -> None:
    source = _package(
        tmp_path, "film.png", "films/1.dcm", "auth_token", ".git/config", ".git/hooks/a.py", ".env", ".venv/lib/m.py", "key.pem",
        "datasets/part.parquet", "runs/model.safetensors", "job.yaml", "table.csv",
    )  # fmt: skip
    (tmp_path / "secret.py").write_text("password = 1")
    (source / "link.py").symlink_to(tmp_path / "secret.py")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.py").write_text("x")
    (source / "linked").symlink_to(tmp_path / "elsewhere")
    sent = {str(p.relative_to(source)) for p in package_files(source)}
    assert sent == {"__init__.py", "report/page.jinja", "py.typed"}


def test_a_package_above_the_limit_is_refused_and_its_largest_file_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _package(tmp_path)
    (source / "large.py").write_bytes(b"#" * 3000)
    monkeypatch.setattr(pack, "LARGEST_PACKAGE", 2048)
    monkeypatch.setattr(ray_cxr, "__file__", str(source / "__init__.py"))
    (tmp_path / "to").mkdir()
    with pytest.raises(InputError, match=r"2\.9 KiB, but at most 2\.0 KiB are sent \(largest: large\.py"):
        pack.pack(tmp_path / "to", "", with_package=True)


def test_a_job_above_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"job file has 1\.5 MiB"):
        pack.pack(tmp_path, "#" * (3 * 2**19), with_package=False)


def test_needs_are_those_of_the_package_without_extras() -> None:
    names = " ".join(needs())
    assert "torch" in names
    assert "pydantic" in names
    assert "pytest" not in names
