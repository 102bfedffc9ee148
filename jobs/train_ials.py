"""`recray train ials`, as a script for `ray job submit --working-dir . -- python ...`."""

import sys

from recray.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["train", "ials", *sys.argv[1:]]))
