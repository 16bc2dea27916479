"""Where workers meet."""

import os

import psutil
import pytest
import ray

from ray_cxr.train.rendezvous import is_one_machine, use_rays_network


@pytest.mark.parametrize(
    ("addresses", "one"),
    [
        (["127.0.0.1"], True),
        (["127.0.0.1", "127.0.0.3"], True),
        (["::1"], True),
        (["192.168.1.5"], False),
        (["127.0.0.1", "192.168.1.5"], False),
    ],
)
def test_only_nodes_on_loopback_are_one_machine(addresses: list[str], one: bool) -> None:
    """A node of one machine that is known by an address of the network may be joined by others."""
    assert is_one_machine(addresses) is one


def test_workers_meet_in_the_network_that_ray_knows_them_in(monkeypatch: pytest.MonkeyPatch) -> None:
    name, addresses = next((n, a) for n, a in psutil.net_if_addrs().items() if a)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: addresses[0].address)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    use_rays_network()
    assert os.environ["GLOO_SOCKET_IFNAME"] == name
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "chosen")
    use_rays_network()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "chosen"


def test_an_address_of_no_network_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "192.0.2.1")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    use_rays_network()
    assert "GLOO_SOCKET_IFNAME" not in os.environ
