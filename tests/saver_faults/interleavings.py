"""Processes that share a store, run one operation at a time: in every order, or in random ones.

A process is a function of a store. It is run from its beginning with the answers that it got so
far, until it asks for one more: so the code that is tried is the Saver's own, and a state can be
kept and gone on from. Any process may stop for good before any operation, or wait for any time.

Imports: jscope.
"""

import contextlib
import dataclasses
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from jscope._errors import CheckpointError
from jscope.formats._own_names import StepNames
from jscope.saver import _claims

STEP, PARTS = 12, ("0", "1")
Operation: TypeAlias = tuple[Any, ...]
Process: TypeAlias = "Callable[[Store], None]"


class Pause(BaseException):
    """The process waits for the answer to an operation."""


class Store:
    """The store as one process sees it: the answers that are known, then a pause."""

    def __init__(self, answers: Iterable[Any] = ()):
        self._answers: Iterator[Any] = iter(answers)
        self.operation: Operation | None = None

    def _ask(self, *operation: Any) -> Any:
        if self.operation is None:
            for answer in self._answers:
                return answer
            self.operation = operation
        raise Pause

    def names(self, below: str = "") -> list[str]:
        return list(self._ask("names", below))

    def read(self, name: str) -> bytes | None:
        return self._ask("read", name)

    head = read

    def create(self, name: str, data: bytes) -> bool:
        return bool(self._ask("create", name, data))

    def write(self, name: str, data: bytes) -> None:
        self._ask("write", name, data)

    def remove(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            self._ask("remove", name)

    def report(self, number: int, save_id: str) -> None:
        """The caller of the save is told that it is complete."""
        self._ask("report", number, save_id)


def apply(operation: Operation, contents: dict[str, bytes]) -> Any:
    """Do an operation; return its answer."""
    kind, name, *data = operation
    if kind == "names":
        return tuple(sorted(n for n in contents if not name or n.startswith(f"{name}/")))
    if kind == "read":
        return contents.get(name)
    if kind == "create" and name in contents:
        return contents[name] == data[0]
    if kind in ("create", "write"):
        contents[name] = data[0]
    elif kind == "remove":
        contents.pop(name, None)
    return True


# What the processes do.


def save(letter: str, *, overwrite: bool = False, looks: int = 0) -> Process:
    """A process that saves the step.

    Args:
        letter: Of which its id is made.
        overwrite: Whether it may replace a checkpoint.
        looks: After how many parts of the data it looks again.
    """

    def process(store: Store) -> None:
        try:
            # The listing is of before any crashed processes were cleaned up after, as the Saver's.
            found = StepNames.of(name.partition("/")[2] for name in store.names(str(STEP)))
            claim = _claims.Claim.take(
                store, STEP, letter * 32, overwrite=overwrite, where="run/12", now=0.0, found=found
            )
        except CheckpointError:
            return
        has_committed = False
        try:
            for i, part in enumerate((*PARTS, "")):
                if i == looks:
                    claim.look_again(overwrite=overwrite, where="run/12")
                if part:
                    store.write(claim.data + part, b"data")
            claim.renew(0.0)
            claim.commit(letter.encode())
            has_committed = True
            store.report(claim.number, claim.save_id)
            claim.remove_replaced()
        except CheckpointError:
            pass
        claim.leave(has_committed=has_committed)

    return process


def clean(store: Store) -> None:
    """A process that takes every claim for a crashed process's."""
    _claims.clean(store, store.names(), lease=-1.0, now=0.0)


def evict(store: Store) -> None:
    """A process that removes the step."""
    store.report(0, "evicted")
    _claims.evict(store, STEP)


# All together.


@dataclasses.dataclass(frozen=True)
class Scene:
    """Processes that start at once.

    Attributes:
        processes: What each does.
        crashing: Which of them may stop for good.
        most: How many saves may succeed.
        before: The names that are there before.
    """

    processes: tuple[Process, ...]
    crashing: frozenset[int] = frozenset()
    most: int = 1
    before: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class State:
    """The store, the answers that each process got, who has crashed, and what was reported."""

    contents: tuple[tuple[str, bytes], ...]
    answers: tuple[tuple[Any, ...], ...]
    dead: frozenset[int] = frozenset()
    reported: tuple[tuple[int, str], ...] = ()


def explore(scene: Scene) -> tuple[int, set[str]]:
    """How many states can be reached, and what is wrong in some of them."""
    start = State(tuple((n, b"") for n in scene.before), ((),) * len(scene.processes))
    seen, todo, wrong = {start}, deque([start]), set[str]()
    while todo:
        state = todo.popleft()
        wrong |= problems(dict(state.contents), state.reported, scene.most)
        after = list(_moves(scene, state))
        if not after:
            wrong |= left_over(dict(state.contents))
        todo.extend(next_ for next_ in after if next_ not in seen)
        seen.update(after)
    return len(seen), wrong


def wander(scene: Scene, runs: int) -> set[str]:
    """What is wrong in some of so many random runs."""
    wrong = set[str]()
    for seed in range(runs):
        draw, contents, reported = random.Random(seed), dict.fromkeys(scene.before, b""), ()
        answers: dict[int, list[Any]] = {i: [] for i in range(len(scene.processes))}
        while answers:
            i = draw.choice(sorted(answers))
            operation = _next(scene.processes[i], answers[i])
            is_crash = i in scene.crashing and draw.random() < 0.03
            if operation is None or is_crash:
                del answers[i]
                continue
            answers[i].append(apply(operation, contents))
            reported += _report(operation)
            if operation[0] in ("create", "write", "remove", "report"):
                wrong |= problems(contents, reported, scene.most)
        wrong |= left_over(contents)
    return wrong


def problems(
    contents: Mapping[str, bytes], reported: tuple[tuple[int, str], ...], most: int
) -> set[str]:
    """What must never be."""
    wrong = set()
    best = _checkpoint(contents)
    if best and not _is_whole(contents, best[1]):
        wrong.add("listed, but does not load")
    saves = [save for save in reported if save[0]]
    if len(saves) > most:
        wrong.add("too many succeeded")
    if saves and len(saves) == len(reported) and (best is None or best < max(saves)):
        wrong.add("reported, but lost")
    return wrong


def left_over(contents: dict[str, bytes]) -> set[str]:
    """What is wrong when all have ended, and the next saves have cleaned up."""
    for _ in range(2):
        answers: list[Any] = []
        while (operation := _next(clean, answers)) is not None:
            answers.append(apply(operation, contents))
    best = _checkpoint(contents)
    found = _names(contents)
    wrong = {"a claim is left"} if found.claims else set()
    if found.data.keys() - ({best[1]} if best else set()):
        wrong.add("data are left")
    if len(found.valid(lambda file: contents.get(f"{STEP}/{file}"))) > 1:
        wrong.add("an index is left")
    if best and not _is_whole(contents, best[1]):
        wrong.add("listed, but does not load")
    return wrong


def _moves(scene: Scene, state: State) -> Iterator[State]:
    for i, process in enumerate(scene.processes):
        operation = None if i in state.dead else _next(process, state.answers[i])
        if operation is None:
            continue
        contents = dict(state.contents)
        got = (*state.answers[i], apply(operation, contents))
        answers = (*state.answers[:i], got, *state.answers[i + 1 :])
        reported = state.reported + _report(operation)
        yield State(tuple(sorted(contents.items())), answers, state.dead, reported)
        if i in scene.crashing:
            yield dataclasses.replace(state, dead=state.dead | {i})


def _report(operation: Operation) -> tuple[tuple[int, str], ...]:
    return (operation[1:],) if operation[0] == "report" else ()


def _next(process: Process, answers: Iterable[Any]) -> Operation | None:
    """The next operation of a process; None if it has ended."""
    store = Store(answers)
    with contextlib.suppress(Pause):
        process(store)
    return store.operation


def _names(contents: Mapping[str, bytes]) -> StepNames:
    prefix = f"{STEP}/"
    return StepNames.of(n.removeprefix(prefix) for n in contents if n.startswith(prefix))


def _checkpoint(contents: Mapping[str, bytes]) -> tuple[int, str] | None:
    """The save that a reader finds."""
    valid = _names(contents).valid(lambda file: contents.get(f"{STEP}/{file}"))
    return tuple(valid[-1]) if valid else None


def _is_whole(contents: Mapping[str, bytes], save_id: str) -> bool:
    return all(f"{STEP}/{save_id}/{part}" in contents for part in PARTS)
