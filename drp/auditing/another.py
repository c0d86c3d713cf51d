"""Another drp than the one that stages were compiled with: of which ops the code differs, which versions they are, the cures."""

from collections.abc import Iterable, Mapping

from drp import __version__, ops
from drp.auditing.finding import MANY, Why
from drp.errors import DrpError
from drp.pipeline import oplock
from drp.project import Project


class Another:
    """The ops of drp's own whose code here is not what recipes/ops.lock.yaml says; `made_with` are the versions of drp that the
    manifests name. An op of the project's own is its authors', not another drp's."""

    def __init__(self, project: Project, made_with: Iterable[str]) -> None:
        self._file = project.ops_lock.relative_to(project.root)
        self._versions = " and ".join(sorted(set(made_with))) or "of no known version"
        self.codes = dict(_differing(project, oplock.read(project)))

    def why(self, op: str) -> Why | None:
        """What is said of a stage of that op; None where its code is the same, or not drp's."""
        if op not in self.codes:
            return None
        here, there = f"this drp ({__version__}", f"is not the one that it was compiled with ({self._versions}"
        locked, now = self.codes[op]
        return Why(f"{here}, code of {op} {now[:8]}) {there}, {locked[:8]} by {self._file}); {self._cure}", self._cause)

    @property
    def _cause(self) -> str:
        told = [f"{op} ({locked[:8]}, here {now[:8]})" for op, (locked, now) in self.codes.items()]
        some = ", ".join(told[:MANY]) + (f" and {len(told) - MANY} more" if len(told) > MANY else "")
        return (
            f"this drp ({__version__}) is not the one that they were compiled with ({self._versions}), by {self._file}: of other "
            f"code are {some}; {self._cure}"
        )

    @property
    def _cure(self) -> str:
        which = f"drp {self._versions}"
        if self._versions == __version__:
            which = f"the drp {__version__} with that code (which commit, the sender knows)"
        return (
            f"to check what others made, install {which}; of one's own, `drp same OP` where the op still means the same (nothing "
            "reruns), else `drp compile` and `dvc repro`"
        )


def _differing(project: Project, locked: Mapping[str, oplock.Entry]) -> Iterable[tuple[str, tuple[str, str]]]:
    """Name, code by the lock, code here."""
    for name in sorted(locked.keys() & {*ops.names(), oplock.RULES}):
        try:
            version, code = oplock.version_and_code(project, name)
        except DrpError:  # an op of this name in ops/: whoever uses it hears of it
            continue
        if code != locked[name].code or not locked[name].fingerprint.startswith(f"{version}-"):
            yield name, (locked[name].code, code)
