"""Finding and reading the options file of a licence file, as ``lmgrd`` does at start and at rereads."""

from __future__ import annotations

import os

from flexcore.errors import LicenseError
from flexcore.licensefile import LicenseFile
from flexcore.options import OptionsFile, parse_options
from flexcore.options.parser import OPTIONS_SIZE_MAX

__all__ = ["find_options", "load_options", "options_or_warning"]


def find_options(license: LicenseFile, license_path: str, vendor: str) -> tuple[str, bool]:
    """Return the path of *vendor*'s options file, and whether the VENDOR line names it.

    A relative path counts from the licence file's folder; without one it is ``VENDOR.opt`` there.
    """
    folder = os.path.dirname(os.path.abspath(license_path))
    for line in license.vendors:
        if line.name.casefold() == vendor.casefold() and line.options:
            return os.path.join(folder, line.options), True
    return os.path.join(folder, f"{vendor}.opt"), False


def load_options(license: LicenseFile, license_path: str, vendor: str) -> OptionsFile:
    """Read the options file; no file where none is named is no options.

    Raises:
        LicenseError: it cannot be read, or is too large. The text says which and why.
    """
    path, is_named = find_options(license, license_path, vendor)
    try:
        with open(path, "rb") as file:
            data = file.read(OPTIONS_SIZE_MAX + 1)
    except FileNotFoundError as error:
        if not is_named:
            return OptionsFile()
        raise LicenseError(f"the options file {path}, which the VENDOR line names, is not there") from error
    except OSError as error:
        raise LicenseError(f"the options file {path} cannot be read: {error.strerror or error}") from error
    return parse_options(data, name=path)


def options_or_warning(
    license: LicenseFile, license_path: str, vendor: str
) -> tuple[OptionsFile | None, list[str]]:
    """Return the options, and what is to be said where they cannot be read: nobody is refused a
    licence because an administrator's file is not there."""
    try:
        return load_options(license, license_path, vendor), []
    except LicenseError as error:
        return None, [f"WARNING: {error}: no options are in effect"]
