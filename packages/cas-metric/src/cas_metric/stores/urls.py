"""URLs: which are read, by which package, and how they are shown without what is secret."""

from __future__ import annotations

import errno
import os
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeGuard
from urllib.parse import urlsplit

from cas_metric.errors import InputError, MissingDependency
from cas_metric.stores.hosts import client, is_own

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

#: Protocols that are read, with the package that speaks each and the extra that brings it.
PROTOCOLS: Final = {
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "gcs": ("gcsfs", "gcs"),
    "az": ("adlfs", "azure"),
    "abfs": ("adlfs", "azure"),
    "abfss": ("adlfs", "azure"),
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
    "hf": ("huggingface_hub", ""),
    "memory": ("fsspec", ""),
}
#: Seconds without an answer after which a request has failed.
TIMEOUT: Final = 60
_BEGINNING: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):/+")
_ANY: Final = re.compile(r"\b[A-Za-z][A-Za-z0-9+.\-]+:/{1,2}[^\s<>]*")
_ENDINGS: Final = ",.;:)]'\""
_LITERAL: Final = r"\[[0-9A-Fa-f:.]+(?:%[\w.~-]+)?\]"
#: A host, perhaps with a port, at the beginning of what follows ``://``.
_HOST: Final = re.compile(rf"(?:{_LITERAL}|[^/?#@:\[\]]*)(?::[0-9]{{0,5}})?(?=[/?#]|\Z)")
_HTTP: Final = re.compile(rf"https?://(?:[^/?#]*@)?{_HOST.pattern}", re.IGNORECASE)
_IPV6: Final = re.compile(rf"{_LITERAL}(?=[:/?#]|\Z)")
#: Here what stands before ``@`` is the container.
_NO_USER: Final = ("az", "abfs", "abfss")
#: OSErrors of this machine, or of a file that is what it is.
_FINAL: Final = (errno.EFBIG, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def url_of(text: str) -> str:
    """The URL that a text is, also one whose slashes a path took: ``s3:/bucket``; else empty.

    Examples:
        >>> url_of("s3:/bucket/a.png"), url_of("a.png"), url_of("C:/a.png")
        ('s3://bucket/a.png', '', '')
    """
    match = _BEGINNING.match(text)
    return f"{match[1].lower()}://{text[match.end() :]}" if match else ""


def shown(url: str) -> str:
    """A URL by itself, without user name, password, query and fragment.

    Whatever may be a password goes, also one whose signs should have been encoded: where no host
    follows ``://``, all up to the last ``@`` before the query.

    Examples:
        >>> shown("https://me:pa/ss@host/a.png?sig=1"), shown("hf://datasets/me/set@main/a.png")
        ('https://host/a.png', 'hf://datasets/me/set@main/a.png')
    """
    match = _BEGINNING.match(url)
    if match is None:
        return url
    rest = url[match.end() :]
    head = re.split("[?#]", rest, maxsplit=1)[0]
    if match[1].lower() not in _NO_USER and not _HOST.match(rest):
        named = (head if "@" in head else rest).rpartition("@")[2]
        head = re.split("[?#]", named, maxsplit=1)[0]
    return url[: match.end()] + head


def scrubbed(text: str) -> str:
    """Prose without user names, passwords and query strings in the URLs that it names.

    Examples:
        >>> scrubbed("403 of https://me:word@host/a.png?X-Amz-Signature=1f, denied")
        '403 of https://host/a.png, denied'
    """
    return _ANY.sub(_within_prose, text)


def _within_prose(match: re.Match[str]) -> str:
    url = match[0].rstrip(_ENDINGS)  # a sentence goes on behind the URL
    return shown(url) + match[0][len(url) :]


def protocol_of(url: str) -> str:
    """The protocol of a URL that may be read.

    Raises:
        InputError: It is none of :data:`PROTOCOLS`, or a chain of several.
    """
    protocol = url.partition("://")[0].lower()
    if protocol not in PROTOCOLS:
        raise InputError(
            f"{shown(url)}: images are not read from {protocol}://",
            fix=f"give a local path, or one of {', '.join(f'{p}://' for p in PROTOCOLS)}",
        )
    if protocol in ("http", "https") and not _HTTP.match(url):
        raise InputError(
            f"{shown(url)}: what stands before the path is no host",
            fix="write the signs / ? # @ : of a user name or password as %2F %3F %23 %40 %3A",
        )
    if "::" in _IPV6.sub("", url, count=1):
        raise InputError(
            f"{shown(url)}: chained URLs are not read",
            fix="name the archive itself; it is opened by its ending",
        )
    return protocol


def problem(url: str) -> str:
    """Why a file, such as a table or a cas.yaml, may not name a URL; empty if it may.

    Where a name or redirect leads is seen when it is followed: :mod:`cas_metric.stores.hosts`.
    """
    try:
        protocol_of(url)
        host = urlsplit(url).hostname or ""
    except InputError as error:
        return error.problem
    except ValueError:
        return f"{shown(url)} is no URL"
    return f"{shown(url)} is an address of the machine's own network" if is_own(host) else ""


def require_online(url: str, offline: bool) -> None:
    """Refuse a remote address where the network is not to be used.

    Raises:
        InputError: It is not to be used, and the URL needs it.
    """
    if offline and protocol_of(url) != "memory":
        raise InputError(
            f"{shown(url)} is on the network, and --offline uses none",
            fix="copy the images to this machine, or leave --offline out",
        )


@cache
def file_system(protocol: str) -> AbstractFileSystem:
    """What speaks a protocol, with the credentials that its package finds by itself.

    Raises:
        MissingDependency: The package is not installed; the fix names the extra.
        InputError: It cannot be set up, as without credentials.
    """
    import fsspec

    package, extra = PROTOCOLS[protocol]
    try:
        return fsspec.filesystem(protocol, **_settings(protocol))
    except ImportError as error:
        raise MissingDependency(package, extra=extra, purpose=f"images on {protocol}://") from error
    except Exception as error:
        raise InputError(
            f"{protocol}:// cannot be used: {cause_of(error)}", fix="check its credentials"
        ) from error


def _settings(protocol: str) -> dict[str, Any]:
    """Time limits, in each package's own words; nothing that lists is kept from run to run."""
    if protocol in ("http", "https"):
        import aiohttp

        limit = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
        return {"client_kwargs": {"timeout": limit, "trust_env": True}, "get_client": client}
    if protocol in ("s3", "s3a"):
        limits = {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT}
        return {"config_kwargs": limits, "use_listings_cache": False}
    return {"use_listings_cache": False} if protocol not in ("hf", "memory") else {}


def forget_listings(protocol: str) -> None:
    """Ask anew what there is: the client of ``hf://`` knows no setting for it."""
    if protocol == "hf":
        file_system(protocol).invalidate_cache()


def cause_of(error: BaseException) -> str:
    """Why something remote could not be read, in a few words and without secrets."""
    if isinstance(error, FileNotFoundError) and _is_of_the_network(error.__cause__):
        error = error.__cause__  # so fsspec calls whatever keeps it from asking for the size
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) or status == 404:
        return "no such file"
    if isinstance(error, PermissionError) or status in (401, 403):
        return "permission denied" + (f" (HTTP {status})" if status else "")
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT} s"
    if status:
        return f"the server answers HTTP {status}"
    if type(error).__name__ == "NonHttpUrlRedirectClientError":
        return "the server sends on to an address that is not http"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return scrubbed(" ".join(text.split()))[:200] or type(error).__name__


def _is_of_the_network(error: BaseException | None) -> TypeGuard[BaseException]:
    return type(error).__module__.startswith("aiohttp") or isinstance(error, TimeoutError)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed a little later."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in (408, 429) or status >= 500
    final = (FileNotFoundError, PermissionError, IsADirectoryError, ValueError)
    if isinstance(error, OSError) and error.errno in _FINAL:
        return False
    transient = isinstance(error, OSError | TimeoutError) or type(error).__module__.startswith(
        ("aiohttp", "botocore", "aiobotocore", "httpx", "httpcore")
    )
    return transient and not isinstance(error, final)


def joined(url: str, name: str) -> str:
    """The URL of a file below that of a folder."""
    if not url.startswith(("http://", "https://")):
        return f"{url.rstrip('/')}/{name}" if name else url
    from urllib.parse import quote, urlunsplit

    parts = urlsplit(url)  # what signs a folder signs what is in it
    path = f"{parts.path.rstrip('/')}/{quote(name)}" if name else parts.path
    return urlunsplit(parts._replace(path=path))


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a text or path is a URL."""
    return bool(url_of(path if isinstance(path, str) else os.fspath(path)))
