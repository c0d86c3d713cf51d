"""The graph of DVC's stages: which there are to visit, what each waits for, and whose turn it is."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drp.errors import ConfigError

End = Literal["made", "same", "failed"]


@dataclass(frozen=True)
class Node:
    """A stage by its DVC address (`recipes/<recipe>/dvc.yaml:<stage>`), and the addresses of the stages that it waits for.

    `changed`: DVC would run it as things stand. A frozen stage waits for nothing.
    """

    address: str
    needs: frozenset[str] = frozenset()
    changed: bool = True


class Schedule:
    """Whose turn it is: those that changed, were forced, or wait for one that was made anew; each once all it waits for is done.

    What waits for a stage that failed is lost; `lost` says why, by address.
    """

    def __init__(self, plan: Sequence[Node], force: Collection[str] = ()) -> None:
        self.force = force
        self.waiting = {node.address: node for node in plan}  # in an order in which they may run
        self.going: set[str] = set()
        self.made: set[str] = set()
        self.same: set[str] = set()
        self.lost: dict[str, str] = {}

    def next(self) -> str | None:
        """The address of a stage that may run now; None where all that is left waits for one that runs."""
        for node in list(self.waiting.values()):
            if node.needs & self.waiting.keys() or node.needs & self.going:
                continue
            del self.waiting[node.address]
            if broken := sorted(node.needs & self.lost.keys()):
                self.lost[node.address] = f"waits for {broken[0]}"
            elif node.changed or node.address in self.force or node.needs & self.made:
                self.going.add(node.address)
                return node.address
            else:
                self.same.add(node.address)
        return None

    def ended(self, address: str, how: End) -> None:
        """A stage that was given out has ended."""
        self.going.remove(address)
        if how == "failed":
            self.lost[address] = "failed"
        else:
            (self.made if how == "made" else self.same).add(address)


def nodes(root: Path, targets: Sequence[str]) -> list[Node]:
    """Every stage that `dvc repro TARGETS` would visit, in an order in which they may run. The current folder is `root`."""
    from dvc.exceptions import DvcException
    from dvc.progress import Tqdm
    from dvc.repo import Repo, lock_repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    Tqdm.monitor_interval = 0  # no thread of its own: this process is forked
    try:
        with Repo(str(root), _wait_for_lock=True) as repo, lock_repo(repo):
            graph = get_active_graph(repo.index.graph)
            plan = plan_repro(graph, collect_stages(repo, targets))
            needs = {stage.addressing: frozenset(s.addressing for s in graph.successors(stage)) for stage in plan}
            return [Node(stage.addressing, needs[stage.addressing], _changed(stage)) for stage in plan]
    except DvcException as error:
        raise ConfigError(str(error)) from error


def foretold(plan: Sequence[Node]) -> list[str]:
    """What would run, in words. (`dvc repro --dry` fails where the first stage has yet to make what the next one reads.)"""
    told: dict[str, str] = {}
    for node in plan:
        if node.changed:
            told[node.address] = f"would run: {node.address}"
        elif node.needs & told.keys():
            told[node.address] = f"would run if its input changes: {node.address}"
    return [*told.values()] or ["nothing would run"]


def _changed(stage: Any) -> bool:
    """Whether DVC would run the stage; yes where it cannot say, because another process is at its files."""
    from dvc.lock import LockError

    try:
        return bool(stage.status())
    except LockError:
        return True
