"""The ``flexcore`` command: picks the sub-command and imports only that one.

Each sub-command is one module beside this one, with ``HELP: str`` (what it does, shown by
``--help``), ``add_arguments(parser)`` and ``run(args) -> int``. A module is imported only when it
is chosen, so that ``flexcore --version`` and the short utilities start fast. No error ends in a
traceback.

The ``lm*`` utilities write everything to stdout, since their readers take any stderr as failure;
the other commands write errors to stderr (design.md section 10).
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any, NoReturn, TextIO

# Sub-command -> what it does, in one line of `flexcore --help`. The module has the same name.
COMMANDS: dict[str, str] = {
    "keygen": "make a vendor's key pair: VENDOR.key and VENDOR.pub",
    "new": "make an unsigned licence file",
    "sign": "sign every feature line of a licence file",
    "verify": "check every feature line against a vendor's public key",
    "lint": "say everything that is wrong with a licence file",
    "format": "write a licence file in another form (lminstall)",
    "lmutil": "any lm* utility, as existing scripts spell it",
    "lmhostid": "print the hostids of this machine",
    "lmgrd": "run a licence server in the foreground",
    "lmstat": "show servers, features and who holds what",
    "lmdown": "stop licence servers",
    "lmreread": "have the licence files read anew, while everything runs",
    "lmremove": "take licences away from a user",
    "lmswitch": "have the debug log go on in another file",
    "lmnewlog": "put the report log aside, and go on under its name",
    "lmswitchr": "have the report log go on in another file",
    "lmborrow": "take licences home: borrow, show, return early",
    "lmdiag": "say what could be checked out from here, and if not, why",
    "lmver": "print the version of flexcore, or of a file",
    "lmpath": "show where licences are looked for",
    "lmcksum": "print a checksum of each feature line",
    "reportlog": "verify report logs, and join those of three servers",
    "usage": "say what licences were used for, when and by whom",
    "simulate": "say which HEARTBEAT_INTERVAL suits a network",
    "run": "run a command while holding a licence",
    "demo": "show the main job on this machine, in under 30 seconds",
}

_LMUTIL = "lmutil"
_SPELLINGS = {"lminstall": "format"}
"""Utilities of the field that have another name here."""
_NOT_UTILITIES = frozenset({"lmgrd", _LMUTIL})
_INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h
_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command and return its exit status (the entry point of ``flexcore``)."""
    _prepare_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    words = _as_spelled(_called_as() if argv is None else "", words)
    name = words[0] if words and words[0] in COMMANDS else ""
    try:
        status = _run(name, words[1:]) if name else _about(words)
        sys.stdout.flush()
        return status
    except SystemExit as stop:
        if isinstance(stop.code, str):
            return _complain(name, stop.code, _errors_of(name), 1)
        return _status(stop.code)
    except BaseException as error:  # noqa: BLE001 - the outermost place: no tracebacks
        return _explain(name, error, _errors_of(name))


def _called_as() -> str:
    """The name of the link that was run: ``lmutil``, ``lmstat`` ..., or anything else."""
    name = sys.argv[0].replace("\\", "/").rpartition("/")[2].lower()
    return name.removesuffix(".exe")


def _as_spelled(called: str, words: list[str]) -> list[str]:
    """Return the words as ``flexcore COMMAND ...`` has them: a link named as a utility is that
    utility, and ``lmutil lmstat -a`` is ``lmstat -a``."""
    if called == _LMUTIL:
        words = [_LMUTIL, *words]
    elif _is_utility(_SPELLINGS.get(called, called)) or called == "lmgrd":
        words = [_SPELLINGS.get(called, called), *words]
    if len(words) > 1 and words[0] == _LMUTIL:
        chosen = _SPELLINGS.get(words[1], words[1])
        if _is_utility(chosen):
            return [chosen, *words[2:]]
    if words and words[0] in _SPELLINGS:
        return [_SPELLINGS[words[0]], *words[1:]]
    return words


def _is_utility(name: str) -> bool:
    """Whether it is one of lmutil's: it writes everything to stdout, and takes -v and -help."""
    return name in COMMANDS and (
        name in _SPELLINGS.values() or (name.startswith("lm") and name not in _NOT_UTILITIES)
    )


def utilities() -> list[str]:
    """Return the names that ``lmutil`` takes."""
    return sorted([name for name in COMMANDS if _is_utility(name) and name.startswith("lm")] + [*_SPELLINGS])


def _prepare_streams() -> None:
    for which in ("stdout", "stderr"):
        stream = getattr(sys, which)
        if stream is None:  # closed by whoever started us (`>&-`): write to nobody
            import os

            setattr(sys, which, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        # A name that the terminal cannot show is no failure.
        elif (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")


def _errors_of(name: str) -> TextIO:
    return sys.stdout if _is_utility(name) or name == _LMUTIL else sys.stderr


def _about(words: list[str]) -> int:
    """Answer what is about no sub-command: the overview, the version, a word that is none."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if words else _USAGE
    if words[0] in ("-V", "--version", "version"):
        import flexcore

        print(f"flexcore {flexcore.__version__}")
        return 0
    print(f"flexcore: there is no command {words[0]!r}; {_suggestion(words[0])}", file=sys.stderr)
    return _USAGE


def _run(name: str, arguments: list[str]) -> int:
    module = _load(name)
    parser = make_parser(name, module)
    try:
        args = parser.parse_args(arguments)
    except SystemExit as stop:  # argparse: --help or a usage error
        return _status(stop.code)
    return int(module.run(args))


def _load(name: str) -> ModuleType:
    from importlib import import_module

    return import_module(f"flexcore_tools.{name}")


def make_parser(name: str, module: ModuleType | None = None) -> argparse.ArgumentParser:
    """Return the parser of one sub-command (the docs print its help from here)."""
    import argparse

    from flexcore.override import override

    class Parser(argparse.ArgumentParser):
        @override
        def _print_message(self, message: str, file: Any = None) -> None:
            to_stderr = file is sys.stderr and not (_is_utility(name) or name == _LMUTIL)
            (sys.stderr if to_stderr else sys.stdout).write(message)

        @override
        def error(self, message: str) -> NoReturn:
            self._print_message(f"{self.format_usage()}{self.prog}: {message}\n", sys.stderr)
            raise SystemExit(_USAGE)

    chosen = module if module is not None else _load(name)
    parser = Parser(
        prog=f"flexcore {name}",
        description=str(chosen.HELP),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        # lmremove's -h is no help, wherever that command is known.
        conflict_handler="resolve" if name == "lmremove" else "error",
    )
    chosen.add_arguments(parser)
    if _is_utility(name):
        from ._common import add_common_arguments

        add_common_arguments(parser)
    return parser


def _explain(name: str, error: BaseException, errors: TextIO) -> int:
    """Say what happened in a line, and return the exit status."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[
            0
        ]  # a nursery wraps what went wrong; the first cause is the one to tell
    if isinstance(error, KeyboardInterrupt):
        return _complain(name, "interrupted", errors, _INTERRUPTED)
    if isinstance(error, BrokenPipeError):
        return _reader_gone()
    from flexcore.errors import FlexcoreError

    if isinstance(error, FlexcoreError):
        return _complain(name, str(error), errors, error.exit_status)
    if isinstance(error, OSError):
        words = error.strerror or str(error)
        path = error.filename
        return _complain(name, f"{path}: {words}" if path is not None else words, errors, 1)
    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or "").split(".")[0]
        if missing == "trio":
            return _complain(
                name, "this command needs trio: pip install 'flexcore[trio]'", errors, 1
            )
        if error.name == f"flexcore_tools.{name}":
            return _complain(name, "this command is not part of this installation", errors, 1)
    return _internal_error(name, error, errors)


def _internal_error(name: str, error: BaseException, errors: TextIO) -> int:
    import os

    if os.environ.get("FLEXCORE_DEBUG"):
        import traceback

        traceback.print_exception(error, file=errors)
    return _complain(
        name,
        f"internal error: {type(error).__name__}: {error} "
        "(a bug of flexcore; set FLEXCORE_DEBUG=1 for the details)",
        errors,
        _INTERNAL_ERROR,
    )


def _complain(name: str, words: str, errors: TextIO, status: int) -> int:
    try:
        sys.stdout.flush()
        print(f"flexcore {name}".rstrip() + f": {words}", file=errors, flush=True)
    except BrokenPipeError:
        return _reader_gone()
    except OSError:  # a full disk behind stdout: say it where that still works
        _silence(sys.stdout)
        if errors is not sys.stdout:
            print(f"flexcore {name}".rstrip() + f": {words}", file=errors)
    return status


def _reader_gone() -> int:
    """Whoever read our output has gone (``| head``): say nothing."""
    _silence(sys.stdout)
    return 141  # 128 + SIGPIPE


def _silence(stream: TextIO) -> None:
    """Let what is still buffered go nowhere, so that Python is quiet at exit."""
    import os

    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)


def _status(code: object) -> int:
    if code is None:
        return 0
    return code if isinstance(code, int) else 1


def _overview() -> str:
    lines = [
        "usage: flexcore COMMAND [arguments]",
        "",
        "Floating licences that three servers serve together.",
        "",
    ]
    lines += [f"  {name:<10}{summary}" for name, summary in COMMANDS.items()]
    lines += ["", "flexcore COMMAND --help tells more; flexcore --version prints the version."]
    return "\n".join(lines)


def _suggestion(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    return f"did you mean {near[0]!r}?" if near else "flexcore --help lists them"


if __name__ == "__main__":
    raise SystemExit(main())
