# SPDX-License-Identifier: MIT
"""``python -m lmc_fast`` is the ``lmc-fast`` command."""

from .cli import main

raise SystemExit(main())
