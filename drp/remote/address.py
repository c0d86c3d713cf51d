"""Where a server is and how to prove who asks: its URL, and the secret in the variable that the endpoint names."""

import base64
import os
import re
import urllib.parse

from drp.errors import ConfigError
from drp.models import Model

PUBLIC = "https://api.openai.com/v1"
"""OpenAI's own server, where an endpoint names none."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def url_of(model: Model) -> str:
    """The endpoint's `base_url`, or OpenAI's own; ConfigError where it is no URL."""
    url = model.endpoint.base_url or PUBLIC
    if not is_http(url):
        shown = _cut(url)  # whatever it is, it may hold a password
        raise ConfigError(f"run.{model.role}.base_url: {shown!r} is not an http(s) URL such as http://127.0.0.1:8000/v1")
    return url


def is_http(url: str) -> bool:
    """Whether a text is an http(s) URL with a host."""
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def is_loopback(url: str) -> bool:
    """Whether the server is on this machine: no proxy stands between."""
    return urllib.parse.urlsplit(url).hostname in LOOPBACK


def without_user(url: str) -> str:
    """The URL without a user name and password, which may be secret; what is no URL is cut up to its last "@"."""
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.netloc:
            return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    except ValueError:
        pass
    return _cut(url)


def _cut(url: str) -> str:
    """The text without all that is between its scheme and its last "@"."""
    return re.sub(r"^([A-Za-z][\w+.-]*://)?.*@", r"\1", url, flags=re.DOTALL)


def secrets_in(url: str) -> set[str]:
    """The password of a URL in all the forms in which a server may repeat it."""
    user = urllib.parse.urlsplit(url).netloc.rpartition("@")[0]
    password = user.partition(":")[2]
    packed = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
    return {password, urllib.parse.unquote(password), packed} - {""}


def hide(text: str, secrets: set[str]) -> str:
    """The text with stars for each secret."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def variable_of(model: Model) -> str | None:
    """The name of the variable that holds the key; None where none is needed (a server of one's own)."""
    return model.endpoint.key or ("OPENAI_API_KEY" if model.endpoint.base_url is None else None)


def secret_of(model: Model) -> str | None:
    """The secret in that variable; ConfigError where it is not set."""
    name = variable_of(model)
    if name is None:
        return None
    secret = os.environ.get(name)
    if not secret:
        raise ConfigError(f"run.{model.role}.key: the environment variable {name} is not set; export it with the server's key")
    return secret
