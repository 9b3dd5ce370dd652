"""``python -m flexcore_tools``: the same as the ``flexcore`` command."""

from __future__ import annotations

from .cli import main

raise SystemExit(main())
