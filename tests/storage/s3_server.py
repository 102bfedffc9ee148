"""A real S3 server, moto's, as a process of its own that can be away for a while.

One request at a time, so that its conditional writes are as atomic as those of S3. It ends with whoever
started it.
"""

import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

BUCKET = "recray"


class S3Server:
    """Args:
    port: 0: one that is free.
    """

    def __init__(self, port: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__)), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.url = f"http://127.0.0.1:{self._answer()}"
        urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/{BUCKET}", method="PUT"), timeout=30
        ).close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _ask(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        self._answer()

    def go_away(self) -> None:
        """Connections are refused; what is stored stays."""
        self._ask("away")

    def come_back(self) -> None:
        self._ask("back")

    def stop(self) -> None:
        self._process.communicate()


def _serve(port: int) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import BaseWSGIServer, make_server

    application = DomainDispatcherApplication(create_backend_app)

    def begin(port: int) -> BaseWSGIServer:
        server = make_server("127.0.0.1", port, application, threaded=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    server = begin(port)
    port = server.port
    print(port, flush=True)
    for line in sys.stdin:
        if line.strip() == "away":
            server.shutdown()
            server.server_close()
        else:
            server = begin(port)
        print("done", flush=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
