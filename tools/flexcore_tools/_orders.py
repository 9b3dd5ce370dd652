"""What an administrator orders of running servers: whom to ask first, how to ask, and what to say if none takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flexcore.codes import ErrorCode, exit_status
from flexcore.report.status import SERVING, Failure
from flexcore.wire.messages import AdminReply

from ._ask import Survey
from ._link import Link, LinkFailed

NOT_YOU = (ErrorCode.NOT_ON_SERVER_MACHINE, ErrorCode.NOT_ADMINISTRATOR)
"""No, whatever is ordered: it is about who orders, and from where. Another server may take it."""


def in_order(survey: Survey, indexes: Iterable[int]) -> list[int]:
    """Servers of this machine first, the master before others: it knows what is in force, and has nobody to pass
    the word on to."""
    return sorted(
        indexes,
        key=lambda index: (
            not survey.links[index].is_local,
            survey.links[index].report.state != SERVING,
            index,
        ),
    )


def order(link: Link, command: str, words: tuple[str, ...], answer_s: float) -> AdminReply | Failure:
    """Send *command* on one link; the answer, or why there is none within *answer_s*."""
    from flexcore_host import whoami

    try:
        answer = link.admin(command, words, whoami.user(), whoami.host(), answer_s)
    except LinkFailed as failed:
        return failed.failure
    return answer if isinstance(answer, AdminReply) else Failure(ErrorCode.BAD_DATA_FROM_SERVER)


def refusal_of(answer: AdminReply) -> Failure:
    """Return what a server's no says."""
    return Failure(answer.code, text=answer.text.rstrip(".") or None)


def worse(refused: Failure | None, failure: Failure) -> Failure:
    """Return which of two is to be told: "log in to one of the servers' machines" is what helps, if anybody said so."""
    return failure if refused is None or failure.code == ErrorCode.NOT_ON_SERVER_MACHINE else refused


def print_refusal(survey: Survey, refused: Failure) -> None:
    """Say why no server takes it, and where one would."""
    print(refused.printed)
    if refused.code == ErrorCode.NOT_ON_SERVER_MACHINE:
        hosts = ", ".join(dict.fromkeys(address.host for address in survey.servers))
        print(f"log in to one of them and run it there: {hosts}")
    elif refused.code == ErrorCode.NOT_ADMINISTRATOR:
        print("the server was started with lmgrd -2 -p: run it as root, as its own user, or join the group lmadmin")


def order_one_of(
    survey: Survey,
    indexes: Iterable[int],
    ask: Callable[[Link], AdminReply | Failure],
    tell: Callable[[AdminReply], int],
) -> int:
    """Ask these servers, of which there is one at least, in turn until one takes it; return what *tell* makes of the
    answer, or the exit status of the refusal."""
    refused: Failure | None = None
    for index in in_order(survey, indexes):
        answer = ask(survey.links[index])
        if isinstance(answer, AdminReply) and answer.code not in NOT_YOU:
            return tell(answer)
        refused = worse(refused, refusal_of(answer) if isinstance(answer, AdminReply) else answer)
    assert refused is not None
    print_refusal(survey, refused)
    return exit_status(refused.code)
