"""SSH to pods: their sshd listens on another port than 22, and secrets travel by standard input alone.

Ray's own runner knows no port; what it runs here may be told secrets of this environment, which then stand in
no argument, file or log, there as here.
"""

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from ray.autoscaler._private.command_runner import SSHCommandRunner

from recray.config import ConfigError, UnavailableError

USER = "root"
NEEDS_SECRETS = ("ray start", "recray.cluster.guard")  # commands whose processes ask the service
_OPTIONS = {
    "StrictHostKeyChecking": "no",  # a pod's key is as new as the pod
    "UserKnownHostsFile": "/dev/null",
    "IdentitiesOnly": "yes",
    "BatchMode": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "6",
    "ExitOnForwardFailure": "yes",
    "LogLevel": "ERROR",
}


class Shell:
    """One pod, by its host and port.

    Args:
        key: file of the private key.
        through: words of ``ssh`` that lead there, such as ``-J root@host:port``.
    """

    def __init__(self, host: str, port: int, key: str, through: Sequence[str] = ()) -> None:
        self.host, self.port, self.key, self.through = host, port, key, tuple(through)

    def words(self, *options: str) -> list[str]:
        settings = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
        who = ["-i", str(Path(self.key).expanduser()), "-p", str(self.port)]
        return ["ssh", *settings, *who, *self.through, *options, f"{USER}@{self.host}"]

    def run(
        self, command: str, *, text: str = "", timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """A command there, in a login shell; ``text`` is its standard input.

        Raises:
            UnavailableError: it takes longer than ``timeout_s``.
        """
        words = [*self.words(), f"bash --login -c {shlex.quote(command)}"]
        try:
            return subprocess.run(words, input=text, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(
                f"{self.host}:{self.port} does not answer within {timeout_s:.0f} s"
            ) from error

    def copy(self, source: str, target: str, *, back: bool = False) -> int:
        """rsync of what changed, going on with what was half there; ``back``: from the pod to here."""
        far = f"{USER}@{self.host}:{source if back else target}"
        rsh = shlex.join(self.words()[:-1])
        words = ["rsync", "-az", "--partial", f"--rsh={rsh}"]
        return subprocess.run([*words, *([far, target] if back else [source, far])]).returncode


def exports(names: Sequence[str]) -> str:
    """Lines for a shell that set these variables as they are here.

    Raises:
        ConfigError: one is not set.
    """
    if missing := [name for name in names if not os.environ.get(name)]:
        raise ConfigError(f"provider.secrets names {', '.join(missing)}: not set in this environment")
    return "".join(f"export {name}={shlex.quote(os.environ[name])}\n" for name in names)


class PodRunner(SSHCommandRunner):  # type: ignore[misc]
    """Args:
    port: asks for the pod's, once it is known.
    secrets: names of variables that the head's processes are given.
    """

    def __init__(
        self, port: Callable[[], int], secrets: Sequence[str], *args: object, **options: object
    ) -> None:
        super().__init__(*args, **options)
        self.port, self.secrets = port, tuple(secrets)

    def _get_ssh_target(self) -> str:
        target = str(super()._get_ssh_target())
        self.ssh_options.arg_dict["Port"] = self.port()
        return target

    def run(self, cmd: str | None = None, **options: object) -> str:
        options.pop("ssh_options_override_ssh_key", None)  # the same key, and options without the port
        if cmd and not self.use_internal_ip and any(word in cmd for word in NEEDS_SECRETS):
            return self._told(cmd, options.get("environment_variables") or {})
        return str(super().run(cmd, **options))

    def _told(self, cmd: str, variables: object) -> str:
        """Without a terminal, which would echo what it is told."""
        target = self._get_ssh_target()
        assert isinstance(variables, dict)
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in variables.items()}
        sets = "".join(f"export {name}={shlex.quote(text)}; " for name, text in texts.items())
        script = f'eval "$(cat)"; {sets}{cmd}'
        options = self.ssh_options.to_ssh_options_list(timeout=120)
        words = ["ssh", *options, f"{self.ssh_user}@{target}", f"bash --login -c {shlex.quote(script)}"]
        subprocess.run(words, input=exports(self.secrets), text=True, check=True)
        return ""

    def remote_shell_command_str(self) -> str:
        target = self._get_ssh_target()
        key = f" -i {self.ssh_private_key}" if self.ssh_private_key else ""
        return f"ssh -o IdentitiesOnly=yes{key} -p {self.port()} {self.ssh_user}@{target}\n"
