"""The servers that an administrator's command is for: how to name one, and how to say that it was not reached."""

from __future__ import annotations

from flexcore.codes import ErrorCode, exit_status
from flexcore.report.status import Failure
from flexcore.wire.messages import ServerAddress

from ._ask import Survey


def chosen_server(survey: Survey, name: str) -> int:
    """Return the index of the server that ``--server`` names, by host or rank."""
    from flexcore_host.resolver import which_server

    return int(which_server([_Line(address) for address in survey.servers], wanted=name))


class _Line:
    """A SERVER line as the resolver wants it; hostids play no part where a name was given."""

    def __init__(self, address: ServerAddress) -> None:
        self.host = address.host
        self.hostid: object = None


def not_reached(survey: Survey, indexes: list[int]) -> int:
    """Say why these servers were not reached; return the exit status of the first one's reason."""
    for index in indexes:
        print(f"{place(survey.servers[index])}: {failure_of(survey, index).printed}")
    return exit_status(failure_of(survey, min(indexes, default=0)).code)


def failure_of(survey: Survey, index: int) -> Failure:
    """Return why this server was not reached."""
    return survey.failures.get(index, Failure(ErrorCode.CANNOT_CONNECT))


def place(address: ServerAddress) -> str:
    """Return PORT@HOST."""
    return f"{address.port}@{address.host}"
