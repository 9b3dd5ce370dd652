"""The ``flexcore`` command and its sub-commands that deal with files: what they print, and never a traceback."""

from __future__ import annotations

import importlib.metadata
import os
import stat
import subprocess
import sys
import types

import pytest

import flexcore
from flexcore import LicenseError, VerifyingKey, parse_license
from flexcore_tools import cli

NEW = [
    *("new", "demo", "--server", "127.0.0.1 ID=101 2837", "--server", "127.0.0.2 ID=102 2837"),
    *("--server", "127.0.0.3 ID=103 2837", "--feature", "f1 1.0 31-dec-2030 10"),
    *("--feature", "f2 2.5 permanent 3", "-o", "demo.lic"),
]


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run a sub-command in an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        status = cli.main(words)
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    return call


@pytest.fixture
def signed(run):
    """A folder with demo.key, demo.pub and a signed demo.lic; gives its text."""
    for words in (["keygen", "demo"], NEW, ["sign", "demo.lic", "--key", "demo.key"]):
        assert run(*words)[0] == 0
    return read("demo.lic")


def read(path: str) -> str:
    with open(path, newline="", encoding="utf-8") as file:
        return file.read()


def write(path: str, text: str) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.write(text)


# --- the dispatcher -----------------------------------------------------------------------------------


def test_version_and_overview(run):
    assert run("--version") == (0, f"flexcore {flexcore.__version__}\n", "")
    assert flexcore.__version__ == importlib.metadata.version("flexcore")
    status, out, _ = run("--help")
    assert status == 0
    for name in cli.COMMANDS:
        assert f"\n  {name}" in out
    assert run()[0] == 2


def test_an_unknown_command_suggests_another(run):
    status, out, err = run("lmstst")
    assert (status, out) == (2, "")
    assert "lmstat" in err
    assert "flexcore --help" in run("zzzzzz")[2]


@pytest.mark.parametrize("name", ["keygen", "new", "sign", "verify", "lint", "lmhostid"])
def test_every_command_has_help(run, name):
    status, out, err = run(name, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: flexcore {name}")


def test_usage_errors_go_to_stderr_but_those_of_lm_utilities_to_stdout(run):
    status, out, err = run("sign")
    assert (status, out) == (2, "")
    assert "FILE" in err
    status, out, err = run("lmhostid", "--nonsense")
    assert (status, err) == (2, "")
    assert "--nonsense" in out


def fake(monkeypatch, error: BaseException, name: str = "lint"):
    def fail(args):
        raise error

    module = types.SimpleNamespace(HELP="", add_arguments=lambda parser: None, run=fail)
    monkeypatch.setitem(sys.modules, f"flexcore_tools.{name}", module)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (flexcore.CheckoutDenied(-4), 252, "Licensed number of users already reached. (-4,342)"),
        (flexcore.NoServerReachable(), 241, "Cannot connect"),
        (flexcore.NoQuorum(), 159, "(-97,121)"),
        (LicenseError("the file is wrong"), 254, "the file is wrong"),
        (FileNotFoundError(2, "No such file or directory", "a.lic"), 1, "a.lic: No such file"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("x"), 70, "internal error: ZeroDivisionError"),
        (ExceptionGroup("tasks", [flexcore.NoQuorum()]), 159, "(-97,121)"),
        (SystemExit(3), 3, ""),
        (SystemExit("no"), 1, "flexcore lint: no"),
        (ModuleNotFoundError("no trio", name="trio"), 1, "flexcore[trio]"),
    ],
)
def test_errors_are_a_line_and_a_status(run, monkeypatch, error, status, words):
    fake(monkeypatch, error)
    found, out, err = run("lint")
    assert (found, out) == (status, "")
    assert words in err
    assert err.count("\n") <= 1


def test_lm_utilities_write_errors_to_stdout(run, monkeypatch):
    fake(monkeypatch, flexcore.NoServerReachable(), "lmhostid")
    status, out, err = run("lmhostid")
    assert (status, err) == (241, "")
    assert "Cannot connect" in out


def test_details_of_a_bug_on_demand(run, monkeypatch, capfd):
    fake(monkeypatch, ZeroDivisionError("x"))
    monkeypatch.setenv("FLEXCORE_DEBUG", "1")
    assert cli.main(["lint"]) == 70
    assert "Traceback" in capfd.readouterr().err


def test_only_the_chosen_command_is_loaded():
    code = "import sys; from flexcore_tools import cli; cli.main(['--version']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert not loaded & {
        "argparse",
        "attrs",
        "cryptography",
        "trio",
        "flexcore_tools.lint",
        "flexcore.errors",
    }


def test_a_closed_stdout_or_stderr_is_no_bug(signed, tmp_path):
    write("bad.lic", "FEATURE x\n")
    for words, status in (
        ("lint bad.lic", 1),
        ("lint --help", 0),
        ("--help", 0),
        ("lint no.lic", 1),
    ):
        command = f"exec {sys.executable} -m flexcore_tools {words}"
        for closed in (">&-", "2>&-", ">&- 2>&-"):
            done = subprocess.run(
                ["sh", "-c", f"{command} {closed}"], capture_output=True, text=True, cwd=tmp_path
            )
            assert done.returncode == status, (words, closed, done.stderr)
            assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_told(signed, tmp_path):
    for words, error in (("lint demo.lic", "No space left"), ("--help", "No space left"),
                         ("lmhostid ether", "")):  # fmt: skip
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "flexcore_tools", *words.split()],
                stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            )  # fmt: skip
        assert done.returncode == 1
        assert error in done.stderr
        assert done.stderr.count("\n") == bool(error)


def test_a_reader_that_goes_away_is_no_error(signed, tmp_path):
    write("demo.lic", "FEATURE x\n" * 900)
    command = [sys.executable, "-m", "flexcore_tools", "lint", "demo.lic"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(30) == 141
    process.stderr.close()


def test_a_reader_that_goes_away_may_do_so_during_help(tmp_path):
    for words in (["--help"], ["lint", "--help"]):
        command = [sys.executable, "-m", "flexcore_tools", *words]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
        )
        assert process.stdout is not None
        process.stdout.close()
        with process:
            assert process.stderr is not None
            assert process.stderr.read() == b""
        assert process.returncode == 141


# --- keygen -------------------------------------------------------------------------------------------


def test_keygen(run, tmp_path):
    status, out, err = run("keygen", "demo")
    assert (status, err) == (0, "")
    assert "demo.key" in out
    assert sorted(os.listdir(tmp_path)) == ["demo.key", "demo.pub"]
    assert stat.S_IMODE(os.stat("demo.key").st_mode) == 0o600
    public = read("demo.pub")
    assert public.count("\n") == 1
    assert VerifyingKey.from_text(public).vendor == "demo"
    assert read("demo.key").split()[3] not in out


def test_keygen_never_overwrites(run, tmp_path):
    run("keygen", "demo")
    before = read("demo.key"), read("demo.pub")
    assert run("keygen", "demo")[0] == 1
    os.unlink("demo.key")
    status, _, err = run("keygen", "demo")  # the public one alone is in the way, too
    assert status == 1
    assert "demo.pub is there already" in err
    assert not os.path.exists("demo.key")
    assert read("demo.pub") == before[1]


def test_keygen_out_dir_and_bad_names(run, tmp_path):
    (tmp_path / "keys").mkdir()
    assert run("keygen", "acme", "--out-dir", "keys")[0] == 0
    assert sorted(os.listdir("keys")) == ["acme.key", "acme.pub"]
    assert run("keygen", "acme", "--out-dir", "gone")[0] == 1
    status, _, err = run("keygen", "../evil")
    assert status != 0
    assert "no vendor name" in err


# --- new, sign, verify, lint --------------------------------------------------------------------------


def test_new_makes_what_was_asked_for(run):
    assert run(*NEW) == (0, "demo.lic: 2 feature lines, not signed yet (flexcore sign)\n", "")
    assert read("demo.lic") == (
        "SERVER 127.0.0.1 ID=101 2837\nSERVER 127.0.0.2 ID=102 2837\nSERVER 127.0.0.3 ID=103 2837\nVENDOR demo\n"
        "FEATURE f1 demo 1.0 31-dec-2030 10\nFEATURE f2 demo 2.5 permanent 3\n"
    )


def test_new_with_keywords_to_stdout(run):
    words = [
        "new",
        "demo",
        "--server",
        "pat ANY 2837",
        "--feature",
        'a 1.0 permanent 1 NOTICE="x y"',
    ]
    status, out, _ = run(
        *words, "--feature", "a 1.0 permanent 2", "--primary-is-master", "--heartbeat-interval", "5"
    )
    assert status == 0
    license = parse_license(out)
    assert license.primary_is_master
    assert license.heartbeat_interval_s == 5
    assert [line.keyword for line in license.features] == ["FEATURE", "INCREMENT"]
    assert license.features[0].value("NOTICE") == "x y"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            [
                "new",
                "demo",
                "--server",
                "a ANY 2837",
                "--server",
                "b ANY 2837",
                "--feature",
                "f 1 permanent 1",
            ],
            "majority",
        ),
        (["new", "demo", "--server", "a ANY 2837", "--feature", "f 1.x permanent 1"], "no version"),
        (["new", "demo", "--server", "a ANY 2837", "--feature", "f 1.0"], "missing"),
        (["new", "demo", "--feature", "f 1.0 permanent 1"], "no SERVER line"),
        (["new", "de/mo", "--feature", "f 1.0 permanent uncounted HOSTID=ANY"], "no vendor name"),
        (
            ["new", "demo", "--server", "a ANY 1\nVENDOR x", "--feature", "f 1 permanent 1"],
            "one line",
        ),
        (["new", "demo", "--primary-is-master", "--feature", "f 1 permanent 1"], "--server"),
    ],
)
def test_new_refuses_what_lint_would(run, words, said):
    status, out, err = run(*words, "-o", "out.lic")
    assert status != 0
    assert out == ""
    assert said in err
    assert not os.path.exists("out.lic")


def test_sign_verify_lint(run, signed):
    status, out, err = run("verify", "demo.lic", "--key", "demo.pub")
    assert (status, err) == (0, "")
    assert out == "demo.lic:5: FEATURE f1 1.0: valid\ndemo.lic:6: FEATURE f2 2.5: valid\n"
    assert run("lint", "demo.lic") == (0, "demo.lic: 0 errors, 0 warnings, 0 to know\n", "")
    assert all(len(line.split()) > 8 for line in signed.splitlines()[4:])
    assert run("sign", "demo.lic", "--key", "demo.key")[0] == 0
    assert read("demo.lic") == signed


def test_sign_elsewhere_and_wrapped(run, signed):
    assert run("sign", "demo.lic", "--key", "demo.key", "-o", "wrapped.lic", "--wrap")[0] == 0
    assert read("demo.lic") == signed
    assert max(map(len, read("wrapped.lic").splitlines())) <= 80
    assert run("verify", "wrapped.lic", "--key", "demo.pub")[0] == 0
    status, out, _ = run("sign", "wrapped.lic", "--key", "demo.key", "-o", "-")
    assert (status, out) == (0, signed)


def test_files_keep_their_mode_and_links_stay_links(run, signed):
    os.chmod("demo.lic", 0o640)
    os.symlink("demo.lic", "link.lic")
    assert run("sign", "link.lic", "--key", "demo.key")[0] == 0
    assert os.path.islink("link.lic")
    assert stat.S_IMODE(os.stat("demo.lic").st_mode) == 0o640
    assert sorted(os.listdir()) == ["demo.key", "demo.lic", "demo.pub", "link.lic"]


def test_what_an_administrator_may_change_verifies(run, signed):
    changed = signed.replace("127.0.0.2 ID=102 2837", "lee ID=102 3000").replace(
        "ID=101 2837", "ID=101 2837 PRIMARY_IS_MASTER HEARTBEAT_INTERVAL=5"
    )
    write("demo.lic", changed)
    assert run("verify", "demo.lic", "--key", "demo.pub")[0] == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("31-dec-2030 10", "31-dec-2030 1000", "count 1000 is not what was signed"),
        ("31-dec-2030 10", "31-dec-2031 10", "expiry 31-dec-2031"),
        ("f1 demo 1.0", "f1 demo 9.0", "version 9.0"),
        (
            "ID=103",
            "ID=999",
            "signed for other servers: it was not signed for hostid ID=999 of SERVER line 3",
        ),
        ("3 SIGN", "3 OVERDRAFT=5 SIGN", "keyword OVERDRAFT was added"),
    ],
)
def test_a_change_is_refused_with_line_and_difference(run, signed, old, new, said):
    assert old in signed
    write("demo.lic", signed.replace(old, new))
    status, out, err = run("verify", "demo.lic", "--key", "demo.pub")
    assert (status, err) == (1, "")
    (line,) = [line for line in out.splitlines() if said in line][:1]
    assert line.startswith(("demo.lic:5:", "demo.lic:6:"))


def test_verify_with_other_keys_and_without_lines(run, signed):
    run("keygen", "acme")
    status, out, _ = run("verify", "demo.lic", "--key", "acme.pub")
    assert status == 1
    assert out.count("no key of vendor demo") == 2
    assert run("verify", "demo.lic", "--key", "acme.pub", "--key", "demo.pub")[0] == 0
    write("empty.lic", "# nothing\n")
    assert run("verify", "empty.lic", "--key", "demo.pub")[0] == 1


def test_clear_errors(run, signed):
    for words, said in [
        (["verify", "gone.lic", "--key", "demo.pub"], "gone.lic: No such file"),
        (["verify", "demo.lic", "--key", "demo.key"], "this is a secret key"),
        (["verify", "demo.lic", "--key", "demo.lic"], "a key is one line"),
        (["verify", ".", "--key", "demo.pub"], "Is a directory"),
        (["sign", "demo.lic", "--key", "demo.pub"], "this is a public key"),
        (["lint", "gone.lic"], "gone.lic: No such file"),
        (["sign", "demo.lic", "--key", "demo.key", "-o", "gone/x.lic"], "gone/x.lic: No such file"),
    ]:
        status, out, err = run(*words)
        assert status != 0, words
        assert said in err, words
        assert out == ""


def test_a_file_with_errors_is_not_signed(run, signed):
    write(
        "bad.lic",
        "SERVER pat 1 2837\nSERVER lee 2 2837\nVENDOR demo\nFEATURE f1 demo 1.0 permanent 1\n",
    )
    status, _, err = run("sign", "bad.lic", "--key", "demo.key")
    assert status != 0
    assert "bad.lic:2:1: error: 2 SERVER lines" in err
    twice = "SERVER pat ANY 2837\nVENDOR demo\n" + "INCREMENT f1 demo 1.0 permanent 1\n" * 2
    write("bad.lic", twice)
    status, _, err = run("sign", "bad.lic", "--key", "demo.key")
    assert status != 0
    assert "lines 3 and 4 say the same" in err
    assert read("bad.lic") == twice


def test_lint_prints_places_and_exits_1_on_an_error(run):
    write(
        "bad.lic",
        "SERVER pat 1 2837\nVENDOR demo\nFEATURE f1 demo 1.x permanent 1\nFEATURE f2 demo 1 permanent 1 x=1\n",
    )
    status, out, err = run("lint", "bad.lic")
    assert (status, err) == (1, "")
    assert "bad.lic:3:17: error: '1.x'" in out
    assert "bad.lic:4:31: warning: x in lower case" in out
    assert out.endswith("bad.lic: 1 error, 1 warning, 1 to know\n")
    write("bad.lic", "SERVER pat ANY 2837\nVENDOR demo\nFEATURE f2 demo 1 permanent 1 x=1\n")
    assert run("lint", "bad.lic")[0] == 0


def test_standard_input(signed, tmp_path):
    def pipe(*words: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "flexcore_tools", *words]
        return subprocess.run(
            command, input=signed.encode(), capture_output=True, cwd=tmp_path, check=False
        )

    assert pipe("verify", "-", "--key", "demo.pub").returncode == 0
    assert pipe("sign", "-", "--key", "demo.key").stdout == signed.encode()
    assert pipe("lint", "-").stdout == b"<stdin>: 0 errors, 0 warnings, 0 to know\n"


def test_names_that_the_terminal_cannot_show(signed, tmp_path):
    write("odd.lic", "SERVER pat ANY 2837\nVENDOR demo\nFEATURE größe demo 1.0 permanent 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "flexcore_tools", "verify", "odd.lic", "--key", "demo.pub"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == ""
    assert "gr\\xf6\\xdfe" in done.stdout


# --- lmhostid -----------------------------------------------------------------------------------------


def test_lmhostid(run):
    status, out, _ = run("lmhostid", "hostname")
    assert status == 0
    assert out.startswith('The flexcore host ID of this machine is "HOSTNAME=')
    for words in (["-n", "-hostname"], ["hostname", "-n"], ["-hostname", "-n"]):
        assert f'"{run("lmhostid", *words)[1].strip()}"' in out
    status, out, err = run("lmhostid", "flexid")
    assert (status, err) == (247, "")
    assert "dongle" in out
    assert run("lmhostid", "nose")[0] == 1


def test_lmhostid_prints_a_list_fit_for_a_license_line(run, monkeypatch):
    from flexcore.hostid import Hostid
    from flexcore_host import hostids

    two = [Hostid("ETHERNET", "0017f2d3a4b5"), Hostid("ETHERNET", "0017f2d3a4b6")]
    monkeypatch.setitem(hostids.TYPES, "ether", lambda: two)
    _, out, _ = run("lmhostid", "-n")
    assert out == '"0017f2d3a4b5 0017f2d3a4b6"\n'
    license = parse_license(f"SERVER pat {out.strip()} 2837\nVENDOR demo\n")
    assert license.servers[0].hostids == tuple(two)
    assert "Only use ONE" in run("lmhostid")[1]
