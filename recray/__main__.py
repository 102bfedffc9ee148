"""``python -m recray``: the ``recray`` command."""

from recray.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
