"""Requests that arrive together are answered together: one queue, and one thread that calls the sampler. No torch."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from burnish.answers.sampler import Decoding, Prompt, Sampled, Sampler

Event = tuple[int, int, int, float] | list[list[Sampled]] | Exception
MOMENT = (0, 0)  # the same for all: a request's seed is in its prompts' ids, so that different seeds share a call


class Full(Exception):
    """More waits than the queue may hold."""


class Stopped(Exception):
    """The server goes down."""


class _Enough(Exception):
    """Nobody waits for the rest of a call."""


@dataclass(eq=False)
class Job:
    """A request in the queue. Its events, which `next` gives: (which prompt, which answer, token, its log-prob) as they
    come, then all answers, or what went wrong. Made in the event loop that reads them."""

    prompts: tuple[Prompt, ...]
    k: int
    decoding: Decoding
    gone: bool = False  # nobody waits for it any more
    _events: deque[Event] = field(default_factory=deque)
    _there: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def post(self, event: Event) -> None:
        """From another thread."""
        self._events.append(event)
        try:
            self._loop.call_soon_threadsafe(self._there.set)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            self.gone = True

    async def next(self, seconds: float) -> list[Event]:
        """What has come, after at most so many seconds; empty where nothing did."""
        try:
            await asyncio.wait_for(self._there.wait(), seconds)
        except TimeoutError:
            return []
        self._there.clear()
        found = []
        while self._events:
            found.append(self._events.popleft())
        return found


@dataclass
class Task:
    """Something to do between two calls of the sampler."""

    work: Callable[[], None]
    done: Future[None] = field(default_factory=Future)


class Worker:
    """The queue and its thread. `most_waiting` prompts may wait, `most_together` go into one call, and an idle worker
    waits `linger` seconds for others to join the first."""

    def __init__(
        self, answer: Sampler, most_waiting: int = 512, most_together: int = 64, linger: float = 0.005
    ) -> None:
        self.answer, self.most_waiting, self.most_together, self.linger = answer, most_waiting, most_together, linger
        self._queue: deque[Job | Task] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="burnish-sampler", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Give up what is being answered, refuse what waits."""
        with self._changed:
            self._stopping = True
            waiting, self._queue = list(self._queue), deque()
            self._changed.notify()
        for item in waiting:
            if isinstance(item, Job):
                item.post(Stopped())
            else:
                item.done.set_exception(Stopped())
        if self._thread.ident is not None:
            self._thread.join(10.0)

    def put(self, job: Job) -> None:
        """Queue a job. Raises Full; a job that finds nothing waiting is taken whatever its size."""
        with self._changed:
            if self._stopping:
                raise Stopped
            waiting = sum(len(one.prompts) for one in self._queue if isinstance(one, Job) and not one.gone)
            if waiting and waiting + len(job.prompts) > self.most_waiting:
                raise Full
            self._queue.append(job)
            self._changed.notify()

    def do(self, work: Callable[[], None]) -> Future[None]:
        """Do something behind all that waits now, while the sampler does nothing."""
        task = Task(work)
        with self._changed:
            if self._stopping:
                raise Stopped
            self._queue.append(task)
            self._changed.notify()
        return task.done

    def _work(self) -> None:
        while (item := self._take()) is not None:
            if isinstance(item, Task):
                if not item.done.set_running_or_notify_cancel():
                    continue  # who asked for it has left
                try:
                    item.work()
                    item.done.set_result(None)
                except Exception as error:  # told to who asked; the thread goes on
                    item.done.set_exception(error)
            elif item:
                self._call(item)

    def _take(self) -> Task | list[Job] | None:
        """What is next: a task, or the jobs that can share a call with the oldest; None at the end."""
        with self._changed:
            if not self._queue:
                self._changed.wait_for(lambda: self._queue or self._stopping)
                until = time.monotonic() + self.linger
                while not self._stopping and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)
            if self._stopping:
                return None
            if isinstance(first := self._queue[0], Task):
                self._queue.popleft()
                return first
            jobs: list[Job] = []
            rest: deque[Job | Task] = deque()
            barred = False  # nothing may overtake a task
            for item in self._queue:
                if isinstance(item, Task) or barred:
                    barred = True
                    rest.append(item)
                elif not item.gone and self._fits(item, jobs):
                    jobs.append(item)
                elif not item.gone:
                    rest.append(item)
            self._queue = rest
            return jobs

    def _fits(self, job: Job, jobs: list[Job]) -> bool:
        if not jobs:
            return True
        room = self.most_together - sum(len(one.prompts) for one in jobs)
        return (job.decoding, job.k) == (jobs[0].decoding, jobs[0].k) and len(job.prompts) <= room

    def _call(self, jobs: list[Job]) -> None:
        """One call of the sampler; whatever goes wrong in it is told to who waits."""
        owners = [(job, i) for job in jobs for i in range(len(job.prompts))]
        prompts = [job.prompts[i] for job, i in owners]

        def tell(prompt: int, number: int, token: int, logp: float) -> None:
            job, i = owners[prompt]
            if not job.gone:
                job.post((i, number, token, logp))
            if self._stopping or all(one.gone for one in jobs):
                raise _Enough

        try:
            found = self.answer(prompts, jobs[0].k, jobs[0].decoding, MOMENT, tell)
            if [len(one) for one in found] != [jobs[0].k] * len(prompts):
                raise ValueError(f"the sampler gave other than {jobs[0].k} answers to each of {len(prompts)} prompts")
        except Exception as error:
            told = Stopped() if isinstance(error, _Enough) else error
            for job in jobs:
                job.post(told)
            return
        rest = iter(found)
        for job in jobs:
            job.post([next(rest) for _ in job.prompts])
