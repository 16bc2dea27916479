"""Where workers meet."""

import pytest

from ray_cxr.train.rendezvous import is_one_machine


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
