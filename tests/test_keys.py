"""Keys: text forms, signatures, and what is refused."""

from __future__ import annotations

import pytest

from flexcore import KeyFormatError, SigningKey, VerifyingKey
from flexcore.keys import is_vendor_name

KEY = SigningKey("demo", bytes(range(32)))


def test_both_texts_come_back():
    assert SigningKey.from_text(KEY.secret_text()) == KEY
    public = KEY.verifying_key
    assert VerifyingKey.from_text(str(public)) == public
    assert VerifyingKey.from_text(f"\ufeff# our key\n\n  {public}\r\n") == public
    assert "demo" in str(public)
    assert "\n" not in str(public)


def test_the_public_half_is_rfc_8032s():
    # RFC 8032, 7.1, test 1
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = SigningKey("demo", seed)
    assert (
        key.verifying_key.public.hex()
        == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    assert (
        key.sign(b"")
        .hex()
        .startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")
    )


def test_verifying():
    signature = KEY.sign(b"what was signed")
    public = KEY.verifying_key
    assert public.verify(signature, b"what was signed")
    assert not public.verify(signature, b"what was signeD")
    assert not public.verify(signature[:-1], b"what was signed")
    assert not public.verify(bytes(64), b"what was signed")
    assert not SigningKey("demo", bytes(32)).verifying_key.verify(signature, b"what was signed")


def test_the_secret_does_not_show():
    assert KEY.seed.hex() not in repr(KEY)
    assert KEY.seed.hex() not in str(KEY)


def test_key_ids_tell_keys_apart():
    assert KEY.verifying_key.key_id == SigningKey("acme", bytes(range(32))).verifying_key.key_id
    assert KEY.verifying_key.key_id != SigningKey("demo", bytes(32)).verifying_key.key_id


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a key is one line"),
        ("flexcore-public-key demo ed25519", "a key is one line"),
        (f"{KEY.verifying_key}\n{KEY.verifying_key}", "a key is one line"),
        (KEY.secret_text(), "this is a secret key"),
        (str(KEY.verifying_key).replace("ed25519", "rsa"), "ed25519"),
        (str(KEY.verifying_key)[:-1], "64 hex digits"),
        (str(KEY.verifying_key)[:-1] + "g", "64 hex digits"),
        (str(KEY.verifying_key).replace("demo", "../x"), "no vendor name"),
        ("x" * 5000, "at most"),
    ],
)
def test_texts_that_are_no_public_key(text, words):
    with pytest.raises(KeyFormatError, match=words):
        VerifyingKey.from_text(text)


def test_messages_name_the_file():
    with pytest.raises(KeyFormatError, match=r"^demo\.pub: "):
        VerifyingKey.from_text("", name="demo.pub")
    with pytest.raises(KeyFormatError, match="this is a public key"):
        SigningKey.from_text(str(KEY.verifying_key))


def test_seeds_have_32_bytes():
    with pytest.raises(KeyFormatError, match="32 bytes"):
        SigningKey("demo", bytes(31))


def test_vendor_names():
    assert all(map(is_vendor_name, ["demo", "lm_dgb", "A-1", "x" * 32]))
    assert not any(map(is_vendor_name, ["", "a b", "../x", "a.b", "é", "x" * 33, "-x", "a\n"]))
