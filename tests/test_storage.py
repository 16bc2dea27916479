"""Folders: the same on a disk and in an object store, and a file is there whole or not at all."""

import os
import pickle
import socket
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_cxr import storage as module
from ray_cxr.errors import InputError
from ray_cxr.storage import Folder, UnreachableError, own_folder


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    if request.param == "local":
        yield Folder(tmp_path / "dataset")
    else:
        made = Folder(f"memory://{uuid.uuid4()}/dataset")
        yield made
        made.remove("")


def test_what_is_written_is_read(folder: Folder) -> None:
    folder.write_bytes("a.bin", b"\x00\x01")
    folder.write_bytes("deep/er/b.bin", b"\x02")
    assert folder.read_bytes("a.bin") == b"\x00\x01"
    assert (folder / "deep").read_bytes("er/b.bin") == (folder / "deep/er").read_bytes("b.bin") == b"\x02"
    with folder.open("a.bin") as file:
        assert file.read() == b"\x00\x01"


def test_second_write_takes_the_place_of_the_first(folder: Folder) -> None:
    folder.write_bytes("a.bin", b"a long first text")
    folder.write_bytes("a.bin", b"short")
    assert folder.read_bytes("a.bin") == b"short"


def test_names_are_sorted_and_of_this_folder_only(folder: Folder) -> None:
    assert folder.names() == []
    for name in ("b", "a", "below/c"):
        folder.write_bytes(name, b"x")
    assert folder.names() == ["a", "b", "below"]
    assert (folder / "below").names() == ["c"]


def test_what_is_there_is_known_also_after_a_look_at_the_folder(folder: Folder) -> None:
    assert not folder.exists() and not folder.exists("a")
    folder.write_bytes("a", b"")
    assert folder.names() == ["a"]
    other = Folder(folder.url)
    other.write_bytes("b", b"")
    assert folder.exists() and folder.exists("b") and folder.names() == ["a", "b"]


def test_files_and_folders_are_removed_and_nothing_is_nothing(folder: Folder) -> None:
    for name in ("a", "below/b", "below/er/c"):
        folder.write_bytes(name, b"x")
    folder.remove("below")
    folder.remove("a")
    folder.remove("never there")
    assert not folder.exists("a") and not folder.exists("below") and folder.names() == []


def test_missing_file_is_a_file_not_found_error(folder: Folder) -> None:
    with pytest.raises(FileNotFoundError):
        folder.read_bytes("nowhere")


def test_json_goes_and_comes_back(folder: Folder) -> None:
    value = {"findings": ["Mass", "Ödem"], "auroc": {"Hernia": None}, "step": 3}
    folder.write_json("a.json", value)
    assert folder.read_json("a.json") == value
    assert "Ödem" in folder.read_bytes("a.json").decode()


def test_json_holds_no_nan(folder: Folder) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        folder.write_json("a.json", {"loss": float("nan")})
    assert not folder.exists("a.json")


def test_folder_pickles(folder: Folder) -> None:
    folder.write_bytes("a", b"x")
    back = pickle.loads(pickle.dumps(folder))
    assert (back.url, back.is_local, back.read_bytes("a")) == (folder.url, folder.is_local, b"x")


def test_relative_path_is_made_absolute_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    folder = Folder("runs/demo")
    assert folder.url == str(tmp_path / "runs" / "demo") == str(folder)
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder.write_bytes("a", b"x")
    pickle.loads(pickle.dumps(folder)).write_bytes("b", b"x")
    assert sorted(p.name for p in (tmp_path / "runs" / "demo").iterdir()) == ["a", "b"]


@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "{}/below/.."])
def test_one_place_has_one_url(tmp_path: Path, form: str) -> None:
    folder = Folder(form.format(tmp_path))
    assert folder.url == str(tmp_path) and folder.is_local


@pytest.mark.parametrize("url", ["memory://bucket/data", "memory://bucket/data/"])
def test_url_keeps_its_scheme(url: str) -> None:
    folder = Folder(url)
    assert not folder.is_local
    assert folder.url == "memory://bucket/data"
    assert (folder / "below").url == "memory://bucket/data/below"


def test_root_of_a_store_stays_in_the_store() -> None:
    root, name = Folder("memory://"), str(uuid.uuid4())
    (root / name).write_bytes("a", b"x")
    back = pickle.loads(pickle.dumps(root))
    assert back.exists(name) and not back.is_local and not (root / name).is_local
    root.remove(name)


@pytest.mark.parametrize("url", ["nosuchscheme://bucket/data", "s4://x"])
def test_unknown_scheme_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"cannot be opened: .*use a local path or a known URL"):
        Folder(url)


def test_url_whose_host_is_not_found_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("fsspec.core.url_to_fs", unknown)
    with pytest.raises(InputError, match=r"'ftp://x' cannot be reached \(Name or service not known\); check"):
        Folder("ftp://x")


def test_what_stands_in_the_way_of_a_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "below").mkdir()
    for place in ("file", "file/deeper"):
        with pytest.raises(InputError, match=rf"cannot be written \({tmp_path}/file is a file\)"):
            Folder(tmp_path / place).check_writable()
    with pytest.raises(InputError, match=rf"\({tmp_path}/below is a directory\)"):
        Folder(tmp_path).write_bytes("below", b"x")


def test_interrupted_write_leaves_the_file_before_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path)
    folder.write_bytes("a", b"before")

    def fails(*_: object) -> None:
        raise OSError("no space left on device")

    for step in ("fsync", "chmod", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fails)
            with pytest.raises(InputError, match="cannot be written .no space left"):
                folder.write_bytes("a", b"after")
        assert folder.read_bytes("a") == b"before" and folder.names() == ["a"], step


def test_file_takes_its_name_when_it_is_whole_and_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spied_replace(source: str, target: str) -> None:
        assert Path(source).read_bytes() == b"whole" and not Path(target).exists()
        order.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", spied_replace)
    Folder(tmp_path).write_bytes("a", b"whole")
    assert order == ["fsync", "replace"]


def test_files_have_the_rights_that_the_user_gives_new_files(tmp_path: Path) -> None:
    Folder(tmp_path).write_bytes("a", b"x")
    (tmp_path / "b").touch()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


class _Store:
    """An object store that does not answer so many times."""

    protocol = "store"

    def __init__(self) -> None:
        self.away, self.held = 0, dict[str, bytes]()

    def _answer(self) -> None:
        self.away -= 1
        if self.away >= 0:
            raise ConnectionRefusedError(111, "Connection refused")

    def exists(self, path: str) -> bool:
        self._answer()
        return path in self.held

    def makedirs(self, path: str, exist_ok: bool) -> None:
        self._answer()

    def pipe_file(self, path: str, data: bytes) -> None:
        self.held[path] = data


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> tuple[Folder, _Store]:
    folder, store = Folder("memory://bucket/run"), _Store()
    folder.fs, folder.in_this_process = store, False  # type: ignore[assignment]
    monkeypatch.setattr(Folder, "_have_answered", set())
    monkeypatch.setattr(module, "_AGAIN_AFTER_S", (0.0, 0.0))
    return folder, store


def test_a_store_that_has_answered_is_asked_again(away: tuple[Folder, _Store]) -> None:
    folder, store = away
    assert not folder.exists("a")
    store.away = 2
    folder.write_bytes("a", b"x")
    store.away = 2
    assert folder.exists("a") and store.held == {folder.full("a"): b"x"}
    store.away = 3
    with pytest.raises(
        UnreachableError, match=r"cannot be reached \(Connection refused\); check its address"
    ):
        folder.write_bytes("a", b"y")


def test_a_store_that_never_answered_is_told_at_once(away: tuple[Folder, _Store]) -> None:
    folder, store = away
    store.away = 1
    with pytest.raises(UnreachableError):
        folder.exists("a")
    assert not folder.exists("a")  # it has answered now
    store.away = 1
    with pytest.raises(UnreachableError):
        folder.write_bytes("a", b"x", patient=False)
    assert store.held == {}


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "..", "a/.."])
@pytest.mark.parametrize("url", ["local", "memory://way-out/folder"])
def test_a_name_does_not_lead_out_of_its_folder(url: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush")
    folder = Folder(str(tmp_path / "folder") if url == "local" else url)
    folder.write_bytes("a/b", b"x")
    for use in (
        folder.read_bytes,
        folder.exists,
        folder.remove,
        folder.__truediv__,
        lambda n: folder.write_bytes(n, b""),
    ):
        with pytest.raises(InputError, match="leads out of it"):
            use(name)
    assert (tmp_path / "secret").read_text() == "hush"


def test_names_with_dots_are_names(tmp_path: Path) -> None:
    Folder(tmp_path).write_bytes("a..b/...c", b"x")
    assert (tmp_path / "a..b/...c").read_bytes() == b"x"


def test_an_absolute_name_lies_below(tmp_path: Path) -> None:
    assert not Folder(tmp_path).exists("/etc/passwd")


def test_a_file_that_takes_the_place_of_a_link_leaves_its_target(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("hush")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.json").symlink_to(tmp_path / "mine")
    Folder(tmp_path / "run").write_bytes("metrics.json", b"{}")
    assert (tmp_path / "mine").read_text() == "hush"


def test_our_folder_is_ours_alone(tmp_path: Path) -> None:
    folder = own_folder(tmp_path, "RAY_TMPDIR", "Ray's files")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert own_folder(tmp_path, "RAY_TMPDIR", "Ray's files") == folder
    folder.chmod(0o750)
    with pytest.raises(
        InputError, match="RAY_TMPDIR: .* is open to others or not yours, and Ray's files in it would be too"
    ):
        own_folder(tmp_path, "RAY_TMPDIR", "Ray's files")


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / f"ray-cxr-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="open to others or not yours"):
        own_folder(tmp_path, "RAY_TMPDIR", "Ray's files")
