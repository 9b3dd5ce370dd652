"""``flexcore simulate``: what a network does to a triad, for several values of HEARTBEAT_INTERVAL.

No quiet weeks are simulated beat by beat. Each kind of trouble that the description names is met by itself, many times:
the real machines form a triad under the described delays and losses, the trouble strikes, and everything is followed
until all is as before. How often that happens in a month is what the description says; the month is added up from
there. Quiet stretches are simulated as well, to find elections that ordinary delays cause. Not simulated are two
troubles at once.

All intervals meet the same troubles (common random numbers), so that they can be compared after few of them.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import Pool
from typing import Self

import attrs

from flexcore_testing.checks import Violation
from flexcore_testing.forecast_episode import QUIET, Episode, Task, run_task
from flexcore_testing.forecast_network import OF_EACH_SERVER, TROUBLES, NetworkDescription
from flexcore_testing.forecast_statistics import Recommendation, Row, make_row, recommend

INTERVALS = (1, 2, 5, 10, 20, 40, 80, 120)
"""What is compared; the licence file's own value is added."""

MESSAGES = 450_000
"""How much is simulated by default: about a minute on one core. Messages, not seconds: equal input, equal answer."""

ROUNDS_MIN = 2
ROUNDS_MAX = 10_000
OTHERS_EVERY = 4
"""Troubles of a server that is not the master seldom stop anything: every fourth round is enough of them."""

JOBS_MAX = 256


@attrs.frozen(kw_only=True)
class Question:
    """What is to be forecast."""

    description: NetworkDescription
    intervals_s: tuple[int, ...] = INTERVALS
    current_s: int = 20
    """The licence file's own HEARTBEAT_INTERVAL."""
    primary_is_master: bool = False
    seed: int = 1
    hours: float | None = None
    """Simulated hours for each interval; None: as much as :data:`MESSAGES` allow."""


@attrs.frozen(kw_only=True)
class Progress:
    """How far a forecast is."""

    done: float
    """0 to 1, estimated."""
    episodes: int
    rounds: int
    simulated_hours: float


@attrs.frozen(kw_only=True)
class Forecast:
    """The answer."""

    question: Question
    rows: tuple[Row, ...]
    recommendation: Recommendation
    rounds: int
    """How often each trouble was met with each interval."""
    complete: bool
    """False if it was interrupted."""
    episodes: int
    messages: int
    simulated_hours: float


class PromiseBroken(Exception):
    """The simulated servers did what they never may: a bug of flexcore. The text says how to see it again."""


class Forecaster:
    """Runs a forecast round by round; what is known can be asked for at any time."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.episodes: list[Episode] = []
        self.rounds = 0
        self.messages = 0
        self._complete = 0
        """How many of the episodes belong to complete rounds."""
        self._hours = dict.fromkeys(question.intervals_s, 0.0)

    def run(self, *, jobs: int = 1, on_progress: Callable[[Progress], None] | None = None) -> None:
        """Run to the end; :meth:`forecast` tells what came of it.

        Raises:
            KeyboardInterrupt: from outside; :meth:`forecast` then tells what is known.
            PromiseBroken: the servers broke a promise: a bug of flexcore.
        """
        with _Workers(jobs) as workers:
            while not self._enough():
                for episode in workers.run(self._round_tasks(self.rounds)):
                    self._add(episode)
                    if on_progress is not None:
                        on_progress(self.progress())
                self.rounds += 1
                self._complete = len(self.episodes)

    def progress(self) -> Progress:
        """How far it is."""
        return Progress(
            done=min(1.0, self._done()),
            episodes=len(self.episodes),
            rounds=self.rounds,
            simulated_hours=sum(self._hours.values()),
        )

    def forecast(self) -> Forecast | None:
        """What is known so far: of the rounds that are complete; None before the first is."""
        if self.rounds == 0:
            return None
        question = self.question
        known = self.episodes[: self._complete]
        rows = tuple(
            make_row(interval, [e for e in known if e.task.interval_s == interval], question.description)
            for interval in question.intervals_s
        )
        return Forecast(
            question=question,
            rows=rows,
            recommendation=recommend(rows, question.current_s),
            rounds=self.rounds,
            complete=self._enough(),
            episodes=len(known),
            messages=sum(episode.messages for episode in known),
            simulated_hours=sum(row.simulated_hours for row in rows),
        )

    def _add(self, episode: Episode) -> None:
        self.episodes.append(episode)
        self.messages += episode.messages
        self._hours[episode.task.interval_s] += episode.simulated_s / 3600.0

    def _done(self) -> float:
        if self.question.hours is not None:
            return min(self._hours.values()) / self.question.hours
        return self.messages / MESSAGES

    def _enough(self) -> bool:
        if self.rounds < ROUNDS_MIN:
            return False
        return self.rounds >= ROUNDS_MAX or self._done() >= 1.0

    def _round_tasks(self, number: int) -> list[Task]:
        question = self.question
        kinds: list[tuple[str, bool]] = [(QUIET, False)]
        for kind in TROUBLES:
            if kind not in question.description.troubles:
                continue
            kinds.append((kind, True))
            if kind in OF_EACH_SERVER and number % OTHERS_EVERY == 0:
                kinds.append((kind, False))
        return [
            Task(
                kind=kind,
                on_master=on_master,
                interval_s=interval,
                primary_is_master=question.primary_is_master,
                number=number // OTHERS_EVERY if kind in OF_EACH_SERVER and not on_master else number,
                seed=question.seed,
                description=question.description,
            )
            for kind, on_master in kinds
            for interval in question.intervals_s
        ]


def _work(task: Task) -> Episode | str:
    """The episode of *task*; a text if a promise was broken (it must pass from process to process)."""
    try:
        return run_task(task)
    except Violation as violation:
        return f"{violation} (HEARTBEAT_INTERVAL={task.interval_s}, {task.name!r})"


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Workers:
    """This process, or some more, to run tasks in."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool: Pool | None = None

    def __enter__(self) -> Self:
        if self._jobs > 1:
            context = multiprocessing.get_context("spawn")
            self._pool = context.Pool(self._jobs, initializer=_leave_interrupts_to_the_parent)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()

    def run(self, tasks: Sequence[Task]) -> Iterator[Episode]:
        """The episodes of *tasks*, in their order."""
        outcomes = map(_work, tasks) if self._pool is None else self._pool.imap(_work, tasks)
        for outcome in outcomes:
            if isinstance(outcome, str):
                raise PromiseBroken(outcome)
            yield outcome
