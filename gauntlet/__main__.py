"""`python -m gauntlet`: the same as the command `gauntlet`; by its name alone, since this package imports no flow."""

from __future__ import annotations

import runpy

runpy.run_module("flows", run_name="__main__", alter_sys=True)
