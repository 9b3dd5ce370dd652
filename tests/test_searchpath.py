"""The licence search path: triads, alternatives, files, the environment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexcore import SearchPathError, parse_search_path, path_from_environment, resolve
from flexcore.searchpath import ALTERNATIVES_MAX, AnyPort, LicensePath, Servers
from flexcore.wire.messages import ServerAddress

TRIAD = "2837@pat,2837@lee,2837@terry"
FILE = """\
SERVER pat 17003456 2837 PRIMARY_IS_MASTER
SERVER lee 17004355 2837
SERVER terry 17007ea8 2837
VENDOR demo
"""


def kinds(text: str) -> list[str]:
    return [f"{type(each).__name__} {each}" for each in parse_search_path(text).alternatives]


def test_the_seeds_path_is_one_triad():
    (triad,) = parse_search_path(TRIAD).alternatives
    assert triad == Servers(tuple(ServerAddress(host, 2837) for host in ("pat", "lee", "terry")))
    assert str(triad) == TRIAD


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2837@pat", ["Servers 2837@pat"]),
        ("2837@pat:2838@lee", ["Servers 2837@pat", "Servers 2838@lee"]),
        ("2837@pat;2838@lee", ["Servers 2837@pat", "Servers 2838@lee"]),
        ("2837@pat&2838@lee", ["Servers 2837@pat", "Servers 2838@lee"]),
        (f"{TRIAD}:@spare:/opt/a.lic", [f"Servers {TRIAD}", "AnyPort @spare", "LicensePath /opt/a.lic"]),
        (" 2837@pat , 2837@lee ", ["Servers 2837@pat,2837@lee"]),
        ("::2837@pat:", ["Servers 2837@pat"]),
        ("2837@[::1]:2838@[2001:db8::2]", ["Servers 2837@[::1]", "Servers 2838@[2001:db8::2]"]),
        ("@[::1]", ["AnyPort @[::1]"]),
        (r"C:\lic\a.lic;d:/b.lic:2837@pat",
         [r"LicensePath C:\lic\a.lic", "LicensePath d:/b.lic", "Servers 2837@pat"]),
        (r"2837@pat:C:\a.lic", ["Servers 2837@pat", r"LicensePath C:\a.lic"]),
        ("/opt/a,b.lic", ["LicensePath /opt/a,b.lic"]),
        ("2837@pat,2837@pat", ["Servers 2837@pat"]),
    ],
)  # fmt: skip
def test_alternatives(text, expected):
    assert kinds(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" : ", "empty"),
        ("2837", "port@host"),
        ("0@pat", "no port"),
        ("65536@pat", "no port"),
        ("123456@pat", "no port"),
        ("2837@", "no host"),
        ("2837@a b", "no host"),
        ("2837@::1", "brackets"),
        ("2837@pat,@lee", "port@host"),
        ("2837@pat,,2837@lee", "a comma too many"),
        ("2837@pat,lee", "port@host"),
        ("1@a,2@b,3@c,4@d", "one triad"),
        (":".join(f"{n}@a" for n in range(1, ALTERNATIVES_MAX + 2)), "more than"),
        ("x" * 70000, "more than"),
    ],
)
def test_what_is_refused_and_why(text, words):
    with pytest.raises(SearchPathError, match=words):
        parse_search_path(text)


def test_separators_can_be_chosen():
    assert [str(each) for each in parse_search_path("/a;b&c:/d", separators=":").alternatives] == [
        "/a;b&c",
        "/d",
    ]


@given(st.one_of(st.text(max_size=60), st.text("12@[]:;&,abC\\/ ", max_size=40)))
def test_any_text_is_a_path_or_refused(text):
    try:
        path = parse_search_path(text)
    except SearchPathError:
        return
    again = (
        parse_search_path(str(path))
        if not any(isinstance(a, LicensePath) for a in path.alternatives)
        else path
    )
    assert again == path


# --- the environment ----------------------------------------------------------------------------------


def test_the_vendors_variable_comes_first():
    environment = {
        "LM_LICENSE_FILE": "1@lm",
        "DEMO_LICENSE_FILE": "2@demo",
        "ACME_LICENSE_FILE": "3@acme",
    }
    assert path_from_environment(environment, "demo") == "2@demo:1@lm"
    assert path_from_environment(environment, "other") == "1@lm"
    assert path_from_environment(environment) == "1@lm:3@acme:2@demo"
    assert path_from_environment(environment, "demo", separator=";") == "2@demo;1@lm"
    assert path_from_environment({}, "demo") == ""
    assert path_from_environment({"LM_LICENSE_FILE": " ", "PATH": "/bin"}, "demo") == ""


# --- files --------------------------------------------------------------------------------------------


def reader(files: dict[str, str]):
    def read(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return files[path]

    return read


def addresses(text: str, files: dict[str, str], *, triad_files: bool = False) -> list[str]:
    found = resolve(parse_search_path(text), reader(files), triad_files=triad_files)
    return [",".join(f"{a.port}@{a.host}" for a in alternative) for alternative in found]


def test_a_triads_file_is_refused_with_the_line_to_use_instead():
    with pytest.raises(SearchPathError, match=f"Use instead: {TRIAD}"):
        addresses("demo.lic", {"demo.lic": FILE})
    assert addresses("demo.lic", {"demo.lic": FILE}, triad_files=True) == [TRIAD]


def test_a_single_servers_file():
    files = {
        "a": "SERVER pat ANY 2837\nVENDOR demo\n",
        "b": "SERVER this_host ANY 3000\nVENDOR demo\nUSE_SERVER\n",
        "c": "SERVER lee ANY\nVENDOR demo\n",
    }
    assert addresses("a:b", files) == ["2837@pat", "3000@localhost"]
    assert addresses("c", files) == [f"{port}@lee" for port in range(27000, 27010)]
    assert addresses("@lee", files) == addresses("c", files)


def test_files_that_name_no_servers():
    with pytest.raises(SearchPathError, match="no SERVER line"):
        addresses("a", {"a": "FEATURE f demo 1 permanent uncounted HOSTID=ANY\n"})
    with pytest.raises(SearchPathError, match="majority"):
        addresses("a", {"a": FILE.replace("SERVER lee 17004355 2837\n", "")}, triad_files=True)
    with pytest.raises(SearchPathError, match="port"):
        addresses("a", {"a": FILE.replace("17004355 2837", "17004355")}, triad_files=True)


def test_a_missing_file_matters_only_alone():
    assert addresses("gone:2837@pat", {}) == ["2837@pat"]
    with pytest.raises(SearchPathError, match="gone: No such file"):
        addresses("gone", {})


def test_the_same_server_is_asked_once():
    assert addresses("2837@pat:a:2837@pat", {"a": "SERVER pat ANY 2837\nVENDOR demo\n"}) == [
        "2837@pat"
    ]


def test_kinds_of_values():
    assert parse_search_path("@a").alternatives == (AnyPort("a"),)
    assert parse_search_path("/a").alternatives == (LicensePath("/a"),)
