"""Where a server is and how to prove who asks: its URL, and the secret in the variable that the endpoint names."""

import os
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
        raise ConfigError(f"run.{model.role}.base_url: {url!r} is not an http(s) URL such as http://127.0.0.1:8000/v1")
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
    """The URL without a user name and password, which may be secret."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


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
