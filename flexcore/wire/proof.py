"""How a client shows on a new connection that a session is its own (protocol.md rule 17).

The secret travels once, when the session is opened. Afterwards only an HMAC over the server's fresh
nonce does, so that a recorded resume is worthless on another connection. On a plain link whoever
reads the opening has the secret; that is what TLS is for (design.md section 7).
"""

from __future__ import annotations

PROOF_BYTES = 32

_DOMAIN = b"flexcore session proof 1\0"


def session_proof(secret: bytes, nonce: bytes, session: bytes) -> bytes:
    """HMAC-SHA256 under *secret* of the server's *nonce* and the *session*'s id."""
    import hmac  # and with it OpenSSL: lmstat proves nothing, and is started often

    said = _DOMAIN + len(nonce).to_bytes(4, "big") + nonce + session
    return hmac.digest(secret, said, "sha256")


def proofs_equal(a: bytes, b: bytes) -> bool:
    """Whether two proofs are the same, in time that does not tell where they differ."""
    import hmac

    return hmac.compare_digest(a, b)
