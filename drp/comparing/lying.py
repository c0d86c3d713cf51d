"""Files as they lie in the workspace, beside what its locks name."""

from drp.errors import DataError
from drp.lineage.graph import Graph
from drp.lineage.tables import Tables
from drp.pipeline.locked import Files, Made
from drp.planning.why import Output
from drp.project import Project


class Lying:
    """Says which bytes a state's files are: a revision's by its lock, the workspace's by what lies there; each is read once."""

    def __init__(self, project: Project) -> None:
        self._files = Files(project)

    def md5(self, graph: Graph, path: str, made: Made) -> str:
        """The hash of a file of a state; of one that does not lie in the workspace, as its lock names it."""
        found = None if graph.snapshot.commit is not None else self._files.md5(path)
        return made.md5 if found is None else found

    def fault(self, graph: Graph, path: str, made: Made) -> Output | None:
        """What is wrong with a file of the workspace: `missing`, or `changed by hand`."""
        if graph.snapshot.commit is not None:
            return None
        found = self._files.md5(path)
        return None if found == made.md5 else Output(path, "missing" if found is None else "changed by hand")

    def check(self, tables: Tables, path: str, made: Made) -> None:
        """DataError where a revision's file could only be read from the workspace, and what lies there is another."""
        snapshot = tables.graph.snapshot
        here, found = snapshot.root / path, snapshot.find(path, made)
        if snapshot.commit is None or found not in (None, here) or not here.exists() or self._files.md5(path) == made.md5:
            return
        raise DataError(f"{path}: changed by hand here, and DVC's cache has it not as {snapshot.name} has it (md5 {made.md5}); "
                        f"{snapshot.brings('it', path)}")  # fmt: skip
