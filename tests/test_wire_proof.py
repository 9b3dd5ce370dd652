"""The proof of a session: what goes into it, and that nothing else does."""

from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from flexcore.wire.proof import PROOF_BYTES, proofs_equal, session_proof


def test_the_bytes_are_documented() -> None:
    """Another implementation gets the same: HMAC-SHA256 of a domain, the nonce behind its length,
    the session."""
    said = b"flexcore session proof 1\0" + b"\0\0\0\x05" + b"nonce" + b"session"
    expected = hmac.new(b"secret", said, hashlib.sha256).digest()
    assert session_proof(b"secret", b"nonce", b"session") == expected
    assert len(expected) == PROOF_BYTES


@given(*[st.tuples(st.binary(max_size=4), st.binary(max_size=4), st.binary(max_size=4))] * 2)
def test_only_the_same_three_give_the_same(
    a: tuple[bytes, bytes, bytes], b: tuple[bytes, bytes, bytes]
) -> None:
    """The nonce's length is in it: bytes cannot move from the nonce to the session."""
    same = (a[0].ljust(64, b"\0"), *a[1:]) == (b[0].ljust(64, b"\0"), *b[1:])  # HMAC pads its key
    assert proofs_equal(session_proof(*a), session_proof(*b)) == same


def test_bytes_do_not_move_between_nonce_and_session() -> None:
    assert not proofs_equal(session_proof(b"k", b"ab", b"c"), session_proof(b"k", b"a", b"bc"))
