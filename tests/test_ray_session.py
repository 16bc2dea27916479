"""Ray that starts in the background: what happens where it fails, hangs, or is interrupted. Without Ray itself."""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ray_cxr import ray_session as module
from ray_cxr.errors import InputError, RayCxrError
from ray_cxr.ray_session import ray_starting


class Session:
    """In the place of `ray_session`: remembers the threads that began and ended it."""

    def __init__(self, error: Exception | None = None, *, hangs: bool = False) -> None:
        self.error, self.may_begin = error, threading.Event()
        self.threads: list[int] = []
        if not hangs:
            self.may_begin.set()

    @contextmanager
    def __call__(self, workers: int) -> Iterator[None]:
        assert self.may_begin.wait(20)
        if self.error is not None:
            raise self.error
        self.threads.append(threading.get_ident())
        yield
        self.threads.append(threading.get_ident())


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Session:
    made = Session(**getattr(request, "param", {}))
    monkeypatch.setattr(module, "ray_session", made)
    return made


def test_begun_and_ended_in_a_thread_of_its_own(session: Session) -> None:
    with ray_starting(2) as ray_is_up:
        ray_is_up()
        assert len(session.threads) == 1
    assert session.threads[0] == session.threads[1] != threading.get_ident()


def test_nothing_starts_without_workers(session: Session) -> None:
    with ray_starting(0) as ray_is_up:
        ray_is_up()
    assert session.threads == []


@pytest.mark.parametrize("session", [{"error": InputError("RAY_ADDRESS: nobody answers")}], indirect=True)
def test_what_starting_raises_the_call_raises(session: Session) -> None:
    with pytest.raises(InputError, match="nobody answers"), ray_starting(2) as ray_is_up:
        ray_is_up()


@pytest.mark.parametrize("error", [InputError, KeyboardInterrupt])
def test_it_is_ended_whatever_happens_meanwhile(session: Session, error: type[BaseException]) -> None:
    with pytest.raises(error), ray_starting(2):
        raise error("meanwhile")
    assert len(session.threads) == 2


@pytest.mark.parametrize("session", [{"hangs": True}], indirect=True)
def test_an_interrupt_does_not_wait_for_a_start_that_hangs(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    with pytest.raises(KeyboardInterrupt), ray_starting(2):
        raise KeyboardInterrupt
    assert session.threads == []
    session.may_begin.set()


def test_a_ray_that_others_have_started_here_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address Ray would join it, or refuse to."""
    given: list[dict[str, Any]] = []
    monkeypatch.setattr("ray.init", lambda **settings: given.append(settings))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    module.start_ray(cpus=2, store_bytes=100 * 2**20)
    assert [settings["address"] for settings in given] == ["local"]


def test_where_ray_does_not_come_up_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**settings: Any) -> None:
        raise Exception("The current node timed out during startup. This could happen because …")

    monkeypatch.setattr("ray.init", fails)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(
        RayCxrError,
        match=r"^Ray did not start on this machine \(The current node timed out.*train\.workers=0",
    ):
        module.start_ray(cpus=2, store_bytes=100 * 2**20)


def test_another_error_of_rays_start_is_not_explained_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**settings: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("ray.init", fails)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ValueError, match="a bug"):
        module.start_ray(cpus=2, store_bytes=100 * 2**20)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What `ray.init` is given, in a home of its own, and whether clusters are off then."""
    from ray._private import ray_constants

    given: list[dict[str, Any]] = []

    def init(**settings: Any) -> None:
        given.append(settings | {"clusters": ray_constants.ENABLE_RAY_CLUSTER, "umask": os.umask(0)})
        os.umask(given[-1]["umask"])

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR", "GLOO_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
    return given


def test_only_our_own_ray_is_kept_on_loopback(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import ray_constants

    before, environment = ray_constants.ENABLE_RAY_CLUSTER, set(os.environ)
    module.start_ray(cpus=2, store_bytes=100 * 2**20)
    # Neither this process nor what it starts is kept from a cluster later.
    assert ray_constants.ENABLE_RAY_CLUSTER is before
    assert not {name for name in set(os.environ) - environment if "GLOO" in name or "CLUSTER" in name}
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    module.start_ray(cpus=2, store_bytes=100 * 2**20)
    ours, joined = started
    assert (ours["clusters"], joined["clusters"]) == (False, before)
    assert ours["runtime_env"]["env_vars"]["GLOO_SOCKET_IFNAME"] == "lo"
    assert {"runtime_env", "_temp_dir"} & set(joined) == set()
    assert (ours["umask"], joined["umask"]) == (0o077, 0o077)


def test_clusters_are_on_again_where_ray_does_not_come_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import ray_constants

    def fails(**settings: Any) -> None:
        raise ValueError("a bug")

    before = ray_constants.ENABLE_RAY_CLUSTER
    monkeypatch.setattr("ray.init", fails)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ValueError, match="a bug"):
        module.start_ray(cpus=2, store_bytes=100 * 2**20)
    assert ray_constants.ENABLE_RAY_CLUSTER is before


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_rays_folder_lies_where_it_is_asked_for(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with TemporaryDirectory(prefix="rc-") as place:
        monkeypatch.setenv(variable, place)
        module.start_ray(cpus=2, store_bytes=100 * 2**20)
        closed = Path(place) / f"ray-cxr-{os.getuid()}"
        assert started[0]["_temp_dir"] == str(closed / "ray")
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_folder_too_long_for_sockets_is_not_taken(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ray would not start there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("long" * 10)))
    module.start_ray(cpus=2, store_bytes=100 * 2**20)
    assert started[0]["_temp_dir"] == f"/tmp/ray-cxr-{os.getuid()}/ray"


def test_a_folder_that_cannot_be_made_is_told(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/dev/null/x")
    with pytest.raises(InputError, match="^RAY_TMPDIR: /dev/null/x cannot be made"):
        module.start_ray(cpus=2, store_bytes=100 * 2**20)
    assert started == []


def test_a_token_that_others_could_read_is_closed_to_them(
    started: list[dict[str, Any]], tmp_path: Path
) -> None:
    token = tmp_path / "home/.ray/auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("t0ken")
    token.chmod(0o644)
    module.start_ray(cpus=2, store_bytes=100 * 2**20)
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() == "t0ken"
