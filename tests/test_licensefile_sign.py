"""SIGN: what may change after signing, what may not, and how the difference is named."""

from __future__ import annotations

import datetime
import doctest

import pytest

import flexcore.codes
import flexcore.hostid
import flexcore.licensefile.version
from flexcore import (
    LicenseError,
    SignatureError,
    SigningKey,
    Verdict,
    format_license,
    lint_license,
    membership_digest,
    parse_license,
    rights_digest,
    sign_license,
    verify_license,
    verify_line,
)
from flexcore.licensefile import content_digest, select_features
from flexcore.licensefile.lines import SignableLine
from flexcore.licensefile.signature import canonical_bytes, make_head, parse_value

KEY = SigningKey("demo", bytes(range(32)))
PUB = KEY.verifying_key
OTHER = SigningKey("demo", bytes(32))
UNSIGNED = """\
# For the pattern shop
SERVER pat 17003456 2837 PRIMARY_IS_MASTER
SERVER lee 17004355 2837
SERVER terry 17007ea8 2837
VENDOR demo
FEATURE f1 demo 1.0 1-jan-2018 10 SIGN=”<...>”
INCREMENT f2 demo 2.5 permanent 3 SN=7 VENDOR_STRING="pro  edition" TS_OK asset_info="room 5"
PACKAGE kit demo 1.0 COMPONENTS="f1:1.0 f2:2.5:2"
UPGRADE f1 demo 1.0 2.0 1-jan-2018 5
"""
SIGNED = format_license(sign_license(parse_license(UNSIGNED), KEY))


def report_on(text: str, *keys):
    return verify_license(parse_license(text), keys or (PUB,))


def verdict_on(text: str, name: str = "f1"):
    """The verdict on the first line of this name."""
    return next(v for v in report_on(text).verdicts if v.line.name == name)


def changed(old: str, new: str) -> str:
    assert old in SIGNED
    return SIGNED.replace(old, new)


def test_signing_signs_every_signable_line_and_nothing_else_changes():
    report = report_on(SIGNED)
    assert report.is_valid
    assert [v.line.name for v in report.verdicts] == ["f1", "f2", "kit", "f1"]
    assert SIGNED.splitlines()[:5] == UNSIGNED.splitlines()[:5]
    assert len(SIGNED.splitlines()) == len(UNSIGNED.splitlines())
    assert not lint_errors(SIGNED)


def sign_of(line: SignableLine) -> str:
    assert line.sign is not None
    return line.sign


def lint_errors(text: str):
    return [p for p in lint_license(parse_license(text)) if p.severity == "error"]


def test_the_value_is_groups_of_four_hex_digits():
    sign = sign_of(parse_license(SIGNED).features[0])
    assert all(len(group) == 4 and int(group, 16) >= 0 for group in sign.split(" "))
    assert sign.startswith("FC01 ")


def test_signing_is_deterministic_and_signing_again_replaces():
    again = sign_license(parse_license(SIGNED), KEY)
    assert format_license(again) == SIGNED
    other = format_license(sign_license(parse_license(SIGNED), OTHER))
    assert other != SIGNED
    assert report_on(other, OTHER.verifying_key).is_valid


def test_vectors():
    """Fixed for ever: other programs sign and verify by the documented bytes."""
    license = parse_license(
        "SERVER pat 17003456 2837\nSERVER lee 17004355 2837\nSERVER terry 17007EA8 2837\nVENDOR demo\n"
        'FEATURE f1 demo 1.0 1-jan-2018 10 SN=7 asset_info="second floor"\n'
    )
    signed = sign_license(license, KEY)
    line = signed.features[0]
    value = parse_value(sign_of(line))
    assert value is not None
    assert (
        KEY.verifying_key.public.hex()
        == "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    )
    assert PUB.key_id.hex() == "6572dbca"
    assert canonical_bytes(line, signed.hostids, value.head) == (
        b"flexcore license line 1\n"
        b"checks FC016572DBCA36015A9BB42F794DBEECBE661C5FD3161221AD2ED9B6E407\n"
        b"line FEATURE\nname f1\nvendor demo\nversion 1.0\nexpiry 1-jan-2018\ncount 10\n"
        b"hostid 17003456\nhostid 17004355\nhostid 17007ea8\nkeyword SN=7\n"
    )
    assert value.head == make_head(line, signed.hostids, PUB.key_id)
    assert KEY.sign(canonical_bytes(line, signed.hostids, value.head)) == value.signature
    assert value.signature.hex() == VECTOR


VECTOR = (
    "5c2a7f6f00c2cf9474b4df06fc58430e81b98b92200e082a3c4c841e5245295e"
    "46d8a8d329854340449d2cd5867a22d56d15e382c2d327bb40757e15802ced09"
)  # --- what may change ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SERVER pat", "SERVER pattern.example.org"),
        ("17004355 2837", "17004355 30000"),
        (" PRIMARY_IS_MASTER", ""),
        ("PRIMARY_IS_MASTER", "PRIMARY_IS_MASTER HEARTBEAT_INTERVAL=5"),
        ("17007ea8", "17007EA8"),
        ("VENDOR demo", "VENDOR demo /opt/demo options=/etc/demo.opt port=4000"),
        ("VENDOR demo", "DAEMON demo"),
        ('asset_info="room 5"', 'asset_info="room 6" sort=7'),
        (' asset_info="room 5"', ""),
        ("FEATURE f1 demo", "feature  f1\tdemo"),
        ("FEATURE f1 demo 1.0 ", "FEATURE f1 demo \\\n\t1.0 \\ # yes\n "),
        ("SN=7 ", ""),
        ("pro edition", "pro \\\n\tedition"),
        ("pro edition", "pro     edition"),
        ("# For the pattern shop\n", ""),
        ("\n", "\r\n"),
    ],
)
def test_what_may_change(old, new):
    text = changed(old, new)
    if old == "SN=7 ":  # keywords may move on the line
        text = text.replace(" TS_OK", " TS_OK SN=7")
    report = report_on(text)
    assert report.is_valid, [v.message for v in report.rejected]


def test_wrapped_lines_verify_and_are_short():
    wrapped = sign_license(parse_license(UNSIGNED), KEY, wrap=True)
    text = format_license(wrapped)
    assert report_on(text).is_valid
    assert max(map(len, text.splitlines())) <= 80
    assert format_license(sign_license(wrapped, KEY)) == SIGNED


# --- what may not -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "differences"),
    [
        (" 10 SIGN", " 100 SIGN", ("count",)),
        (" 10 SIGN", " uncounted SIGN", ("count",)),
        ("f1 demo 1.0 1-jan-2018 10", "f1 demo 1.1 1-jan-2018 10", ("version",)),
        ("1-jan-2018 10", "1-jan-2028 10", ("expiry",)),
        ("1-jan-2018 10", "permanent 10", ("expiry",)),
        ("FEATURE f1", "FEATURE F1", ("name",)),
        ("f1 demo 1.0 1-jan-2018 10", "f1 acme 1.0 1-jan-2018 10", ("vendor",)),
        ("FEATURE f1", "INCREMENT f1", ("line keyword",)),
        (" 10 SIGN", " 10 OVERDRAFT=5 SIGN", ("keyword OVERDRAFT",)),
        (" 10 SIGN", " 10 TS_OK SIGN", ("keyword TS_OK",)),
        (" 10 SIGN", ' 10 "TS_OK" SIGN', ("keyword TS_OK",)),
        ("1-jan-2018 10 ", "1-jan-2019 11 ", ("expiry", "count")),
    ],
)
def test_a_change_of_the_first_feature_is_named(old, new, differences):
    text = changed(old, new)
    verdict = next(v for v in report_on(text).verdicts if v.line.line == 6)
    assert verdict.verdict is Verdict.CHANGED
    assert verdict.differences == differences
    for difference in differences:
        assert difference in verdict.message
    assert sum(v.is_valid for v in report_on(text).verdicts) == 3


@pytest.mark.parametrize(
    ("old", "new", "difference", "words"),
    [
        ("SN=7", "SN=8", "keyword SN", "has another value"),
        (" SN=7", "", "keyword SN", "was taken out"),
        (" SN=7", " sn=7", "keyword SN", "was taken out"),
        (" TS_OK", "", "keyword TS_OK", "was taken out"),
        (" TS_OK", " TS_OK=", "keyword TS_OK", "has another value"),
        ("pro edition", "pro editions", "keyword VENDOR_STRING", "has another value"),
        (
            'VENDOR_STRING="pro edition"',
            '"VENDOR_STRING=pro edition"',
            "keyword VENDOR_STRING",
            "taken out",
        ),
        (" SN=7", " SN=7 SN=8", "keyword SN", "was added"),
    ],
)
def test_a_changed_keyword_is_named(old, new, difference, words):
    verdict = verdict_on(changed(old, new), "f2")
    assert verdict.verdict is Verdict.CHANGED
    assert difference in verdict.differences
    assert words in verdict.message


@pytest.mark.parametrize(
    ("old", "new", "difference", "words"),
    [
        ("17004355", "17004356", "hostid 2", "17004356 of SERVER line 2"),
        ("SERVER lee 17004355 2837\nSERVER terry 17007ea8", "SERVER lee 17007ea8 2837\nSERVER terry 17004355",
         "order of hostids", "another order"),
        ("SERVER lee 17004355 2837\nSERVER terry 17007ea8 2837\n", "", "number of servers", "3 servers"),
    ],
)  # fmt: skip
def test_lines_moved_to_other_servers(old, new, difference, words):
    report = report_on(changed(old, new))
    assert not report.valid_lines
    for verdict in report.verdicts:
        assert verdict.verdict is Verdict.OTHER_SERVERS
        assert verdict.differences == (difference,)
        assert words in verdict.message


def test_moved_and_changed_names_both():
    verdict = verdict_on(changed("17004355", "17004356").replace(" 10 SIGN", " 99 SIGN"))
    assert verdict.verdict is Verdict.CHANGED
    assert verdict.differences == ("count", "hostid 2")


def test_a_line_of_one_file_in_another():
    elsewhere = UNSIGNED.replace("17003456", "1").replace("17004355", "2").replace("17007ea8", "3")
    line = sign_license(parse_license(elsewhere), KEY).features[0].signed_text
    verdict = verdict_on("".join(SIGNED.splitlines(keepends=True)[:5]) + line + "\n")
    assert verdict.verdict is Verdict.OTHER_SERVERS
    assert verdict.differences == ("hostid 1", "hostid 2", "hostid 3")


def test_no_signature_other_keys_other_systems():
    assert verdict_on(UNSIGNED.replace("SIGN=”<...>”", "")).verdict is Verdict.NOT_SIGNED
    positional = verdict_on(UNSIGNED.replace("SIGN=”<...>”", "0123456789AB"))
    assert positional.verdict is Verdict.OTHER_KEY
    assert "another system" in positional.detail
    assert "lower case" in verdict_on(changed(" 10 SIGN", " 10 sign")).message
    foreign = verdict_on(UNSIGNED)
    assert foreign.verdict is Verdict.OTHER_KEY
    (first, *_) = report_on(SIGNED, OTHER.verifying_key).verdicts
    assert first.verdict is Verdict.OTHER_KEY
    assert PUB.key_id.hex() in first.message
    acme = SigningKey("acme", bytes(32)).verifying_key
    assert "no key of vendor demo" in report_on(SIGNED, acme).verdicts[0].message


def test_a_damaged_value():
    last = sign_of(parse_license(SIGNED).features[0])[-1]
    feature_line = SIGNED.splitlines()[5]
    damaged = feature_line[:-2] + ("0" if last != "0" else "1") + '"'
    verdict = verdict_on(SIGNED.replace(feature_line, damaged))
    assert verdict.verdict is Verdict.CHANGED
    assert "damaged" in verdict.message
    cut = verdict_on(SIGNED.replace(feature_line, feature_line[:-6] + '"'))
    assert cut.verdict is Verdict.OTHER_KEY


def test_any_single_character_of_the_checks_is_signed():
    sign = sign_of(parse_license(SIGNED).features[0])
    for at in range(0, len(sign), 7):
        digit = sign[at]
        if digit == " ":
            continue
        wrong = sign[:at] + ("A" if digit != "A" else "B") + sign[at + 1 :]
        assert not verdict_on(SIGNED.replace(sign, wrong)).is_valid


def test_require_all_raises_and_names_the_lines():
    report_on(SIGNED).require_all()
    with pytest.raises(SignatureError, match=r"line 6 \(f1\): .*count"):
        report_on(changed(" 10 SIGN", " 11 SIGN")).require_all()
    with pytest.raises(SignatureError):
        report_on("# nothing\n").require_all()


def test_dates_are_noted_beside_the_verdict():
    report = verify_license(parse_license(SIGNED), (PUB,), datetime.date(2026, 11, 24))
    assert report.is_valid
    assert "expired on 1-jan-2018" in report.verdicts[0].message


# --- what is not signed -------------------------------------------------------------------------------


def test_files_with_errors_are_not_signed():
    with pytest.raises(LicenseError, match="is no version"):
        sign_license(parse_license(UNSIGNED.replace("demo 2.5", "demo x")), KEY)
    with pytest.raises(LicenseError, match="majority"):
        sign_license(parse_license(UNSIGNED.replace("SERVER terry 17007ea8 2837\n", "")), KEY)


def test_two_equal_lines_are_not_signed():
    twice = UNSIGNED + "INCREMENT f3 demo 1.0 permanent 1\nINCREMENT f3  demo 1.0 permanent 1\n"
    with pytest.raises(LicenseError, match=r"lines 10 and 11 .*SN="):
        sign_license(parse_license(twice), KEY)
    told_apart = twice + "INCREMENT f3 demo 1.0 permanent 1 SN=2\n"
    told_apart = told_apart.replace(
        "f3  demo 1.0 permanent 1", "f3 demo 1.0 permanent 1 ISSUED=1-jan-2026"
    )
    assert report_on(format_license(sign_license(parse_license(told_apart), KEY))).is_valid


def test_a_key_signs_its_own_vendor_only():
    with pytest.raises(LicenseError, match="vendor acme"):
        sign_license(parse_license(UNSIGNED), SigningKey("acme", bytes(32)))
    two = "SERVER pat ANY 2837\nVENDOR demo\nVENDOR acme\nFEATURE a demo 1 permanent 1\nFEATURE b acme 1 permanent 1\n"
    signed = sign_license(parse_license(two), KEY)
    assert [line.sign is not None for line in signed.features] == [True, False]


def test_comments_inside_a_line_move_above_it_and_encodings_stay():
    text = "SERVER pat ANY 2837\r\nVENDOR demo\r\nFEATURE a demo 1 \\ # inner\r\n permanent 1 NOTICE=Ü # outer\r\n"
    signed = sign_license(parse_license(text.encode("latin-1")), KEY)
    assert signed.encoding == "latin-1"
    lines = format_license(signed).split("\r\n")
    assert lines[2:4] == ["# inner", "# outer"]
    assert lines[4].startswith("FEATURE a demo 1 permanent 1 NOTICE=Ü SIGN=")
    assert report_on(format_license(signed)).is_valid


# --- the client's side --------------------------------------------------------------------------------


def test_a_client_checks_the_line_that_came_with_a_grant():
    license = parse_license(SIGNED)
    for feature in license.features:
        verdict = verify_line(feature.signed_text, license.hostids, "demo", (PUB,))
        assert verdict.is_valid
        assert verdict.line.name == feature.name
    text = license.features[0].signed_text
    assert "\n" not in text
    assert not verify_line(text, ("1", "2", "3"), "demo", (PUB,)).is_valid
    assert not verify_line(text.replace(" 10 ", " 99 "), license.hostids, "demo", (PUB,)).is_valid
    twice = f"{text}\n{text}"
    for line, vendor in [
        ("", "demo"),
        ("# x", "demo"),
        (twice, "demo"),
        (text, "acme"),
        ("x" * 2**18, ""),
    ]:
        with pytest.raises(SignatureError):
            verify_line(line, license.hostids, vendor, (PUB,))


def test_a_server_cannot_hide_a_keyword_in_a_hostid():
    license = parse_license(
        "SERVER pat 17003456 2837\nVENDOR demo\nFEATURE f demo 1.0 permanent 5 USER_BASED\n"
    )
    signed = sign_license(license, KEY)
    text = signed.features[0].signed_text.replace(" USER_BASED", "")
    with pytest.raises(SignatureError, match="hostids"):
        verify_line(text, ("17003456\nkeyword USER_BASED",), "demo", (PUB,))
    assert not verify_line(text, ("17003456",), "demo", (PUB,)).is_valid


# --- digests ------------------------------------------------------------------------------------------


def test_membership_is_vendor_and_hostids_in_order():
    base = membership_digest(parse_license(UNSIGNED))
    assert len(base) == 32

    def of(old, new):
        return membership_digest(parse_license(UNSIGNED.replace(old, new)))

    assert (
        of("SERVER pat", "SERVER bat") == of("2837", "2838") == of("17007ea8", "17007EA8") == base
    )
    assert of("PRIMARY_IS_MASTER", "HEARTBEAT_INTERVAL=3") == of("10 SIGN", "99 SIGN") == base
    swapped = "SERVER lee 17007ea8 2837\nSERVER terry 17004355 2837"
    assert of("SERVER lee 17004355 2837\nSERVER terry 17007ea8 2837", swapped) != base
    assert of("17003456", "17003457") != base
    assert of("VENDOR demo", "VENDOR acme") != base


def test_rights_are_the_set_of_signed_lines():
    license = parse_license(SIGNED)
    base = rights_digest(license)
    lines = SIGNED.splitlines(keepends=True)
    shuffled = "".join(lines[:5] + lines[:4:-1])
    assert rights_digest(parse_license(shuffled)) == base
    assert rights_digest(parse_license(SIGNED + lines[5])) == base
    assert rights_digest(parse_license(SIGNED.replace("room 5", "room 6"))) == base
    assert rights_digest(sign_license(license, OTHER)) == base
    assert rights_digest(parse_license("".join(lines[:-1]))) != base
    assert rights_digest(parse_license(changed(" 10 SIGN", " 11 SIGN"))) != base
    assert rights_digest(license, license.features[:1]) != base


def test_copies_count_once_and_the_first_feature_of_a_name_wins():
    license = parse_license(
        "SERVER pat ANY 2837\nVENDOR demo\nFEATURE a demo 1.0 permanent 1\nFEATURE a demo 1.0 permanent 1 ck=5\n"
        "FEATURE a demo 2.0 permanent 1\nINCREMENT a demo 1.0 permanent 1\nINCREMENT a demo 1.0 permanent 1 SN=1\n"
    )
    selection = select_features(license.features, license.hostids)
    assert [line.line for line in selection.lines] == [3, 6, 7]
    assert [(i.line.line, i.because.line, i.reason) for i in selection.ignored] == [
        (4, 3, "copy"),
        (5, 3, "second"),
    ]
    first, copy = license.features[:2]
    assert content_digest(first, license.hostids) == content_digest(copy, license.hostids)


def test_the_order_in_which_lines_are_tried():
    license = parse_license(
        "SERVER pat ANY 2837\nVENDOR demo\n"
        "INCREMENT b demo 1.0 permanent 1\n"
        "INCREMENT a demo 1.9 permanent 1 ISSUED=1-jan-2020\n"
        "INCREMENT a demo 1.10 permanent 1\n"
        "INCREMENT a demo 1.9 permanent 1 START=1-jan-2021\n"
        "INCREMENT a demo 1.0 permanent uncounted HOSTID=ANY\n"
        "FEATURE a demo 0.5 permanent 1\n"
        "INCREMENT z demo 1.0 permanent 1 sort=1\n"
    )
    lines = select_features(license.features, license.hostids).lines
    assert [line.line for line in lines] == [9, 8, 7, 6, 4, 5, 3]


def test_pools():
    def key(rest: str, version: str = "1.0", keyword: str = "INCREMENT"):
        text = f"SERVER pat ANY 2837\nVENDOR demo\n{keyword} a demo {version} {rest}\n"
        return parse_license(text).features[0].pool_key

    base = key("permanent 1")
    assert key("1-jan-2030 5 SN=1 NOTICE=x asset_info=y vendor_string=z") == base
    assert key("permanent 1", version="1.00", keyword="FEATURE") == base
    for other in (
        "VENDOR_STRING=x",
        "HOSTID=ANY",
        "DUP_GROUP=UH",
        "USER_BASED",
        "PLATFORMS=i86_n",
        "BORROW=3",
    ):
        assert key(f"permanent 1 {other}") != base
    assert key("permanent 1", version="1.1") != base


@pytest.mark.parametrize("module", [flexcore.codes, flexcore.hostid, flexcore.licensefile.version])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0
