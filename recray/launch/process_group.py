"""PyTorch's process group over the network by which Ray's nodes know each other."""

import os

import ray.train.torch
import ray.util

from recray.launch.probe import interface_of

VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


class OnNodes(ray.train.torch.TorchConfig):  # type: ignore[misc]  # ray carries no types
    """Gloo and NCCL take the interface that the host name leads to, which is loopback on a common Debian:
    workers on two nodes then wait for each other for minutes and fail. Each is told its interface instead.
    """

    @property
    def backend_cls(self) -> type:
        return _Backend


class _Backend(ray.train.torch.TorchConfig().backend_cls):  # type: ignore[misc]
    def on_start(self, worker_group: object, backend_config: object) -> None:
        worker_group.execute(choose_interface)  # type: ignore[attr-defined]
        super().on_start(worker_group, backend_config)


def choose_interface() -> None:
    """Before the process group is made, in each worker; what the environment already says is kept."""
    if name := interface_of(ray.util.get_node_ip_address()):
        for variable in VARIABLES:
            os.environ.setdefault(variable, name)
