"""What may leave this machine: texts without its absolute paths, wherever in them one stands.

A path ends at a blank, so one with blanks in it is known as a whole where it is quoted or all of the text.
"""

import os
import re
from pathlib import Path, PureWindowsPath
from typing import Any

LEAST = 2
"""Parts that a path has at least: a lone `/` or `/think` is text."""
HOME = r"(?:~(?:[A-Za-z_][\w.-]*)?|\$HOME|\$\{HOME\}|%USERPROFILE%)"
DRIVE = r"[A-Za-z]:[\\/](?![\\/])"
BEGINS = rf"(?:file:/+|/+|{HOME}[\\/])"
WHOLE = re.compile(rf"(?:{BEGINS}|{DRIVE})[^\n]*")
"""A text that is a path and nothing else."""
LOCAL = rf"(?:(?<![\w./…~)\]}}%*?+\\]){BEGINS}|(?<=\s-[A-Za-z]){BEGINS}|(?<=^-[A-Za-z]){BEGINS})"
"""Where a path begins in a text: not behind a word, a dot or a closing bracket (1/2, and/or, ../x, (a+b)/c/d); `-I/…` has one."""
PART = r"(?:\\.|(?<=\w)'(?=\w)|[^\s\"'`<>|\\])"
"""A character of it; a blank with a backslash before it is one too."""
STOPS = ".,;:!?)]}"
"""What ends a sentence or a bracket, not a path."""
FOUND = re.compile(
    rf"(?P<quote>[\"'`])(?P<quoted>(?:{BEGINS}|{DRIVE})[^\n\"'`]*)(?P=quote)"
    r"|(?P<url>(?<![\w-])(?!file:)[A-Za-z][\w+.-]+://(?!/)[^\s\"'`<>|,;\[\]]*)"
    rf"|(?P<scheme>(?<![\w-])(?!file:)[A-Za-z][\w+.-]+://)(?P<below>/{PART}+)"
    rf"|(?P<drive>(?<![A-Za-z\\]){DRIVE}[^\s\"'`<>|{{}}\\/]+[\\/][^\s\"'`<>|{{}}]+)"
    rf"|(?P<path>{LOCAL}{PART}+)"
)
"""Absolute paths, and URLs: those stay as they are, but for a `sqlite:////home/…` of this machine."""
USERS = re.compile(r"/(?:home|Users)/[^/]+")
"""A home folder: even its last part is a person's name."""


def public(value: Any, root: Path | None = None) -> Any:
    """A value as strangers may read it: of an absolute path only its last part is left, behind `…/`; of one inside `root`, what
    lies below that."""
    roots = [] if root is None else [os.path.abspath(root), os.path.realpath(root)]
    return _public(value, roots)


def _public(value: Any, roots: list[str]) -> Any:
    if isinstance(value, dict):
        return {_public(key, roots): _public(inner, roots) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_public(inner, roots) for inner in value]
    return _text(value, roots) if isinstance(value, str) else value


def _text(text: str, roots: list[str]) -> str:
    if WHOLE.fullmatch(text):
        return _short(text, roots)
    return FOUND.sub(lambda match: _found(match, roots), text)


def _found(match: re.Match[str], roots: list[str]) -> str:
    if path := match["quoted"]:
        return f"{match['quote']}{_short(path, roots)}{match['quote']}"
    if path := match["below"]:
        return f"{match['scheme']}{_short(path, roots)}"
    if path := match["path"] or match["drive"]:
        plain = path.rstrip(STOPS)
        return _short(plain, roots) + path[len(plain) :]
    return match[0]


def _short(told: str, roots: list[str]) -> str:
    """A path by its last part, or by what it is in one of the roots."""
    path = re.sub("^(file:)?/+", "/", told)
    if re.match(f"/?{DRIVE}", path):
        return f"…/{PureWindowsPath(path).name}"
    full = os.path.normpath(path)
    if inside := next((root for root in roots if full == root or full.startswith(f"{root}/")), None):
        return os.path.relpath(full, inside)
    if USERS.fullmatch(full):
        return "~"
    parts = [part for part in re.split(r"[\\/]" if path[0] != "/" else "/", path) if part]
    text = len(parts) < LEAST or not any(map(str.isalpha, path))
    return told if text and not told.startswith("file:") else f"…/{parts[-1]}" if parts else "…"
