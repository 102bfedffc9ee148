"""What became of workers is one line, whichever way Ray tells it."""

import pytest
import ray.exceptions
import ray.train

from recray.launch import failures


@pytest.fixture(autouse=True)
def _only_this_node_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "gone", lambda address: address == "10.0.0.9")


class Wrapped(Exception):
    """As Ray Train wraps what a look at a worker came back with."""

    def __init__(self, failure: Exception) -> None:
        super().__init__("A worker health check failed.")
        self.health_check_failure = failure


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ray.exceptions.RayActorError(
                error_msg="The actor died because its node has died. Node Id: ab\n\tip: 10.0.0.9"
            ),
            "worker 1 is lost with its node 10.0.0.9",
        ),
        (
            ray.exceptions.RayActorError(error_msg="The actor died.\n\tip: 10.0.0.2"),
            "worker 1 on node 10.0.0.2 was killed",
        ),
        (ray.exceptions.WorkerCrashedError(), "worker 1 was killed"),
        (
            Wrapped(ray.exceptions.ActorUnavailableError("RpcError: ipv4:10.0.0.2:1381: refused", b"0" * 16)),
            "worker 1 on node 10.0.0.2 cannot be reached",
        ),
        (
            RuntimeError(
                "[gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.9]:21683. This is"
            ),
            "worker 1 lost its connection to node 10.0.0.9",
        ),
        (RuntimeError("Traceback\n  File x\nValueError: the lr is 0\n"), "ValueError: the lr is 0"),
    ],
)
def test_a_failure_is_one_line(error: Exception, said: str) -> None:
    assert failures.of_workers({1: error}) == said


def test_a_death_goes_before_what_others_say_of_it() -> None:
    lost = RuntimeError("Connection closed by peer [10.0.0.9]:2")
    dead = ray.exceptions.RayActorError(error_msg="The actor died.\n\tip: 10.0.0.9")
    assert failures.of_workers({0: lost, 1: dead}) == "worker 1 is lost with its node 10.0.0.9"


def test_a_death_while_workers_start_names_the_node() -> None:
    for address, said in (
        ("10.0.0.9", "a worker was lost with its node 10.0.0.9"),
        ("10.0.0.2", "a worker on node 10.0.0.2 died"),
    ):
        cause = ray.exceptions.RayActorError(error_msg=f"The actor died unexpectedly.\n\tip: {address}")
        assert failures.reason(ray.train.ControllerError(cause)) == said
    assert failures.reason(ray.train.ControllerError(ValueError("the lr is 0"))) == "the lr is 0"
