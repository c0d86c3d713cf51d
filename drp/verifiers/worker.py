"""The worker process of the pool: judges the cases that come in on stdin, a batch a line, and answers a line a case."""

import json
import os
import signal
import sys
from typing import Any, BinaryIO

from drp import fence
from drp.errors import DrpError, UndeclaredRead
from drp.mortality import die_with_parent
from drp.verifiers import Verifier, named


def serve() -> None:
    """Judge until stdin ends. What a verifier prints goes to stderr: stdout is for answers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    die_with_parent(signal.SIGKILL)  # also in the middle of a case
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    fence.inherit()
    try:
        try:
            verifier = named(sys.argv[1])
        finally:
            _allowed(out)
    except DrpError as error:
        _tell(out, {"failed": str(error), "kind": type(error).__name__})
        return
    _tell(out, {"ready": os.getpid()})
    for line in sys.stdin.buffer:
        for reply, answer in json.loads(line):
            _tell(out, _judged(verifier, reply, answer, out))


def _judged(verifier: Verifier, reply: str, answer: str, out: BinaryIO | Any) -> Any:
    try:
        prediction, correct = verifier(reply, answer)
    finally:
        _allowed(out)
    return [prediction, bool(correct)]


def _allowed(out: BinaryIO | Any) -> None:
    """Tell of a read that the stage's fence refused, whatever the verifier made of the error."""
    if said := fence.found(sys.exception()):
        _tell(out, {"failed": said, "kind": UndeclaredRead.__name__})


def _tell(out: BinaryIO | Any, message: Any) -> None:
    out.write(json.dumps(message).encode() + b"\n")
