"""What the ``lm*`` utilities share: the flags that every one of them takes, and their printing."""

from __future__ import annotations

import sys
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from flexcore.wire.messages import FeatureRow


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``-v``, ``-verbose`` and ``-help``, which every utility takes (reference, a10)."""
    from argparse import SUPPRESS, Action

    from flexcore.override import override

    class Version(Action):
        @override
        def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
            name = parser.prog.split()[-1]
            print("\n".join(version_lines("lminstall" if name == "format" else name)))
            raise SystemExit(0)

    parser.add_argument("-v", nargs=0, action=Version, dest=SUPPRESS, help="print the version")
    parser.add_argument("-verbose", action="store_true", dest="verbose", help=SUPPRESS)
    parser.add_argument("-help", action="help", help=SUPPRESS)


def version_lines(name: str) -> tuple[str, str]:
    """Return what ``-v`` of a utility prints (observed-formats L13)."""
    import time

    from flexcore import __version__
    from flexcore.report.lmstat import header_lines
    from flexcore.report.status import version_of
    from flexcore_host.whoami import platform

    return (
        next(header_lines(time.time(), 0.0)),
        f"{name} v{version_of(__version__)} build 0 {platform()}",
    )


def print_anything() -> None:
    """Let no user's name stop the output: what the terminal cannot show is escaped."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def license_files(path: str | None) -> list[str]:
    """Return the licence files of a search path (None: of the environment)."""
    import os

    from flexcore.searchpath import LicensePath, parse_search_path, path_from_environment

    text = path if path is not None else path_from_environment(os.environ)
    found = parse_search_path(text).alternatives
    return [each.path for each in found if isinstance(each, LicensePath)]


def license_rows(path: str | None, feature: str = "") -> list[FeatureRow] | None:
    """Return the feature lines of the licence files of a search path, None if there is no file in it."""
    from flexcore.licensefile import parse_license
    from flexcore.wire.messages import FeatureRow

    files = license_files(path)
    if not files:
        return None
    rows: list[FeatureRow] = []
    for name in files:
        with open(name, "rb") as file:
            license = parse_license(file.read(LICENSE_BYTES_MAX), name=name)
        rows += [
            FeatureRow(line.name, "", line.version, line.vendor, line.expiry_text, None, "",
                       0 if line.is_uncounted else line.count, 0, "")
            for line in license.features if feature in ("", line.name)
        ]  # fmt: skip
    return rows


LICENSE_BYTES_MAX = 16 * 1024 * 1024
