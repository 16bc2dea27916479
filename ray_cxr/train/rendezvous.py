"""Where training workers meet: in a file where all nodes are this machine, else at a port of rank 0, as Ray Train has it.

torch's store listens on every network of the machine, and takes what anybody writes into it.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig

# Ray Train offers a port by "env" or "tcp" only, so the rest of its start is called from here: private names of Ray 2.60.
from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group, _TorchBackend


def rendezvous(folder: str) -> TorchConfig:
    """For the workers of the Ray that runs. folder: one on this machine that only its user may enter."""
    alive = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
    return _InFile(folder=folder) if is_one_machine(alive) else _InRaysNetwork()


def is_one_machine(addresses: list[str]) -> bool:
    """Whether no node can be elsewhere: each has an address of loopback."""
    return all(ip_address(address).is_loopback for address in addresses)


class _InRaysNetwork(TorchConfig):  # type: ignore[misc]
    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _RaysNetworkBackend


class _RaysNetworkBackend(_TorchBackend):  # type: ignore[misc]
    """Has workers find each other by the addresses that Ray knows them by."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(use_rays_network)
        super().on_start(worker_group, backend_config)


def use_rays_network() -> None:
    """Lets gloo use the network of Ray's address of this node, unless GLOO_SOCKET_IFNAME names one.

    By itself it takes the address of the machine's name, which on Debian is 127.0.1.1: no other node reaches that.
    """
    own = ray.util.get_node_ip_address()
    for name, addresses in psutil.net_if_addrs().items():
        if own in (address.address for address in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


@dataclass
class _InFile(TorchConfig):  # type: ignore[misc]
    folder: str = ""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _InFileBackend


class _InFileBackend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: _InFile) -> None:
        # A store of its own for each start: what a dead one has left in its file would be read.
        place = f"file://{backend_config.folder}/rendezvous-{uuid.uuid4().hex}"
        gpus = worker_group.get_resources_per_worker().get("GPU", 0)
        worker_group.execute(_set_torch_distributed_env_vars)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank,
                    _setup_torch_process_group,
                    backend="nccl" if gpus else "gloo",
                    world_rank=rank,
                    world_size=len(worker_group),
                    init_method=place,
                    timeout_s=backend_config.timeout_s,
                )
                for rank in range(len(worker_group))
            ]
        )
