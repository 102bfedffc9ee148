"""Whatever keeps a process out of Ray is a sentence with the way out."""

import socket
import threading
from collections.abc import Iterator

import pytest
import ray.exceptions

from recray.config import ConfigError, UnavailableError
from recray.launch import cluster

MISMATCH = (
    "Version mismatch: The cluster was started with:\n    Ray: 2.55.1\n    Python: 3.12.4\n"
    "This process on node 10.0.0.2 was started with:\n    Ray: 2.54.0\n    Python: 3.11.7\n"
)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("address", "error", "kind", "said"),
    [
        (
            "10.0.0.1:6379",
            caused(ConnectionError("Failed to connect to Ray cluster at 10.0.0.1"), RuntimeError(MISMATCH)),
            ConfigError,
            "the Ray cluster at 10.0.0.1:6379 has Ray 2.55.1 on Python 3.12.4, this process Ray 2.54.0 on "
            "Python 3.11.7: install the same in both",
        ),
        (
            "10.0.0.1:6379",
            caused(RuntimeError("no GCS"), ray.exceptions.AuthenticationError("InvalidAuthToken")),
            ConfigError,
            "the Ray cluster at 10.0.0.1:6379 does not let this process in (InvalidAuthToken",
        ),
        (
            "10.0.0.1",
            ValueError("Malformed address"),
            ConfigError,
            "RAY_ADDRESS '10.0.0.1' is no address of a cluster (Malformed address): HOST:6379, or auto",
        ),
        (
            "10.0.0.1:6379",
            ConnectionRefusedError(111, "Connection refused"),
            UnavailableError,
            "no Ray cluster at 10.0.0.1:6379 ([Errno 111] Connection refused): is it up? Without RAY_ADDRESS",
        ),
        (
            "",
            Exception("The current node timed out during startup.\nThis could"),
            UnavailableError,
            "Ray did not start on this machine in time (The current node timed out during startup): give",
        ),
        ("", AssertionError(), ConfigError, "Ray does not start on this machine (AssertionError): its logs"),
    ],
)
def test_what_ray_raises_is_a_sentence(
    address: str, error: Exception, kind: type[ConfigError], said: str
) -> None:
    found = cluster.not_joined(address, error)
    assert type(found) is kind
    assert str(found).startswith(said)


@pytest.fixture(params=[b"HTTP/1.0 400 Bad request\r\n", b""], ids=["speaks HTTP", "hangs up"])
def stranger(request: pytest.FixtureRequest) -> Iterator[str]:
    """Something else that listens where a cluster is expected."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            door, _ = server.accept()
            with door:
                door.recv(64)
                door.sendall(request.param)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_what_is_not_ray_is_not_asked_for_minutes(stranger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", stranger)
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    with pytest.raises(UnavailableError, match=r"^no Ray cluster at .* \(what listens there is not Ray\)"):
        cluster.join()


def test_an_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(ConfigError, match=r"^RAY_ADDRESS 'nonsense' is no address of a cluster \("):
        cluster.join()
