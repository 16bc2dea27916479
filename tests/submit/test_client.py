"""What answers at an address, told in a sentence each. A small server in this process plays what is no cluster of ours."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ray import __version__ as ray_version

from ray_cxr.errors import InputError
from ray_cxr.submit import client
from ray_cxr.submit.client import Cluster, Node
from ray_cxr.submit.submit import is_this_machine
from ray_cxr.submit.token import Token

Answer = tuple[int, bytes]
TOKEN = Token("t0ken", "RAY_AUTH_TOKEN")


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked has gone: nothing to print."""


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str, str | None], Answer]], str]]:
    """Starts a server that answers (path, Authorization) by a function; gives its URL."""
    with ExitStack() as ended:

        def begin(answer: Callable[[str, str | None], Answer]) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    code, body = answer(self.path, self.headers.get("Authorization"))
                    self.send_response(code)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *args: object) -> None:
                    pass

            server = _Server(("127.0.0.1", 0), Handler)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            ended.callback(thread.join)
            ended.callback(server.server_close)
            ended.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield begin


def _version(version: str) -> bytes:
    return json.dumps({"version": "4", "ray_version": version, "ray_commit": "", "session_name": ""}).encode()


def _cluster(path: str, authorization: str | None) -> Answer:
    if authorization != "Bearer t0ken":
        return 401, b"Unauthorized"
    if path == "/api/version":
        return 200, _version(ray_version)
    if path.startswith("/nodes"):
        nodes = [
            {"hostname": "a", "ip": "10.0.0.1", "raylet": {"state": "ALIVE"}},
            {"hostname": "b", "ip": "10.0.0.2", "raylet": {"state": "DEAD"}},
        ]
        return 200, json.dumps({"result": True, "data": {"summary": nodes}}).encode()
    return 404, b"Job does not exist"


def test_a_cluster_answers(serve: Any) -> None:
    assert Cluster(serve(_cluster), TOKEN).nodes() == [Node("a", "10.0.0.1")]


def test_a_wrong_token_and_none_are_told_apart(serve: Any) -> None:
    url = serve(_cluster)
    with pytest.raises(InputError, match="asks for a token, and none was found.*--token-file"):
        Cluster(url, None)
    with pytest.raises(InputError, match="does not take the token from ~/token") as caught:
        Cluster(url, Token("wr0ng", "~/token"))
    assert "wr0ng" not in caught.value.message


@pytest.mark.parametrize("theirs", ["2.9.3", "3.0.0"])
def test_another_ray_is_told_with_both_versions(serve: Any, theirs: str) -> None:
    url = serve(lambda path, _: (200, _version(theirs)))
    with pytest.raises(
        InputError, match=f"the cluster has Ray {theirs}, this machine {ray_version}.*ray=={theirs}"
    ):
        Cluster(url, None)


def test_a_patch_of_the_same_ray_is_no_other_ray(serve: Any) -> None:
    Cluster(serve(lambda path, _: (200, _version(ray_version.rsplit(".", 1)[0] + ".77"))), None)


@pytest.mark.parametrize(
    "answer", [(200, b"<html>welcome</html>"), (200, b"{}"), (200, b"[]"), (404, b"not here"), (500, b"oh")]
)
def test_what_is_no_ray_is_told(serve: Any, answer: Answer) -> None:
    with pytest.raises(InputError, match="--address: what answers at .* is no dashboard of Ray"):
        Cluster(serve(lambda path, _: answer), None)


def test_a_port_where_nobody_listens_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(InputError, match=f"{url} cannot be reached"):
            Cluster(url, None)


def test_a_host_without_a_name_is_told() -> None:
    with pytest.raises(InputError, match="cannot be reached"):
        Cluster("http://nowhere.invalid:8265", None)


def test_one_that_never_answers_is_told(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_ANSWER_S", 0.1)
    with pytest.raises(InputError, match="nothing answers at"):
        Cluster(serve(lambda path, _: (time.sleep(0.5), (200, b""))[1]), None)


def test_a_job_that_there_is_not_is_told(serve: Any) -> None:
    cluster = Cluster(serve(_cluster), TOKEN)
    for asked in (cluster.job, cluster.log):
        with pytest.raises(InputError, match="knows no job 'j-1'; `ray-cxr jobs` lists them"):
            asked("j-1")


def test_rays_own_variables_do_not_win_over_the_address(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    assert Cluster(serve(_cluster), TOKEN).nodes()


@pytest.mark.parametrize(
    ("nodes", "same"),
    [
        ([Node("me", "10.0.0.5")], True),
        ([Node("me", "10.0.0.5"), Node("me", "127.0.0.1")], True),
        ([Node("me", "10.0.0.5"), Node("other", "10.0.0.6")], False),
        ([Node("me", "10.77.0.10")], False),  # a network namespace of this machine is another machine
        ([Node("other", "10.0.0.5")], False),
        ([], False),
    ],
)
def test_whether_all_nodes_are_this_machine(nodes: list[Node], same: bool) -> None:
    assert is_this_machine(nodes, host="me", addresses={"10.0.0.5", "127.0.0.1"}) is same
