"""`python -m flows`: the same as `gauntlet`."""

from __future__ import annotations

import sys

from flows.cli import main

sys.exit(main())
