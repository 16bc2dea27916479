"""Wheels for machines without a network: what the installer refuses, and an install with the network cut."""

import ensurepip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
# What pip and Ray read of the environment, and what would let this checkout be found, is left out.
PLAIN = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "RAY_", "PYTHON", "VIRTUAL_ENV"))}
WITHOUT_NETWORK = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 0x41))  # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Raises loopback in a namespace of its own, which has nothing else, and becomes the command."""


def sh(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd, env={**PLAIN, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def wheel(folder: Path, name: str, version: str, *metadata: str, tag: str = "py3-none-any") -> Path:
    """A wheel of a module that holds its version and nothing else."""
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"version = {version!r}\n",
        f"{info}/METADATA": "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata, ""]),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in files.items():
            archive.writestr(place, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{place},,\n" for place in [*files, f"{info}/RECORD"]))
    return path


def write_sums(folder: Path) -> None:
    files = sorted(p for p in folder.iterdir() if p.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files]
    (folder / "SHA256SUMS").write_text("".join(sums))


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A wheelhouse as cluster/wheelhouse.sh writes it, of packages without content."""
    places = (sysconfig.get_config_var("WHEEL_PKG_DIR"), f"{Path(ensurepip.__file__).parent}/_bundled")
    pips = [pip for place in places if place for pip in Path(place).glob("pip-*.whl")]
    if not pips:
        pytest.skip("this Python brings no wheel of pip")
    folder = tmp_path / "house"
    folder.mkdir()
    shutil.copy(pips[0], folder)
    shutil.copy(ROOT / "cluster/wheelhouse-install.sh", folder / "install.sh")
    needs = ("Provides-Extra: s3", "Requires-Dist: films; extra == 's3'", "Requires-Dist: rays")
    wheel(folder, "ray_cxr", "1.0", *needs)
    wheel(folder, "films", "1.0")
    wheel(folder, "rays", "1.0")
    (folder / "MADE-FOR").write_text(f"ray_cxr 1.0\npython {HERE}\nmachine Plan9 vax\nextras s3\n")
    write_sums(folder)
    return folder


def install(house: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"PYTHON": sys.executable, **environment}
    return sh("bash", house / "install.sh", *words, cwd=house.parent, **given)


def refused(house: Path, *words: str, **environment: str) -> str:
    """The one sentence that it is refused with; nothing is left of the environment."""
    done = install(house, *(words or ("venv",)), **environment)
    assert done.returncode == 2
    if not words:
        assert not (house.parent / "venv").exists()
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("install.sh: ")]
    return line


def test_all_of_it_is_installed_and_nothing_from_elsewhere(house: Path, tmp_path: Path) -> None:
    """A higher version lies where pip's settings and the environment point to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    wheel(elsewhere, "rays", "2.0")
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text(f"[global]\nfind-links = {elsewhere}\n")
    done = install(
        house, "venv", HOME=str(tmp_path), PIP_FIND_LINKS=str(elsewhere), PYTHONPATH=str(elsewhere)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("ray_cxr 1.0 is in venv; next: ")
    look = "import ray_cxr, films, pip, rays; print(rays.version)"
    assert sh(house.parent / "venv/bin/python", "-c", look, cwd=house.parent).stdout == "1.0\n"


def test_extras_can_be_left_out(house: Path) -> None:
    assert install(house, "venv", EXTRAS="").returncode == 0
    python = house.parent / "venv/bin/python"
    assert sh(python, "-c", "import rays", cwd=house.parent).returncode == 0
    assert "No module named 'films'" in sh(python, "-c", "import films", cwd=house.parent).stderr


def test_a_damaged_wheel_is_refused(house: Path) -> None:
    path = house / "rays-1.0-py3-none-any.whl"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert refused(house) == (
        "install.sh: damaged, by its SHA-256: rays-1.0-py3-none-any.whl; carry the folder over again"
    )


def test_a_damaged_list_is_refused(house: Path) -> None:
    text = (house / "SHA256SUMS").read_text()
    (house / "SHA256SUMS").write_text("x" + text)
    assert refused(house) == "install.sh: damaged, by its SHA-256: SHA256SUMS; carry the folder over again"


@pytest.mark.parametrize("name", ["rays-1.0-py3-none-any.whl", "MADE-FOR", "SHA256SUMS"])
def test_a_missing_file_is_refused(house: Path, name: str) -> None:
    (house / name).unlink()
    assert refused(house).startswith(f"install.sh: {name} is missing in {house}; ")


def test_a_wheel_that_somebody_put_there_is_refused(house: Path) -> None:
    wheel(house, "rays", "2.0")
    assert refused(house) == (
        f"install.sh: rays-2.0-py3-none-any.whl is not in SHA256SUMS; remove it from {house}"
    )


def test_another_python_is_refused(house: Path) -> None:
    text = (house / "MADE-FOR").read_text()
    (house / "MADE-FOR").write_text(text.replace(f"python {HERE}", "python 3.9"))
    write_sums(house)
    assert f"is Python {HERE}, and the wheels are for Python 3.9; give that, as in: " in refused(house)
    assert "PYTHON: no-such-python is Python of no known version" in refused(house, PYTHON="no-such-python")


@pytest.mark.parametrize(
    "tag", ["py3-none-manylinux_2_17_s390x", "py3-none-manylinux_2_99_x86_64", "cp39-cp39-any"]
)
def test_wheels_of_another_machine_are_refused(house: Path, tag: str) -> None:
    wheel(house, "atoms", "1.0", tag=tag)
    write_sums(house)
    said = refused(house)
    assert "fetched on Plan9 vax, and this is " + platform.system() in said
    assert f"where these cannot run: atoms-1.0-{tag}.whl; make a wheelhouse" in said


def test_an_extra_that_is_not_there_is_refused(house: Path) -> None:
    assert refused(house, EXTRAS="s3,mlflow") == (
        "install.sh: EXTRAS: no wheels for mlflow here; there are those of: s3"
    )


def test_an_environment_that_is_there_is_left_alone(house: Path) -> None:
    there = house.parent / "mine"
    there.mkdir()
    (there / "work").write_text("years")
    assert refused(house, "mine").startswith("install.sh: mine is there already; ")
    assert (there / "work").read_text() == "years"


def test_an_install_that_fails_leaves_nothing(house: Path) -> None:
    (house / "rays-1.0-py3-none-any.whl").unlink()
    write_sums(house)
    assert refused(house) == (
        "install.sh: pip could not install all of it (the lines above say why); venv is removed again"
    )


def make(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"PYTHON": sys.executable, **environment}
    return sh("bash", ROOT / "cluster/wheelhouse.sh", *words, cwd=cwd, **given)


def test_making_one_needs_this_python_and_known_extras(tmp_path: Path) -> None:
    done = make("new", cwd=tmp_path, EXTRAS="s3,weigths")
    assert done.returncode == 2
    assert "EXTRAS: ray_cxr has no extra weigths; it has weights, s3, tensorboard, mlflow, dev" in done.stderr
    done = make("new", cwd=tmp_path, PYTHON="false")
    assert done.returncode == 2
    assert "PYTHON: false is not Python 3.11 or later" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_making_one_leaves_other_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films/1.png").write_text("a film")
    done = make("films", cwd=tmp_path)
    assert done.returncode == 2
    assert "films holds something else than a wheelhouse" in done.stderr
    assert (tmp_path / "films/1.png").read_text() == "a film"


def test_wheels_are_neither_committed_nor_sent_to_nodes() -> None:
    asked = sh("git", "check-ignore", "wheelhouse/a.whl", "wheelhouse.part/a.whl", cwd=ROOT)
    assert len(asked.stdout.splitlines()) == 2, asked.stderr
    for cloud in ("aws", "gcp"):
        assert "wheelhouse" in (ROOT / f"cluster/{cloud}.yaml").read_text()


def cut(*command: str | Path) -> list[str | Path]:
    """The command in a namespace that has no network but loopback."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *as_root, "--net", sys.executable, "-c", WITHOUT_NETWORK, *command]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_an_install_with_the_network_cut(tmp_path: Path) -> None:
    """Fetched with the network; checked, installed, and a model prepared, trained on Ray and tested, without."""
    if shutil.which("unshare") is None or sh(*cut("true"), cwd=tmp_path).returncode != 0:
        pytest.skip("no namespace without a network can be had here (unshare --net)")
    look = "import socket; print([name for _, name in socket.if_nameindex()]); socket.create_connection(('192.0.2.1', 80), 5)"
    cut_off = sh(*cut(sys.executable, "-c", look), cwd=tmp_path)
    assert "lo" in cut_off.stdout and "eth" not in cut_off.stdout
    assert "Network is unreachable" in cut_off.stderr

    # With pip's own settings, which say where wheels come from.
    fetched = subprocess.run(
        ["make", "wheelhouse", f"WHEELHOUSE={tmp_path / 'wheelhouse'}", f"PYTHON={sys.executable}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert fetched.returncode == 0, fetched.stderr
    *_, summary, sum_of_sums, _ = fetched.stdout.splitlines()
    assert f"for Python {HERE} on {platform.system()} {platform.machine()}" in summary
    assert sum_of_sums.endswith(hashlib.sha256((tmp_path / "wheelhouse/SHA256SUMS").read_bytes()).hexdigest())

    installed = sh(
        *cut("bash", tmp_path / "wheelhouse/install.sh", "venv"), cwd=tmp_path, PYTHON=sys.executable
    )
    assert installed.returncode == 0, installed.stderr
    home = {"HOME": str(tmp_path), "PATH": f"{tmp_path / 'venv/bin'}:{os.environ['PATH']}"}
    told = sh(*cut("ray-cxr", "doctor", "--json"), cwd=tmp_path, **home)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["healthy"]
    weights = [f for f in json.loads(told.stdout)["findings"] if f["name"] == "weights"]
    assert weights[0]["state"] == "ok"

    (tmp_path / "job.yaml").write_text(
        "source: {kind: phantom, patients: 60}\nsplit: {validation: 0.2}\nout: run\ndataset: films\n"
        "shards: {image_px: 72}\nstream: {image_px: 64, batch_size: 16}\n"
        "model: {backbone: tf_efficientnet_lite0, weights: efficientnet-lite0}\n"
        "train: {epochs: 1, warmup_epochs: 0, workers: 1}\n"
    )
    for words in (["prepare", "job.yaml"], ["train", "job.yaml"], ["evaluate", "run"]):
        done = sh(*cut("ray-cxr", *words, "--json"), cwd=tmp_path, **home)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/report/index.html").exists()
