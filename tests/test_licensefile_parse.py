"""Reading licence files: every kind of line, every surprise of real files, all problems at once."""

from __future__ import annotations

import datetime

import pytest

from flexcore import LicenseError, Severity, format_license, license_bytes, parse_license
from flexcore.errors import LicenseTooLarge
from flexcore.licensefile import LicenseFile, PackageLine, UpgradeLine, VendorLine
from flexcore.licensefile.lexer import LICENSE_SIZE_MAX, STATEMENT_SIZE_MAX
from flexcore.licensefile.parser import ATTRIBUTES_MAX, PROBLEMS_MAX

# The seed's "An Example License File", its curly quotes (both closing ones) included.
SEED = """\
SERVER pat 17003456 2837 PRIMARY_IS_MASTER
SERVER lee 17004355 2837
SERVER terry 17007ea8 2837
VENDOR demo
FEATURE f1 demo 1.0 1-jan-2018 10 SIGN=”<...>”
FEATURE f2 demo 1.0 1-jan-2018 10 SIGN=”<...>”
"""
SINGLE = "SERVER pat 17003456 2837\nVENDOR demo\n"


def parse(text: str | bytes) -> LicenseFile:
    """Parse, and check that the text comes back as it was."""
    license = parse_license(text)
    if isinstance(text, bytes):
        assert license_bytes(license) == text
    else:
        assert format_license(license) == text
    return license


def only_feature(line: str):
    """The one feature of a sound file with this line."""
    license = parse(SINGLE + line)
    assert not license.errors, license.errors
    (feature,) = license.features
    return feature


def codes(text: str | bytes) -> list[str]:
    return [problem.code for problem in parse(text).problems]


def test_the_seeds_example():
    license = parse(SEED)
    assert [(s.host, s.hostid, s.port) for s in license.servers] == [
        ("pat", "17003456", 2837),
        ("lee", "17004355", 2837),
        ("terry", "17007ea8", 2837),
    ]
    assert license.is_triad
    assert license.primary_is_master
    assert license.heartbeat_interval_s == 20
    assert [vendor.name for vendor in license.vendors] == ["demo"]
    for feature, name in zip(license.features, ("f1", "f2"), strict=True):
        assert (feature.keyword, feature.name, feature.vendor) == ("FEATURE", name, "demo")
        assert (feature.version, feature.count) == ("1.0", 10)
        assert feature.expiry == datetime.date(2018, 1, 1)
        assert feature.sign == "<...>"
    assert not license.errors
    curly = [problem for problem in license.problems if problem.code == "curly-quotes"]
    assert [(p.line, p.column) for p in curly] == [(5, 40), (6, 40)]


def test_crlf_bom_and_a_last_line_without_end():
    text = "\ufeff" + SEED.replace("\n", "\r\n") + "USE_SERVER"
    license = parse(text)
    assert len(license.servers) == 3
    assert license.use_server
    assert license.lines[0].text == "\ufeffSERVER pat 17003456 2837 PRIMARY_IS_MASTER\r\n"
    assert not license.errors


def test_latin_1_utf_8_and_utf_16_come_back_as_bytes():
    for encoding in ("latin-1", "utf-8", "utf-16"):
        text = SINGLE + 'FEATURE f demo 1.0 permanent 1 NOTICE="Übergrößen AG"\n'
        license = parse(text.encode(encoding))
        assert license.features[0].value("NOTICE") == "Übergrößen AG", encoding


def test_windows_curly_quotes_in_latin_1():
    license = parse((SINGLE + "FEATURE f demo 1 permanent 1 NOTICE=").encode() + b"\x93a b\x94\n")
    assert license.features[0].value("NOTICE") == "a b"


def test_a_lone_carriage_return_ends_a_line():
    assert len(parse(SEED.replace("\n", "\r")).features) == 2


@pytest.mark.parametrize(
    ("hostid", "shown"),
    [
        ("00146c37f273", "00146c37f273"),
        ("17003456", "17003456"),
        ("COMPOSITE=AB01AB01AB01", "COMPOSITE=ab01ab01ab01"),
        ("ANY", "ANY"),
        ("VDH=ab", "VDH=ab"),
        ("VDH1=ab=c", "VDH1=ab=c"),
        ("ID=77", "ID=77"),
        ("MATLAB_HOSTID=00:11:22:33:44:55", "MATLAB_HOSTID=00:11:22:33:44:55"),
        ("DISK_SERIAL_NUM=S2=R", "DISK_SERIAL_NUM=s2=r"),
        ('"0017f2d3a4b5 ID=77"', "0017f2d3a4b5 ID=77"),
    ],
)
def test_hostids_of_server_lines(hostid, shown):
    license = parse(f"SERVER this_host {hostid}\nVENDOR demo\n")
    assert not license.errors
    assert " ".join(map(str, license.servers[0].hostids)) == shown
    assert license.servers[0].port is None


def test_server_line_forms():
    license = parse("Server ANY ANY 27000\ndaemon lm_dgb\n")
    assert not license.errors
    assert license.servers[0].port == 27000
    assert license.vendors[0].name == "lm_dgb"


def test_heartbeat_interval_and_its_old_name():
    assert parse(SEED.replace("MASTER", "MASTER HEARTBEAT_INTERVAL=7")).heartbeat_interval_s == 7
    assert parse(SEED.replace("PRIMARY_IS_MASTER", "PLAT=7")).servers[0].attributes[0].key.upper() == "PLAT"
    old = parse(SEED.replace("PRIMARY_IS_MASTER", "SERVER_TIMEOUT=9"))
    assert old.heartbeat_interval_s == 9
    assert "server-timeout" in [problem.code for problem in old.problems]
    assert not old.primary_is_master


@pytest.mark.parametrize(
    ("line", "path", "options", "port"),
    [
        ("VENDOR demo", "", "", None),
        ("VENDOR demo /opt/demo", "/opt/demo", "", None),
        ("VENDOR demo /opt/demo /etc/demo.opt 4000", "/opt/demo", "/etc/demo.opt", 4000),
        ("VENDOR demo port=4000", "", "", 4000),
        ("DAEMON demo PORT=4000 OPTIONS=/etc/x", "", "/etc/x", 4000),
        ("VENDOR demo options= port=4000", "", "", 4000),
        (r"VENDOR demo C:\lic\demo.exe", r"C:\lic\demo.exe", "", None),
        (r'VENDOR demo "C:\Program Files\demo.exe" options="C:\a b.opt"',
         r"C:\Program Files\demo.exe", r"C:\a b.opt", None),
    ],
)  # fmt: skip
def test_vendor_lines(line, path, options, port):
    license = parse(f"SERVER pat ANY 2837\n{line}\n")
    (vendor,) = license.vendors
    assert (vendor.name, vendor.path, vendor.options, vendor.port) == ("demo", path, options, port)
    assert not license.problems


def test_a_windows_folder_at_the_end_of_a_line_swallows_nothing():
    license = parse("SERVER pat ANY 2837\nVENDOR demo C:\\lic\\\nFEATURE f demo 1.0 permanent 1\n")
    assert license.vendors[0].path == "C:\\lic\\"
    assert [feature.name for feature in license.features] == ["f"]
    assert [problem.code for problem in license.problems] == ["backslash-before-line"]


def test_continuations_with_blanks_comments_and_broken_quotes():
    feature = only_feature(
        'FEATURE f demo \\ \t\n  1.0 \\  # why not\n\tpermanent 5 NOTICE=" \\\n\tone  two \\\n\tthree " \\\n'
        '\tSIGN="0123 4567 \\\n\t89AB CDEF" # the end\n'
    )
    assert feature.version == "1.0"
    assert feature.value("NOTICE") == "one two three"
    assert feature.sign == "0123 4567 89AB CDEF"


def test_a_quote_that_goes_on_without_a_backslash():
    license = parse(
        SINGLE
        + 'FEATURE f demo 1.0 permanent 5 SIGN="0123\n\t4567"\nFEATURE g demo 1 permanent 1\n'
    )
    assert license.features[0].sign == "0123 4567"
    assert license.features[1].name == "g"
    assert [problem.code for problem in license.problems] == ["quote-without-backslash"]


def test_a_quote_that_is_never_closed_costs_one_line():
    license = parse(
        SINGLE + 'FEATURE f demo 1.0 permanent 5 SIGN="0123\nFEATURE g demo 1 permanent 1\n'
    )
    assert [feature.name for feature in license.features] == ["g"]
    (problem,) = license.problems
    assert (problem.severity, problem.code, problem.line) == (Severity.ERROR, "quote-not-closed", 3)


def test_a_straight_quote_closed_by_a_curly_one():
    assert only_feature('FEATURE f demo 1.0 permanent 5 SIGN="01 23”\n').sign == "01 23"


def test_comments_and_hash_signs_inside_values():
    feature = only_feature('FEATURE f demo 1.0 permanent 5 NOTICE="a # b" SN=#7 # SN=8\n')
    assert feature.value("NOTICE") == "a # b"
    assert feature.value("SN") == "#7"
    assert len(feature.attributes) == 2


@pytest.mark.parametrize("key", ["023E2CE466C7", "023E2CE466C7023E2CE4"])
def test_positional_keys_of_other_systems(key):
    feature = only_feature(
        f'FEATURE dTect demo 3.200 permanent uncounted {key} HOSTID="00146c37f273 00167600d558"\n'
    )
    assert feature.legacy_key == key
    assert feature.is_uncounted
    assert feature.hostid == "00146c37f273 00167600d558"
    assert only_feature(f"FEATURE f demo 1 permanent 2 \\\n\t{key}\n").legacy_key == key


def test_braces_of_other_systems():
    text = 'FEATURE f demo 1.0 permanent 5 AUTH={ v=( SIGN="00 11" ) x={ y } } SN=1\n'
    feature = only_feature(text)
    assert feature.value("AUTH") == '{ v=( SIGN="00 11" ) x={ y } }'
    assert feature.sign is None
    assert feature.value("SN") == "1"


def test_odd_values():
    feature = only_feature(
        "INCREMENT ARC/INFO demo 9999.9999 31-Dec-2030 3 VENDOR_STRING=<a>;b=c:*x dup_group=UH TS_OK "
        "SUPERSEDE USER_BASED=3 SN = 5 vendor_info=" + "ab" * 100 + "\n"
    )
    assert feature.vendor_string == "<a>;b=c:*x"
    assert feature.value("SN") == "5"
    assert feature.value("TS_OK") == ""
    assert feature.attribute("DUP_GROUP") is None
    assert feature.value("USER_BASED") == "3"


@pytest.mark.parametrize("name", ["64801INVPROSA_F", "10_100_mb_eth_mac", "a.b", "x-y", "ARC/INFO"])
def test_feature_names(name):
    assert only_feature(f"FEATURE {name} demo 2022.0630 permanent 1\n").name == name


@pytest.mark.parametrize(
    ("text", "expiry"),
    [
        ("1-jan-0", None),
        ("01-jan-0000", None),
        ("1-JAN-00", None),
        ("0000", None),
        ("Permanent", None),
        ("4-apr-2016", datetime.date(2016, 4, 4)),
        ("31-Dec-2022", datetime.date(2022, 12, 31)),
        ("29-FEB-2024", datetime.date(2024, 2, 29)),
    ],
)
def test_dates(text, expiry):
    feature = only_feature(f"FEATURE f demo 1.0 {text} 1 START=1-Mar-2015\n")
    assert feature.expiry == expiry
    assert feature.expiry_text == text
    assert feature.start == datetime.date(2015, 3, 1)


def test_last_day_and_first_day():
    feature = only_feature("FEATURE f demo 1.0 4-apr-2016 1 START=1-mar-2016\n")
    assert not feature.is_expired(datetime.date(2016, 4, 4))
    assert feature.is_expired(datetime.date(2016, 4, 5))
    assert feature.is_early(datetime.date(2016, 2, 29))
    assert not feature.is_early(datetime.date(2016, 3, 1))


def test_packages_before_and_after_their_feature_and_upgrades():
    components = " ".join(f"c{n}" for n in range(52))
    license = parse(
        SINGLE
        + f'PACKAGE suite demo 1.0 023E2CE466C7 COMPONENTS="{components}" OPTIONS=SUITE SUPERSEDE SIGN=1\n'
        + "INCREMENT suite demo 1.0 permanent 3\n"
        + 'PACKAGE kit demo COMPONENTS="a b:1.5 \\\n\tc:2.0:4"\n'
        + "UPGRADE suite demo 1.0 2.0 1-jan-2030 2\n"
    )
    assert not license.errors
    suite, kit = license.packages
    assert len(suite.components) == 52
    assert suite.is_suite
    assert suite.legacy_key == "023E2CE466C7"
    assert kit.components[1:] == (("b", "1.5", None), ("c", "2.0", 4))
    (upgrade,) = license.upgrades
    assert (upgrade.from_version, upgrade.version, upgrade.count) == ("1.0", "2.0", 2)
    assert [type(line) for line in license.lines if isinstance(line, PackageLine | UpgradeLine)]


def test_prose_is_ignored_and_near_misses_are_named():
    text = (
        "----- REMOVE LINES ABOVE HERE\nDear customer, this is it \\\n"
        + SINGLE
        + "FEATRUE f demo 1 permanent 1\n"
    )
    license = parse(text)
    assert len(license.servers) == 1
    (problem,) = license.problems
    assert (problem.code, problem.line) == ("look-alike", 5)
    assert "FEATURE" in problem.advice


def test_a_lost_continuation_is_noticed():
    assert codes(SINGLE + 'FEATURE f demo 1 permanent 1\n\tSIGN="00"\n') == ["lost-continuation"]


def test_files_without_servers_and_vendors():
    license = parse("FEATURE f demo 1.0 permanent uncounted HOSTID=ANY\n")
    assert not license.problems
    assert license.servers == ()
    assert not license.is_triad


# --- all problems together ----------------------------------------------------------------------------


def test_all_problems_of_a_line_and_of_a_file_at_once():
    license = parse(
        "SERVER pat 17003456 80 \nSERVER lee 17004355\n"
        "FEATURE f demo 1.x 31-feb-2020 5z SIGN=1\nFEATURE g demo\nUPGRADE h demo 2.0 1.0 permanent 1\n"
    )
    found = {(problem.line, problem.code) for problem in license.errors}
    assert found == {
        (2, "server-count"),
        (2, "vendor-missing"),
        (3, "bad-version"),
        (3, "bad-date"),
        (3, "bad-count"),
        (4, "missing-field"),
        (5, "upgrade-order"),
    }
    assert all(problem.advice and problem.column > 0 for problem in license.errors)
    assert not license.features


def test_line_and_column_point_at_the_word():
    (problem,) = parse(SINGLE + "FEATURE f demo 1.0 \\\n  99-jan-2020 5\n").problems
    assert (problem.line, problem.column) == (4, 3)
    assert str(problem).startswith("4:3: error: '99-jan-2020'")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("SERVER terry 17007ea8 2837\n", ""), "server-count"),
        (("VENDOR", "SERVER anne 1 2837\nVENDOR"), "server-count"),
        (("lee 17004355 2837", "lee 17004355"), "port-missing"),
        (("lee 17004355 2837", "lee 17004355 1023"), "port-range"),
        (("lee 17004355 2837", "lee 17004355 64001"), "port-range"),
        (("lee 17004355 2837", "lee 17004355 2837 PRIMARY_IS_MASTER"), "not-first-server"),
        (("lee 17004355 2837", "lee 17004355 2837 HEARTBEAT_INTERVAL=5"), "not-first-server"),
        (("_MASTER", "_MASTER HEARTBEAT_INTERVAL=121"), "interval-range"),
        (("_MASTER", "_MASTER HEARTBEAT_INTERVAL=soon"), "bad-interval"),
        (("_MASTER", "_MASTER HEARTBEAT_INTERVAL=-1"), "bad-interval"),
        (("VENDOR demo", "VENDOR demo\nVENDOR other"), "vendor-count"),
        (("VENDOR demo", "VENDOR demo\nVENDOR demo"), "vendor-twice"),
        (("VENDOR demo\n", ""), "vendor-missing"),
        (("VENDOR demo\n", "VENDOR\n"), "vendor-name"),
        (("VENDOR demo\n", "VENDOR de/mo\n"), "vendor-name"),
        (("FEATURE f2 demo", "FEATURE f2 other"), "vendor-unknown"),
        (("SERVER lee", "SERVER pat"), "same-address"),
        (("SERVER lee 17004355 2837", "SERVER lee"), "server-short"),
        (("1-jan-2018 10 SIGN", "1-jan-2018 10 FULFILLMENT_ID=1 SIGN"), "trusted-storage"),
    ],
)  # fmt: skip
def test_what_a_triad_is_refused_for(change, code):
    old, new = change
    license = parse(SEED.replace(old, new, 1))
    assert code in [problem.code for problem in license.fatal_problems]
    assert all(problem.advice and problem.line > 0 for problem in license.fatal_problems)
    assert len(license.errors) == 1  # no error that only follows from another


@pytest.mark.parametrize("interval", [0, 1, 120])
def test_intervals_that_are_legal(interval):
    license = parse(SEED.replace("_MASTER", f"_MASTER HEARTBEAT_INTERVAL={interval}"))
    assert not license.errors
    assert license.heartbeat_interval_s == interval


@pytest.mark.parametrize(
    ("port", "legal"), [(0, False), (1, True), (80, True), (65535, True), (65536, False)]
)
def test_ports_of_a_single_server(port, legal):
    license = parse(f"SERVER pat 17003456 {port}\nVENDOR demo\n")
    assert (not license.errors) == legal


def test_reasons_for_two_and_four_servers_and_trusted_storage():
    two = parse(SEED.replace("SERVER terry 17007ea8 2837\n", ""))
    assert any("majority" in problem.message for problem in two.errors)
    four = parse(SEED.replace("VENDOR", "SERVER anne 1 2837\nVENDOR"))
    assert any("exactly three" in problem.message for problem in four.errors)
    xml = parse('<TrustedStorage version="1">\n</TrustedStorage>\n')
    assert [problem.code for problem in xml.fatal_problems] == ["trusted-storage"]
    assert "licence files only" in xml.fatal_problems[0].message


def test_counted_features_need_a_server():
    assert "counted-without-server" in codes("FEATURE f demo 1.0 permanent 5\n")


def test_a_bad_node_lock_does_not_float():
    for lock in ('HOSTID=""', "HOSTID", "HOSTID=INTERNET=1.2"):
        license = parse(SINGLE + f"FEATURE f demo 1.0 permanent 5 {lock}\n")
        assert not license.features, lock
        assert license.errors


# --- limits -------------------------------------------------------------------------------------------


def test_limits():
    with pytest.raises(LicenseTooLarge):
        parse_license("#" * (LICENSE_SIZE_MAX + 1))
    assert issubclass(LicenseTooLarge, LicenseError)
    assert "statement-too-long" in codes(
        SINGLE + "FEATURE f demo 1.0 permanent 1 SN=" + "1" * STATEMENT_SIZE_MAX
    )
    assert "statement-too-long" in codes(
        SINGLE + "FEATURE f demo \\\n" * 1 + "1 \\\n" * STATEMENT_SIZE_MAX
    )
    many = " ".join(f"K{n}=1" for n in range(ATTRIBUTES_MAX + 1))
    assert "too-many-attributes" in codes(SINGLE + f"FEATURE f demo 1.0 permanent 1 {many}\n")
    assert len(parse("FEATURE x\n" * (PROBLEMS_MAX + 50)).problems) <= PROBLEMS_MAX + 10


def test_hostile_lines_take_linear_time():
    # Each of these was, or could have been, quadratic; the suite's time limit is the judge.
    for word in ('="', 'a="', '"a" =', "={", "#", '"', "”"):
        parse(SINGLE + "FEATURE f demo 1 permanent 1 " + word * (STATEMENT_SIZE_MAX // 8) + "\n")
    parse('FEATURE f demo 1 permanent 1 X="\n' * 20_000)
    parse("FEATRUE a b c\n" * 20_000)


def test_vendor_lines_are_values():
    assert isinstance(parse(SEED).lines[3], VendorLine)
