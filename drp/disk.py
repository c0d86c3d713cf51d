"""The disk: what a folder lists, to stay so when the machine stops."""

import os
from pathlib import Path


def sync(folder: Path) -> None:
    """Make the names in a folder durable: what was made, renamed and removed there. (A file's contents are its writer's.)"""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
