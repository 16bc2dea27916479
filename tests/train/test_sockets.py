"""What listens while two workers train, held against the table of docs/security.md, and what a stranger is told there."""

import http.client
import re
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from ray_cxr.job import Job

PAGE = Path(__file__).resolve().parents[2] / "docs/security.md"
METHODS = (
    "NodeInfoGcsService/GetAllNodeInfo", "NodeManagerService/GetNodeStats", "ObjectManagerService/Pull",
    "CoreWorkerService/GetCoreWorkerStats", "ReporterService/GetTraceback",
)  # fmt: skip
"""One of each of Ray's gRPC services that a process of a run offers."""
HEALTH = "/api/local_raylet_healthz"
"""Open to all, as the page says."""
FIXED_PORTS = "AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT"
"""Ray's names for ports that are the same on every machine: where another Ray has them, a program goes without."""
Row = tuple[str, str, str]
"""Program, network, guard."""


@dataclass(frozen=True)
class Listener:
    """A TCP socket that listens."""

    program: str
    address: str
    port: int

    @property
    def host(self) -> IPv4Address | IPv6Address:
        """IPv4 in the clothes of IPv6, as gRPC has it, is IPv4."""
        host = ip_address(self.address.partition("%")[0])
        return getattr(host, "ipv4_mapped", None) or host

    @property
    def network(self) -> str:
        return "loopback" if self.host.is_loopback else "private network"

    @property
    def at(self) -> str:
        """Where to reach it from this machine."""
        return "127.0.0.1" if self.host.is_unspecified else str(self.host)


def _program(process: psutil.Process, driver: int) -> str:
    line = " ".join(process.cmdline())
    if process.pid == driver:
        return "driver"
    found = re.search(r"(gcs_server|raylet|dashboard\.py|monitor\.py|DashboardAgent|RuntimeEnvAgent)\b", line)
    if found is None and re.search(r"^ray::|default_worker\.py", line):
        return "worker"
    return found[1] if found else line


def _sockets() -> Iterator[tuple[int, str, int]]:
    """Process, address and port of all that listens on this machine, as `ss` has it, or psutil where there is none."""
    if shutil.which("ss"):
        told = subprocess.run(["ss", "-Htlnp"], capture_output=True, text=True, check=True).stdout
        for line in told.splitlines():
            address, _, port = line.split()[3].rpartition(":")
            for pid in re.findall(r"pid=(\d+)", line):
                yield int(pid), "::" if address == "*" else address.strip("[]"), int(port)
        return
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.pid:
            yield one.pid, one.laddr.ip, one.laddr.port


def listeners(run: Any) -> set[Listener]:
    """What the processes of a run listen on now."""
    programs = {}
    # Ray's agents write their titles over their environment, by which the others are known.
    for process in {*run.processes(), *run.driver.children(recursive=True)}:
        with suppress(psutil.NoSuchProcess):
            programs[process.pid] = _program(process, run.process.pid)
    return {Listener(programs[pid], address, port) for pid, address, port in _sockets() if pid in programs}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def by_grpc(one: Listener, token: str | None = None) -> set[str]:
    """What one of Ray's gRPC servers says to each service; nothing where no gRPC answers."""
    header = [("authorization", f"Bearer {token}")] if token else []
    codes = set()
    with grpc.insecure_channel(f"{one.at}:{one.port}") as channel:
        for method in METHODS:
            try:
                channel.unary_unary(f"/ray.rpc.{method}")(b"", timeout=3, metadata=header)
                codes.add("OK")
            except grpc.RpcError as error:
                codes.add(error.code().name)
                if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    break
    return codes


def by_http(one: Listener, path: str = "/", token: str | None = None) -> tuple[int, bytes]:
    """Status and answer of an HTTP server; 0 where none answers."""
    with closing(http.client.HTTPConnection(one.at, one.port, timeout=3)) as line:
        try:
            line.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = line.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""


def guard(one: Listener) -> str:
    """What keeps a stranger out."""
    codes = by_grpc(one)
    if "UNAUTHENTICATED" in codes and codes <= {"UNAUTHENTICATED", "UNIMPLEMENTED"}:
        return "token"
    status, answer = by_http(one)
    if status in (401, 403):
        return "token"
    if status == 200 and answer.startswith(b"# HELP"):
        return "open: metrics only"
    return "none" if status == 0 else f"open: {status}"


def promised(page: str) -> set[Row]:
    """The table of what listens on one machine."""
    section = page.partition("## What listens on one machine")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    return {(program.strip("`"), network, told) for program, _, network, told in cells[1:]}


def rows(found: Iterable[Listener]) -> set[Row]:
    """The same of what was found; all are asked at once, since one that answers nothing costs seconds."""
    found = list(found)
    with ThreadPoolExecutor(len(found)) as pool:
        return {
            (one.program, one.network, told) for one, told in zip(found, pool.map(guard, found), strict=True)
        }


@dataclass(frozen=True)
class Training:
    """Two workers that wait in their first step."""

    run: Any
    home: Path
    found: set[Listener]

    @property
    def token_file(self) -> Path:
        return self.home / ".ray/auth_token"

    @property
    def token(self) -> str:
        return self.token_file.read_text()

    def of(self, program: str) -> list[Listener]:
        return [one for one in self.found if one.program == program]

    def command_lines(self) -> list[str]:
        return [" ".join(process.cmdline()) for process in self.run.driver.children(recursive=True)]


@pytest.fixture(scope="module")
def training(
    nih_job: Callable[..., Job], nih_dataset: str, module_drive: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Training]:  # fmt: skip
    """As a user starts it: nobody has said that Ray shall ask for a token."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(home))
        for name in FIXED_PORTS:
            patch.setenv(name, str(_free_port()))
        run = module_drive(nih_job(f"dataset={nih_dataset}", "train.workers=2"), "step", 240)
        run.until_at("step")
        # Some of Ray's programs take longer to open their ports than the first step does.
        programs, end = {program for program, _, _ in promised(PAGE.read_text())}, time.monotonic() + 30
        found = listeners(run)
        while not programs <= {one.program for one in found} and time.monotonic() < end:
            time.sleep(0.5)
            found = listeners(run)
        yield Training(run, home, found)
        # Ray's agents would try for a minute to tell that the raylet is gone.
        run.kill(run.driver.children(recursive=True))


def test_what_listens_is_what_the_page_says(training: Training) -> None:
    told = rows(training.found)
    # A process that has ended meanwhile answers nothing.
    gone = training.found - listeners(training.run)
    if gone:
        told = rows(training.found - gone)
    assert told == promised(PAGE.read_text())


def test_nothing_listens_beyond_loopback(training: Training) -> None:
    """Also while the workers meet, which is over by now: torch's store stays as long as they do."""
    assert {one.network for one in training.found} == {"loopback"}


def test_a_wrong_token_is_a_strangers(training: Training) -> None:
    (control,) = training.of("gcs_server")
    assert by_grpc(control, "0" * len(training.token)) <= {"UNAUTHENTICATED", "UNIMPLEMENTED"}
    http_ports = [
        one
        for one in training.of("RuntimeEnvAgent") + training.of("DashboardAgent")
        if by_http(one)[0] == 401
    ]
    assert http_ports
    assert {by_http(one, token="0" * len(training.token))[0] for one in http_ports} <= {401, 403}


def test_the_token_lets_in(training: Training) -> None:
    """Or the refusals would show nothing but a mistake of the stranger's."""
    (control,) = training.of("gcs_server")
    assert by_grpc(control, training.token) == {"OK", "UNIMPLEMENTED"}
    (agent,) = training.of("RuntimeEnvAgent")
    assert by_http(agent, token=training.token)[0] not in (0, 401, 403)


def test_health_is_all_that_the_agent_tells_a_stranger(training: Training) -> None:
    answers = [by_http(one, HEALTH) for one in training.of("DashboardAgent")]
    # Its port is fixed, so another Ray on this machine may have it.
    assert {text for status, text in answers if status == 200 and not text.startswith(b"# HELP")} <= {
        b"success"
    }


def test_the_token_is_for_its_owner_and_stands_nowhere_else(training: Training) -> None:
    assert stat.S_IMODE(training.token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(training.token_file.parent.stat().st_mode) == 0o700
    lines = training.command_lines()
    session = re.search(r"--session-dir=(\S+)", " ".join(lines))
    assert session is not None
    places = [Path(session[1]), Path(training.run.job.out), training.run.log.parent]
    files = [
        path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()
    ]
    assert len(files) > 20
    assert not any(training.token in line for line in lines)
    assert [path for path in files if training.token.encode() in path.read_bytes()] == []


def test_nobody_else_may_enter_rays_folder(training: Training) -> None:
    session = re.search(r"--session-dir=(\S+)", " ".join(training.command_lines()))
    assert session is not None
    closed = Path(session[1]).parents[1]
    assert closed.name.startswith("ray-cxr-")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.1", "loopback"), ("127.0.0.9", "loopback"), ("::1", "loopback"), ("::ffff:127.0.0.1", "loopback"),
        ("::", "private network"), ("0.0.0.0", "private network"), ("10.0.0.1", "private network"), ("::ffff:10.0.0.1", "private network"),
        ("fe80::1%eth0", "private network"),
    ],
)  # fmt: skip
def test_an_address_is_of_loopback_or_not(address: str, network: str) -> None:
    assert Listener("worker", address, 1).network == network


def test_the_table_is_read() -> None:
    table = promised(PAGE.read_text())
    assert ("gcs_server", "loopback", "token") in table
    assert all(network in ("loopback", "private network") for _, network, _ in table)
