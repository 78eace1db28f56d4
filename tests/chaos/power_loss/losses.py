"""Many power losses of one recording: at which instants, what each leaves, and what is wrong with it."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.power_loss.disk import Disk
from chaos.power_loss.judge import Promises, judge
from chaos.power_loss.operations import Operation
from chaos.power_loss.recorder import MARKS, Recording
from millrace.testing.history import Violation

MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Survivor:
    """What one power loss left.

    Attributes:
        instant: How many operations had ended; with the seed it says how to see this loss again.
        home: The factory's; perhaps empty.
        promises: Words of the marks made before it.
    """

    instant: int
    seed: int
    home: Path
    promises: Promises


Judge = Callable[[Survivor], list[Violation]]


def instants(recording: Recording, num: int, rng: random.Random) -> list[int]:
    """When the power goes: before a sync ends, when most is uncertain; after a promise, when most is due; whenever."""
    syncs = [i for i, o in enumerate(recording.operations) if o.kind == "sync"]
    marks = [i + 1 for i, o in enumerate(recording.operations) if o.path == MARKS]
    whenever = range(len(recording.operations) + 1)
    return sorted(rng.choice(rng.choice((syncs, marks, whenever))) for _ in range(num))


def survivors(recording: Recording, at: list[int], *, seed: int) -> Iterator[Survivor]:
    """Lose power at each of these instants, earliest first. A survivor is gone when the next one is asked for."""
    disk, done = Disk(), 0
    with _scratch() as scratch:
        for number, instant in enumerate(at):
            for operation in recording.operations[done:instant]:
                disk.apply(operation)
            done = instant
            folder, loss_seed = scratch / str(number), seed * 1_000_003 + number
            disk.lose_power(folder, random.Random(loss_seed))
            (folder / "home").mkdir(exist_ok=True)
            yield Survivor(instant, loss_seed, folder / "home", recording.promises(instant))
            shutil.rmtree(folder)


def judge_survivor(survivor: Survivor) -> list[Violation]:
    return judge(survivor.home, survivor.promises)


def broken_promises(
    recording: Recording, *, num: int, seed: int, by: Judge = judge_survivor, enough: int | None = None
) -> list[str]:
    """Judge so many survivors, or until enough was found; tell what is wrong and how to see it again."""
    found: list[str] = []
    for survivor in survivors(recording, instants(recording, num, random.Random(seed)), seed=seed):
        found += [f"operation {survivor.instant}, seed {survivor.seed}: {violation}" for violation in by(survivor)]
        if enough is not None and len(found) >= enough:
            break
    return found


def without(recording: Recording, is_left_out: Callable[[Operation], bool]) -> Recording:
    """The log of a product that does not do this: of one that forgets an fsync, if that is what is left out."""
    left = [o for o in recording.operations if not is_left_out(o)]
    assert len(left) < len(recording.operations), "nothing was left out"
    return Recording(recording.folder, left)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for what is looked at once: in memory, where syncing costs nothing."""
    parent = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2**28 else None
    with tempfile.TemporaryDirectory(dir=parent, prefix="power-loss-") as folder:
        yield Path(folder)
