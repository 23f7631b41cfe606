"""Entry point of ``python -m mpa_core.cli``, which is the command ``mpa``."""

from __future__ import annotations

import sys

from mpa_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
