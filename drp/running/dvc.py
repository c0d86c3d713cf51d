"""Runs stages through DVC, one process after the other or several at once, and shows what they do while they do it."""

import os
import re
import selectors
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from drp.mortality import die_with_parent
from drp.project import Project
from drp.running.screen import Screen

if TYPE_CHECKING:
    from drp.running.graph import Node

CODES = (1, 2, 64, 65, 69, 75, 77, 130, 143)
"""Exit codes of stages that say more than DVC's own."""
FAILED = re.compile(r"failed to run: .*, exited with (\d+)$")
SAME = re.compile(r"^(?:Stage )?'(.+)' didn't change, skipping$")
MADE = re.compile(r"^(?:Running stage '.+':|Stage '.+' is cached - skipping run, checking out outputs)$")
TRACK = re.compile(r"^\tgit add (.+)$")
NOISE = re.compile(
    r"^(?:> drp (?:stage|counts) .*|(?:Generating|Updating) lock file .*|Use `dvc push` .*|Data and pipelines are up to date\."
    r"|To track the changes with git, run:|To enable auto staging, run:|\tdvc config core\.autostage true|)$"
)
"""What DVC says: of stages, and what is said once at the end or not at all."""
WRITING = (os.path.join("dvc", "rwlock.py"), os.path.join("dvc", "utils", "serialize"))
"""Where DVC's code writes `.dvc/tmp/rwlock` and `dvc.lock`."""
PIPE = 1 << 16
"""Bytes that a pipe holds (pipe(7))."""
LIVE, LOG = 0.5, 10.0
"""Seconds between two drawings in a terminal, and between two lines of a stage in a log."""


@dataclass
class Child:
    """A running DVC: the stage that it was started for (if one), and what it said of stages so far."""

    pid: int
    output: int
    address: str = ""
    code: int | None = None
    made: int = 0
    same: int = 0
    codes: list[int] = field(default_factory=list)
    track: list[str] = field(default_factory=list)
    _rest: bytes = b""

    def read(self, data: bytes) -> list[str]:
        """The lines that are worth showing; with no data, the last one."""
        *lines, self._rest = (self._rest + data + (b"" if data else b"\n")).split(b"\n")
        return [text for line in lines if self._worth(text := line.decode("utf-8", "replace").rstrip().rpartition("\r")[2])]

    def ended(self, wait: bool = False) -> bool:
        """Whether its process has ended; `code` is then its exit code, and it is let go of."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, 0 if wait else os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.code = code if code >= 0 else 128 - code
        return self.code is not None

    def _worth(self, text: str) -> bool:
        if found := FAILED.search(text):
            self.codes.append(int(found[1]))
        if found := TRACK.search(text):
            self.track += found[1].split()
        same = bool(SAME.search(text))
        self.same += same
        self.made += bool(MADE.search(text))
        return not (same or found or NOISE.search(text))


class Running:
    """The DVC processes of one `drp run`."""

    def __init__(self, project: Project) -> None:
        self.project, self.screen = project, Screen()
        self.began = time.time()
        self.stopped: signal.Signals | None = None
        self._children: dict[int, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._drawn: dict[str, float] = {}
        self._next = time.monotonic() + LIVE

    def start(self, *arguments: str, address: str = "") -> None:
        """A DVC command in a process of its own."""
        ear, mouth = os.pipe()
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_dvc(arguments, mouth, me)
        with suppress(PermissionError, ProcessLookupError):  # it has begun, or ended
            os.setpgid(pid, pid)
        os.close(mouth)
        os.set_blocking(ear, False)
        self._children[ear] = Child(pid, ear, address)
        self._selector.register(ear, selectors.EVENT_READ)

    @property
    def busy(self) -> int:
        """How many are running."""
        return len(self._children)

    def wait(self) -> Child:
        """Until one of them ends: their lines as they come, the progress of their stages between them."""
        while True:
            for key, _ in self._selector.select(max(0.0, self._next - time.monotonic())):
                if key.fd not in self._children:
                    self._pass_on(os.read(key.fd, 64))
                elif ended := self._heard(key.fd):
                    return ended
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + LIVE
                self._draw()
                for fd, child in self._children.items():
                    if child.ended():  # something that it started holds on to its output
                        return self._end(fd)

    def _heard(self, fd: int) -> Child | None:
        try:
            data = os.read(fd, PIPE)
        except BlockingIOError:
            return None
        if not data:
            return self._end(fd)
        self.screen.say(self._children[fd].read(data))
        if self.screen.live:
            self._next = 0.0  # what is below may be of a stage that has just ended
        return None

    def _end(self, fd: int) -> Child:
        child = self._children.pop(fd)
        self._selector.unregister(fd)
        child.ended(wait=True)
        last = []
        with suppress(BlockingIOError):  # what it said between our last look and its end; a pipe holds no more than this
            last = child.read(os.read(fd, PIPE))
        os.close(fd)
        self.screen.draw([])
        self.screen.say([*last, *child.read(b"")])
        return child

    # -- signals -------------------------------------------------------------------------------------------------------------

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Pass SIGINT and SIGTERM on to what runs, and wait for it: DVC then lets go of its locks, a stage of its files."""
        ear, mouth = os.pipe()
        for end in (ear, mouth):
            os.set_blocking(end, False)
        self._selector.register(ear, selectors.EVENT_READ)
        signal.set_wakeup_fd(mouth)
        before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)
            self._selector.unregister(ear)
            os.close(ear)
            os.close(mouth)

    def _pass_on(self, numbers: bytes) -> None:
        """The first time as an interrupt, which DVC and stages end well on; then as SIGTERM; then as SIGKILL."""
        for number in numbers:
            self.stopped = self.stopped or signal.Signals(number)
            self._signals.append(number)
            ladder = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
            for child in self._children.values():
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, ladder[min(len(self._signals), len(ladder)) - 1])

    # -- drawing -------------------------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        news = [path for path in (self.project.scratch / "progress").glob("*.json") if path.stat().st_mtime >= self.began]
        if not news and not self._drawn:
            return
        from drp.pipeline.progress import line, load
        from drp.running.status import as_it_is

        now, seen = time.time(), [as_it_is(one) for path in sorted(news) if (one := load(path))]
        ours = [one for one in seen if one.run == str(os.getpid()) and one.state == "running"]
        if not self.screen.live:
            ours = [one for one in ours if now - self._drawn.get(one.name, one.started) >= LOG]
        self._drawn.update({one.name: now for one in ours})
        (self.screen.draw if self.screen.live else self.screen.say)([f"{one.name}: {line(now, one)}" for one in ours])


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave off as soon as DVC writes none of its lock files: they are written in place, and half of one stops every later run.

    (On SIGTERM, DVC alone would die at once, and leave its locks behind.)
    """
    here = frame
    while here:
        if any(part in here.f_code.co_filename for part in WRITING):
            signal.signal(signal.SIGALRM, lambda _, later: _stop(number, later))
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            return
        here = here.f_back
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _become_dvc(arguments: Sequence[str], output: int, parent: int) -> NoReturn:
    """What a forked process does: it is DVC, writes to `output`, and dies when `parent` does, or its stages would go on.

    Forked, for what is loaded need not be loaded again: a third of a second for each stage of a run side by side. In a
    process group of its own, for a terminal's Ctrl-C must come to `drp run` alone, which passes it on once.
    """
    code = 1
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
        die_with_parent()
        if os.getppid() != parent:
            sys.exit(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)  # what DVC leaves behind (a daemon that looks for updates) must not hold it
        os.environ["DRP_RUN"] = str(parent)
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        sys.argv = ["dvc", *arguments]
        from dvc.cli import main

        code = main(sys.argv[1:])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    except ImportError as error:
        sys.stderr.write(f"dvc cannot be imported: {error}\n")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(project: Project, targets: Sequence[str]) -> int:
    """One `dvc repro`; its exit code, or that of the stage that failed where it says more."""
    running = Running(project)
    with running.catching():
        running.start("repro", *targets)
        child = running.wait()
    return _end(running, [child], [_counts(child.made, child.same)])


def side_by_side(project: Project, plan: Sequence["Node"], jobs: int, force: Sequence[str] = ()) -> int:
    """Every stage that changed, or whose input did, as soon as all that it waits for is done: up to `jobs` at once.

    Each is a `dvc --wait-for-lock repro -s` of its own: DVC holds its lock while it reads and writes `dvc.lock`, and lets go
    of it while a stage's command runs. A stage that fails stops what waits for it, and nothing else.
    """
    from drp.running.graph import Schedule

    running, schedule, ended = Running(project), Schedule(plan, force), []
    with running.catching():
        while True:
            while running.busy < jobs and not running.stopped and (address := schedule.next()):
                running.start("--wait-for-lock", "repro", "-s", *(["-f"] if address in force else []), address, address=address)
            if not running.busy:
                break
            child = running.wait()
            ended.append(child)
            schedule.ended(child.address, "failed" if child.code else "made" if child.made else "same")
    lost = {**schedule.lost, **dict.fromkeys(schedule.waiting, "not begun")}
    told = [f"not made: {address} ({why})" for address, why in lost.items()]
    return _end(running, ended, [*told, _counts(len(schedule.made), len(schedule.same), len(lost))])


def _counts(made: int, same: int, lost: int = 0) -> str:
    def stages(number: int) -> str:
        return f"{number} stage{'' if number == 1 else 's'}"

    return f"{stages(made)} made, {same} did not change" + (f", {lost} not made" if lost else "")


def _end(running: Running, children: Sequence[Child], told: Sequence[str]) -> int:
    """The last lines, and the exit code."""
    if track := sorted({path for child in children for path in child.track}):
        running.screen.say([f"to track the changes with git: git add {' '.join(track)}"])
    stopped = ["interrupted; what was half-made is not published"] if running.stopped else []
    running.screen.say([*told, *stopped])
    if running.stopped:
        return 128 + running.stopped
    codes = [code for child in children if child.code for code in child.codes if code in CODES]
    return next(iter(codes), 0) or next((child.code for child in children if child.code), 0)
