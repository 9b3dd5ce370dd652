"""``flexcore keygen``: make a vendor's key pair."""

from __future__ import annotations

import argparse
import os
import secrets

from flexcore.errors import ConfigurationError
from flexcore.keys import SEED_SIZE, SigningKey

from ._files import write_new

HELP = """\
Make a key pair for a vendor: VENDOR.key, which signs licence files and must stay secret (mode 0600),
and VENDOR.pub, one line with the vendor's name in it, for servers and for the product.
Files that are there already are never overwritten."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "vendor", metavar="VENDOR", help="the vendor's name: letters, digits, _ and -"
    )
    parser.add_argument(
        "--out-dir", metavar="DIR", default=".", help="where to write (default: here)"
    )


def run(args: argparse.Namespace) -> int:
    """Run it."""
    key = SigningKey(args.vendor, secrets.token_bytes(SEED_SIZE))
    secret = os.path.normpath(os.path.join(args.out_dir, f"{key.vendor}.key"))
    public = os.path.normpath(os.path.join(args.out_dir, f"{key.vendor}.pub"))
    for path in (secret, public):  # before anything is written: no half pair is left
        if os.path.lexists(path):
            raise ConfigurationError(f"{path} is there already, and is never overwritten")
    write_new(secret, f"{key.secret_text()}\n".encode(), 0o600)
    write_new(public, f"{key.verifying_key}\n".encode(), 0o644)
    print(f"{secret}: the secret key of vendor {key.vendor}; keep it, and keep it secret")
    print(
        f"{public}: its public key, {key.verifying_key.key_id.hex()}; give it to servers and products"
    )
    return 0
