"""``python -m mpa_core.cli`` is ``mpa``."""

from __future__ import annotations

import sys

from mpa_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
