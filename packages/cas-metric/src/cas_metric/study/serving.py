"""Running the application, and saying where."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cas_metric.errors import InputError, MissingDependency
from cas_metric.study.store import open_study

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp


#: Connections that may wait to be taken.
BACKLOG: Final = 2048


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def exposure(host: str) -> str:
    """What to be warned of when listening on an address; empty for this machine alone."""
    if is_loopback(host):
        return ""
    return (
        f"{host} can be reached from other machines, and this server speaks plain HTTP: links and "
        "images travel readably. Use a proxy with TLS."
    )


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens: whoever connects before the first request is taken only waits.

    Raises:
        InputError: The address is taken or not this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            fix="choose another --port or --host",
        ) from error
    return found


def configure(app: ASGIApp) -> uvicorn.Config:
    """How the application is served.

    Nothing is logged about requests: their paths hold the raters' secrets.
    """
    import uvicorn

    return uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        # Longer than proxies and browsers keep an idle connection, so that none of them sends a
        # request just as we hang up.
        timeout_keep_alive=90,
    )


def run(
    folder: Path,
    host: str,
    port: int,
    *,
    ready: Callable[[str], None],
    public: str | None = None,
    complain: Callable[[str], None] = lambda text: None,
) -> None:
    """Serve the study in ``folder`` until interrupted.

    Args:
        folder: Of the study.
        host: Address to listen on.
        port: 0 for any that is free.
        ready: Told the address, once connections to it are accepted.
        public: Address of the proxy before the server, as raters write it.
        complain: Told of what whoever runs the study has to mend, such as a wrong proxy.

    Raises:
        MissingDependency: The extra ``study`` is not installed.
        InputError: No study, an unusable study.yaml, or an address that cannot be had.
    """
    try:
        import uvicorn

        from cas_metric.study.app import create_app
    except ModuleNotFoundError as error:
        raise MissingDependency(
            str(error.name), extra="study", purpose="serving a study"
        ) from error
    store = open_study(folder)
    config = configure(create_app(store, public=public, complain=complain))
    listener = bind(host, port)
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{listener.getsockname()[1]}")
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # how it is meant to end
    finally:
        listener.close()
        store.close()
