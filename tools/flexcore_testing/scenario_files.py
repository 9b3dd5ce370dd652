"""What a scenario's administrator has on disk: licence lines, lines of options, and what the users' machines show."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import attrs

from flexcore.client import ClientConfig
from flexcore.identity import Rank
from flexcore.licensefile import LicenseFile, format_license
from flexcore.options import OptionsFile, parse_options
from flexcore.override import override
from flexcore.record import replace
from flexcore.server import ServerConfig
from flexcore_testing.licences import signed
from flexcore_testing.profile import Profile
from flexcore_testing.service import ServiceTriad

OPTIONS_NAME = "demo.opt"
SPARE_LICENCE = "FEATURE spare demo 1.0 permanent 1"
SPARE_OPTION = "EXCLUDE spare USER nobody"


@attrs.define
class Machine:
    """What a client's machine shows, and for which project its user works."""

    hostids: tuple[str, ...] = ()
    platform: str = ""
    project: str = ""


def machine_of_words(words: Sequence[str]) -> Machine:
    """``machine elm 00146c37f273 platform=x64_lsb project=red``, without the first two words."""
    named = dict(word.partition("=")[::2] for word in words if word.startswith(("platform=", "project=")))
    return Machine(tuple(word for word in words if not word.startswith(("platform=", "project="))), **named)


def configured(config: ClientConfig, machine: Machine | None) -> ClientConfig:
    """The client's configuration on such a machine."""
    if machine is None:
        return config
    return replace(
        config, hostids=machine.hostids, platform=machine.platform, project=machine.project
    )


def user_of(name: str) -> tuple[str, str, str]:
    """``user[@host[:display]][/number]`` as user, host, display."""
    user, _, machine = name.partition("/")[0].partition("@")
    host, _, display = machine.partition(":")
    return user, host or f"{user}-host", f":{display}" if display else "/dev/tty"


def epoch_of_words(text: str) -> float:
    """``date=2026-01-31`` or ``date=2026-01-31T23:59`` in epoch seconds, UTC."""
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()


class Files:
    """The lines of the licence file and of the options file; the first line after a use begins a new file."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {"licence": [], "option": []}
        self._used = {"licence": False, "option": False}

    def add(self, which: str, words: Sequence[str]) -> None:
        """One more line of the ``licence`` or ``option`` file; without words the file becomes empty."""
        if self._used[which]:
            self._lines[which] = []
            self._used[which] = False
        if words:
            self._lines[which].append(" ".join(words))

    def used(self) -> None:
        """The files are on some server's disk: the next line begins another file."""
        self._used = dict.fromkeys(self._used, True)

    @property
    def licences(self) -> list[str]:
        """The lines of the licence file, without a signature."""
        return self._lines["licence"]

    @property
    def options_text(self) -> str:
        """The text of the options file."""
        return "".join(f"{line}\n" for line in self._lines["option"])

    def options(self) -> OptionsFile:
        """The options file as a server reads it."""
        return parse_options(self.options_text, name=OPTIONS_NAME)


class ScenarioTriad(ServiceTriad):
    """A triad whose servers each have a licence file and an options file of their own."""

    def __init__(self, profile: Profile, license: LicenseFile, options: OptionsFile) -> None:
        super().__init__(profile, license_file=license)
        self.files_on: list[tuple[LicenseFile, OptionsFile]] = [(license, options)] * 3
        self.machines: dict[str, Machine] = {}
        self.spare_on: set[Rank] = set()
        """Servers whose files have one line more each, of which nobody hears: what a reread changes where nothing
        is to be changed."""

    @override
    def license_of(self, rank: Rank) -> LicenseFile:
        license = self.files_on[rank][0]
        return signed(f"{format_license(license)}{SPARE_LICENCE} SIGN=0\n") if rank in self.spare_on else license

    @override
    def options_of(self, rank: Rank) -> OptionsFile | None:
        options = self.files_on[rank][1]
        more = parse_options(SPARE_OPTION).rules if rank in self.spare_on else ()
        return attrs.evolve(options, rules=options.rules + more)

    @override
    def server_config(self, rank: Rank) -> ServerConfig:
        return attrs.evolve(super().server_config(rank), options=self.options_of(rank))

    def put_files(self, rank: Rank, license: LicenseFile, options: OptionsFile) -> None:
        """Replace the files of one server; they are read when somebody asks for that, or at the next start."""
        self.files_on[rank] = (license, options)
        self.recorder.count_changed()
        self.client_checks.license_changed(license)

    @override
    def client_config(self, config: ClientConfig) -> ClientConfig:
        return configured(config, self.machines.get(config.host))
