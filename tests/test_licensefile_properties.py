"""Properties of licence files: printing is the inverse of reading, and nothing but LicenseError."""

from __future__ import annotations

import contextlib
from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from flexcore import (
    FeatureLine,
    LicenseError,
    SigningKey,
    format_license,
    license_bytes,
    lint_license,
    parse_license,
    sign_license,
    verify_license,
    verify_line,
)
from flexcore.licensefile.lines import only_errors
from flexcore.licensefile.signature import content_digest

KEY = SigningKey("demo", bytes(range(32)))
PUB = KEY.verifying_key
HEAD = "SERVER pat 17003456 2837\nVENDOR demo\n"

# Pieces that matter to the lexer, so that random sequences of them reach its corners.
PIECES = st.sampled_from(
    [
        *(
            "SERVER",
            "VENDOR",
            "FEATURE",
            "INCREMENT",
            "PACKAGE",
            "UPGRADE",
            "USE_SERVER",
            "feature",
        ),
        *(
            " ",
            "  ",
            "\t",
            "\n",
            "\r\n",
            "\r",
            "\\\n",
            "\\",
            " \\ \n",
            "\\ # c\n",
            "\xa0",
            "\ufeff",
            "\x00",
        ),
        *('"', "“", "”", "\x93", "#", " #", "=", " = ", "{", "}", "={", '="', "=”", "''"),
        *("demo", "f1", "1.0", "1-jan-2018", "permanent", "10", "uncounted", "pat", "ANY", "2837"),
        *(
            "SIGN",
            "SN=1",
            "HOSTID=",
            "COMPONENTS=",
            "a:1:2",
            "ck=1",
            "TS_OK",
            "START=",
            "é",
            "\ud800",
            "\u2028",
        ),
    ]
)
MESS = st.lists(PIECES, max_size=40).map("".join)
LIKELY = st.builds(
    "{}FEATURE f1 demo 1.0 permanent 10 {}".format, st.sampled_from(["", HEAD]), MESS
)
TEXTS = st.one_of(st.text(max_size=200), MESS, LIKELY)


@given(TEXTS)
@example("FEATURE")
@example('FEATURE a demo 1 permanent 1 X="')
@example("FEATURE a demo 1 permanent 1 \\")
@example("SERVER a b\n\\\nVENDOR c")
def test_text_comes_back_as_it_was(text):
    license = parse_license(text)
    assert format_license(license) == text
    assert all(str(problem) for problem in lint_license(license))
    for problem in license.problems:
        assert 0 <= problem.line <= len(license.lines) + text.count("\n") + text.count("\r")


@given(st.binary(max_size=200))
@example(b"\xff\xfe\x00")
@example(b"\xff\xfeF\x00E\x00")
@example(b"\xef\xbb\xbfSERVER a b\n")
def test_bytes_come_back_as_they_were(data):
    assert license_bytes(parse_license(data)) == data


@given(st.one_of(MESS, st.text(max_size=60)), st.booleans())
@example(' K= SIGN="x" "y"', False)
@example(' K SIGN="x" ="y z"', False)
@example(' "a"#b', False)
@example(' a=b="c # d"', False)
def test_whatever_is_signed_verifies_and_reads_back(rest, wrap):
    license = parse_license(f"{HEAD}FEATURE f1 demo 1.0 permanent 10 {rest}")
    try:
        signed = sign_license(license, KEY, wrap=wrap)
    except LicenseError:
        return  # refused with a reason: errors in the file, equal lines
    assert verify_license(signed, (PUB,)).is_valid
    hostids = signed.hostids
    for line in signed.features:
        alone = verify_line(line.signed_text, hostids, "demo", (PUB,))
        assert alone.is_valid
        assert isinstance(alone.line, FeatureLine)
        assert alone.line.pool_key == line.pool_key
        assert content_digest(alone.line, hostids) == content_digest(line, hostids)
    assert format_license(sign_license(signed, KEY, wrap=wrap)) == format_license(signed)


NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
VALUES = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters='"“”„‟″\x93\x94\xa0'),
    max_size=20,
)
KEYS = st.sampled_from(["VENDOR_STRING", "NOTICE", "SN", "ISSUER", "PLATFORMS", "asset_info", "ck"])
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=4)


@st.composite
def feature_lines(draw):
    words = [
        draw(st.sampled_from(["FEATURE", "INCREMENT"])),
        draw(NAMES),
        "demo",
        draw(st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4})?", fullmatch=True)),
        draw(st.sampled_from(["permanent", "1-jan-2030", "31-Dec-2027", "0000"])),
        draw(st.integers(1, 9999).map(str)),
    ]
    words += [f'{key}="{value}"' for key, value in draw(ATTRIBUTES).items()]
    return words


GAPS = ("  ", "\t", " \\\n", "\\\n\t", " \\  \n ")
GAPS_OUTSIDE_QUOTES = (*GAPS, " \\ # note\n ")


def mangled(line: str, random: Random) -> str:
    """The line with other white space and with continuations; a comment is one outside quotes only."""
    parts = []
    for place, part in enumerate(line.split('"')):
        gaps = GAPS if place % 2 else GAPS_OUTSIDE_QUOTES
        parts.append(
            "".join(
                random.choice(gaps) if char == " " and random.random() < 0.3 else char
                for char in part
            )
        )
    return '"'.join(parts) + "\n"


@given(st.lists(feature_lines(), min_size=1, max_size=3), st.integers(0, 2**32))
def test_administrators_may_break_lines_and_add_blanks(lines, seed):
    license = parse_license(HEAD + "".join(" ".join(words) + "\n" for words in lines))
    assert not license.errors
    with contextlib.suppress(LicenseError):  # two equal lines
        signed = sign_license(license, KEY)
        random = Random(seed)
        again = parse_license(
            HEAD + "".join(mangled(line.signed_text, random) for line in signed.features)
        )
        report = verify_license(again, (PUB,))
        assert report.is_valid, [verdict.message for verdict in report.rejected]
        assert not only_errors(again.problems)


@given(TEXTS, st.lists(st.sampled_from(["17003456", "ANY", ""]), max_size=4))
def test_a_client_survives_any_line(text, hostids):
    with contextlib.suppress(LicenseError):
        assert not verify_line(text, hostids, "demo", (PUB,)).is_valid
