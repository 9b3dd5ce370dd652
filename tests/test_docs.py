"""The documents are true: every command in them is run, in order, and says what the document says that it says.

Before a block stands a comment that tells what to do with it::

    .. run                          a console block: the lines after ``$`` are run by one shell, in a folder of the
                                    document's own; the lines below each are what it prints
    .. run: needs matplotlib        the same where that package is installed; an extra that not every environment has
    .. run hidden                   the same, but the comment's own body: set-up that would bore a reader
    .. file: product.py             the block is the text of that file
    .. not run: needs systemd       a reason why not

A console or code block without such a comment is an error, so that nobody forgets. In the expected lines ``...`` stands
for anything within a line, and a line that is only ``...`` for any number of lines. A command must end with status 0,
unless the next command is ``echo $?``. A command that prints must show what it prints, and the other way round, but for
one that goes to the background.

The shell sees another port and another host name than the reader: port 2837 is whichever is free, and this machine's
name reads ``desk1``. The user is ``alice``.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import importlib.util
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import flexcore
from flexcore_tools import cli
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.rst", *(ROOT / "docs").glob("*.rst")])
DOCUMENTED_PORT = "2837"
DOCUMENTED_HOST = "desk1"
LANGUAGES_THAT_RUN = {"console", "shell", "sh", "bash", "python"}  # pycon: by doctest
COMMAND_TIMEOUT_S = 90.0

MARK = re.compile(r"^\.\. (?P<kind>run hidden|run|file|not run)(?::\s*(?P<word>.*))?$")
BLOCK = re.compile(r"^\.\. code-block::\s*(?P<language>\S*)\s*$")


class Block(NamedTuple):
    """A block of a document and what its comment says to do with it."""

    line: int
    kind: str
    word: str
    language: str
    body: tuple[str, ...]


class Step(NamedTuple):
    """A command and the lines that it shall print."""

    line: int
    command: str
    expected: tuple[str, ...]


# --- reading -----------------------------------------------------------------------------------------------------


def indented(lines: list[str], start: int) -> tuple[list[str], int]:
    """The indented (or empty) lines from *start* on, dedented, and the index of the first after them."""
    end = start
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
        end += 1
    body = lines[start:end]
    while body and not body[-1].strip():
        body.pop()
    margin = min((len(line) - len(line.lstrip()) for line in body if line.strip()), default=0)
    return [line[margin:] for line in body], end


def blocks_of(text: str) -> Iterator[Block]:
    """Every marked block of *text*, and every unmarked one that should be (kind ``unmarked``)."""
    lines = text.splitlines()
    marked: tuple[int, str, str] | None = None
    at = 0
    while at < len(lines):
        mark, block = MARK.match(lines[at]), BLOCK.match(lines[at])
        if mark and mark["kind"] == "run hidden":
            body, after = indented(lines, at + 1)
            first = next((number for number, line in enumerate(body) if line.strip()), len(body))
            yield Block(at + 2 + first, "run", "", "console", tuple(body[first:]))
            at = after
            continue
        if mark:
            if marked:
                raise ValueError(f"line {marked[0] + 1}: no block follows this comment")
            marked = (at, mark["kind"], mark["word"] or "")
        elif block:
            body, after = indented(lines, at + 1)
            while body and re.match(r"^:[a-z-]+:", body[0]):
                body.pop(0)
            first = next((number for number, line in enumerate(body) if line.strip()), len(body))
            kind, word = (marked[1], marked[2]) if marked else ("unmarked", "")
            if marked or block["language"] in LANGUAGES_THAT_RUN:
                yield Block(at + 2 + first, kind, word, block["language"], tuple(body[first:]))
            marked = None
            at = after
            continue
        elif lines[at].strip() and marked:
            raise ValueError(f"line {marked[0] + 1}: no block follows this comment")
        at += 1
    if marked:
        raise ValueError(f"line {marked[0] + 1}: no block follows this comment")


def steps_of(block: Block) -> list[Step]:
    """The commands of a console block, each with what it prints."""
    steps: list[Step] = []
    for offset, line in enumerate(block.body):
        if line.startswith("$ "):
            steps.append(Step(block.line + offset, line[2:], ()))
        elif not steps:
            raise ValueError(f"line {block.line + offset}: output before the first command")
        elif steps[-1].command.endswith("\\") and not steps[-1].expected:
            steps[-1] = steps[-1]._replace(command=f"{steps[-1].command}\n{line}")
        elif (line.startswith("> ") or line == ">") and not steps[-1].expected:
            steps[-1] = steps[-1]._replace(command=f"{steps[-1].command}\n{line[2:]}")
        else:
            steps[-1] = steps[-1]._replace(expected=(*steps[-1].expected, line))
    return steps


def unmarked_commands(text: str) -> list[str]:
    """Indented lines that look like a command of ours and stand in no marked block: nobody would run them."""
    lines = text.splitlines()
    known: set[int] = set()
    for block in blocks_of(text):
        known.update(range(block.line, block.line + len(block.body)))
    looks = re.compile(rf"^\s+(\$ )?flexcore ({'|'.join(cli.COMMANDS)})\b")
    return [f"line {at}: {line.strip()}" for at, line in enumerate(lines, 1) if looks.match(line) and at not in known]


def matches(expected: tuple[str, ...], printed: str) -> bool:
    """Whether *printed* is what the document says; see the head of this file for ``...``."""
    pattern = ""
    for line in expected:
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += ".*".join(re.escape(part) for part in line.rstrip().split("...")) + r"[ \t]*\n"
    text = "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())
    while pattern.endswith(r"[ \t]*\n[ \t]*\n"):
        pattern = pattern.removesuffix(r"[ \t]*\n")
    return re.fullmatch(pattern, text) is not None


# --- running -----------------------------------------------------------------------------------------------------


class Shell:
    """One bash in a folder of its own, with a free port in the place of the documented one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.host = socket.gethostname().split(".")[0]
        self.status = 0
        (folder / "home").mkdir(parents=True)
        environment = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "HOME": str(folder / "home"),
            "LOGNAME": "alice",
            "USER": "alice",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
        }
        (folder / "work").mkdir()
        with (folder / "shell-errors").open("wb") as own_words:  # of jobs that ended
            self.bash = subprocess.Popen(
                ["bash", "--norc", "--noprofile"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=own_words,
                cwd=folder / "work",
                env=environment,
                start_new_session=True,
            )

    def run(self, command: str, number: int) -> tuple[int, str]:
        """Status and output (both streams, as a reader sees them) of *command*."""
        assert self.bash.stdin is not None
        printed = self.folder / f"printed-{number}"
        script = self.to_machine(command)
        self.bash.stdin.write(
            f"(exit {self.status})\n{{ {script}\n}} </dev/null >{printed} 2>&1\necho done $?\n".encode()
        )
        self.bash.stdin.flush()
        self.status = self._wait(command, printed)
        return self.status, self.to_reader(printed.read_text(encoding="utf-8", errors="replace"))

    def _wait(self, command: str, printed: Path) -> int:
        assert self.bash.stdout is not None
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        told = b""
        while not told.endswith(b"\n"):
            ready, _, _ = select.select([self.bash.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"{command!r} has not ended; so far: {printed.read_text(errors='replace')}")
            chunk = os.read(self.bash.stdout.fileno(), 4096)
            if not chunk:
                raise EOFError(f"{command!r} ended the shell: {printed.read_text(errors='replace')}")
            told += chunk
        return int(told.split()[-1])

    def to_machine(self, text: str) -> str:
        """What the document says, with the port that is free here."""
        return re.sub(rf"\b{DOCUMENTED_PORT}\b", str(self.port), text)

    def to_reader(self, text: str) -> str:
        """What the machine says, with the documented port and host name."""
        text = re.sub(r"^bash: line \d+: +\d+ (Killed|Terminated) .*\n", "", text, flags=re.MULTILINE)  # a job's end
        text = re.sub(rf"\b{self.port}\b", DOCUMENTED_PORT, text)
        return re.sub(rf"(?<![\w.-]){re.escape(self.host)}(?![\w-])", DOCUMENTED_HOST, text)

    def close(self) -> None:
        """End the shell and everything that it left running."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.bash.pid, signal.SIGKILL)
        self.bash.wait()
        for stream in (self.bash.stdin, self.bash.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def is_installed(package: str) -> bool:
    """Whether a block that needs *package* ('': none) can be run here."""
    return not package or importlib.util.find_spec(package) is not None


def play(text: str, folder: Path) -> int:
    """Run a document; the number of commands that were run. AssertionError: it is not true."""
    shell = Shell(folder)
    ran = 0
    background: list[tuple[int, str]] = []
    try:
        for block in blocks_of(text):
            assert block.kind != "unmarked", f"line {block.line}: say '.. run' or '.. not run: REASON' before it"
            if block.kind == "file":
                path = folder / "work" / block.word
                path.write_text(shell.to_machine("\n".join(block.body)) + "\n", encoding="utf-8")
            elif block.kind == "run" and is_installed(block.word.removeprefix("needs ")):
                steps = steps_of(block)
                for step, after in zip(steps, [*steps[1:], None], strict=True):
                    ran += 1
                    if step.command.endswith("&"):
                        background.append((ran, step.command))
                    status, printed = shell.run(step.command, ran)
                    place = f"line {step.line}: $ {step.command}"
                    if after is None or "$?" not in after.command:
                        assert status == 0, f"{place}\nended with {status}:\n{printed}"
                    if not step.command.endswith("&") or step.expected:
                        wanted = "\n".join(step.expected)
                        assert matches(step.expected, printed), f"{place}\nprinted:\n{printed}\nnot:\n{wanted}"
            elif block.kind != "run":
                assert block.word, f"line {block.line}: 'not run' needs a reason"
    except (AssertionError, TimeoutError) as error:
        for number, command in background:
            error.add_note(f"$ {command}\n{(folder / f'printed-{number}').read_text(errors='replace')}")
        raise
    finally:
        shell.close()
    return ran


# --- this can fail -----------------------------------------------------------------------------------------------

RUN = ".. run\n\n.. code-block:: console\n\n"


def test_a_true_document_passes(tmp_path: Path) -> None:
    text = (
        f"{RUN}   $ export A=1\n   $ cd /\n   $ echo $A; pwd\n   1\n   /\n\n"
        ".. run hidden\n\n   $ A=2\n\n"
        f"{RUN}   $ sleep 30 &\n   $ printf '%s\\n' x y z\n   ...\n   z\n   $ false\n   $ echo $?\n   1\n"
        "   $ cat <<'END'\n   > two\n   > END\n   two\n   $ echo a \\\n      b\n   a b\n"
        "   $ echo $A on 2837\n   2 on 2837\n"
    )
    assert play(text, tmp_path) == 11


def test_a_block_may_need_a_package(tmp_path: Path) -> None:
    needs = RUN.replace(".. run\n", ".. run: needs {}\n")
    assert play(needs.format("no_such_package") + "   $ false\n", tmp_path / "a") == 0
    with pytest.raises(AssertionError):
        play(needs.format("pytest") + "   $ false\n", tmp_path / "b")


def test_files_and_ports(tmp_path: Path) -> None:
    body = "   port 2837\n     more\n"
    text = f".. file: a.txt\n\n.. code-block:: text\n\n{body}\n{RUN}   $ cat a.txt\n{body}"
    assert play(text, tmp_path) == 1
    assert "2837" not in (tmp_path / "work/a.txt").read_text()


@pytest.mark.parametrize(
    "body",
    [
        "   $ echo b\n   a\n",
        "   $ echo a\n",
        "   $ true\n   a\n",
        "   $ false\n",
        "   $ echo a; false\n   a\n   $ true\n",
        "   $ echo a b\n   ...c\n",
        "   $ printf 'a\\nb\\n'\n   a\n",
        "   $ no-such-command\n",
    ],
)
def test_an_untrue_document_fails(body: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        play(RUN + body, tmp_path)


@pytest.mark.parametrize("text", [".. run\n\nWords.\n", ".. run\n", RUN + "   output\n"])
def test_a_comment_without_its_block_is_an_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line"):
        play(text, tmp_path)


@pytest.mark.parametrize("mark", ["", ".. not run:\n\n"])
def test_a_block_that_nobody_runs_needs_a_reason(mark: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        play(f"{mark}.. code-block:: console\n\n   $ true\n", tmp_path)


def test_a_hidden_command_is_found() -> None:
    hidden = "Words::\n\n   flexcore lmgrd -c a.lic\n"
    assert unmarked_commands(hidden) == ["line 3: flexcore lmgrd -c a.lic"]
    assert unmarked_commands(f"{RUN}   $ flexcore lint a.lic\n\nThe flexcore command.\n") == []


def test_a_shell_that_ends_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EOFError):
        play(f"{RUN}   $ exit 3\n", tmp_path)


# --- the documents -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_command_hides_from_the_test(path: Path) -> None:
    assert unmarked_commands(path.read_text(encoding="utf-8")) == []


@pytest.mark.real
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_document_is_true(path: Path, tmp_path: Path) -> None:
    play(path.read_text(encoding="utf-8"), tmp_path)


def test_the_two_guides_and_the_readme_run_commands() -> None:
    """The loop above must not pass because the documents hold nothing to run."""
    for name in ("README.rst", "docs/publisher.rst", "docs/administrator.rst"):
        blocks = list(blocks_of((ROOT / name).read_text(encoding="utf-8")))
        assert sum(len(steps_of(block)) for block in blocks if block.kind == "run") >= 5, name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_sessions_in_the_documents(path: Path) -> None:
    told = doctest.testfile(str(path), module_relative=False, optionflags=doctest.ELLIPSIS, verbose=False)
    assert told.failed == 0


def test_the_systemd_unit(tmp_path: Path) -> None:
    """The unit's command line is one that lmgrd takes, and systemd, where it is there, finds no fault with the rest."""
    text = (ROOT / "docs/flexcore-lmgrd.service").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    program, name, *arguments = shlex.split(command)
    assert program.endswith("/flexcore")
    cli.make_parser(name).parse_args(arguments)
    assert "\nRestart=on-failure\n" in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here: the unit's keywords were not checked")
    unit = tmp_path / "flexcore-lmgrd.service"
    unit.write_text(text.replace(program, shutil.which("true") or "/bin/true"), encoding="utf-8")
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    assert [line for line in told.stderr.splitlines() if unit.name in line] == []


def modules_with_examples() -> list[str]:
    base = Path(flexcore.__file__).parent
    found = [path for path in sorted(base.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
    return [".".join(["flexcore", *path.relative_to(base).with_suffix("").parts]) for path in found]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_docstrings(name: str) -> None:
    told = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")), optionflags=doctest.ELLIPSIS)
    assert told.attempted > 0
    assert told.failed == 0
