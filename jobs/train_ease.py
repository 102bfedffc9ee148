"""`recray train ease`, as a script for `ray job submit --working-dir . -- python ...`."""

import sys

from recray.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["train", "ease", *sys.argv[1:]]))
