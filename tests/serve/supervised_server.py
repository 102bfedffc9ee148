"""A server for the tests of the supervisor: answers its health, and has a process below it that outlives it.

``supervised_server.py PORT FOLDER``: writes its process and the other's into FOLDER.
"""

import http.server
import os
import subprocess
import sys
from pathlib import Path


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def main(port: int, folder: Path) -> None:
    below = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    server = http.server.HTTPServer(("127.0.0.1", port), Health)
    written = folder / f"{os.getpid()}.new"
    written.write_text(f"{os.getpid()} {below.pid}")
    written.rename(folder / "processes")
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
