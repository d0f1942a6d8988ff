"""HTTP calls that are over by a deadline, whatever the server does.

A client's own timeouts bound each read, so a server that sends a byte now and then, also of its
headers, keeps a call open for ever. Here a call as a whole is a coroutine with one deadline, on an
event loop that all threads share.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine, Mapping
from functools import cache
from typing import Any, Final

from cas_metric.errors import MissingDependency

#: Seconds for a connection to stand, of those for the call.
_CONNECT: Final = 10.0
_STARTING: Final = threading.Lock()
#: An answer of this many bytes is none; the rest is not read.
MAX_BYTES: Final = 10_000_000


class Transport:
    """Posts JSON to one server.

    Args:
        headers: Of every call.
        timeout: Seconds for a whole call: name look-up, connection, headers and body.
        verify: Whether to load certificates, which takes longer than a local server to answer.

    Raises:
        MissingDependency: The extra ``mllm`` is not installed.
    """

    def __init__(self, headers: Mapping[str, str], *, timeout: float, verify: bool) -> None:
        try:
            import httpx2
        except ImportError as error:
            raise MissingDependency(
                "httpx2", extra="mllm", purpose="models behind an HTTP endpoint"
            ) from error
        #: Exceptions of :meth:`post`, beside TimeoutError.
        self.errors = httpx2
        self._timeout = timeout
        self._client = httpx2.AsyncClient(
            headers=dict(headers),
            verify=verify,
            timeout=httpx2.Timeout(timeout, connect=min(_CONNECT, timeout)),
            limits=httpx2.Limits(max_connections=256, max_keepalive_connections=256),
        )
        weakref.finalize(self, _close, self._client)

    def post(self, url: str, content: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and at most :data:`MAX_BYTES` + 1 bytes of the answer.

        Raises:
            TimeoutError: The deadline has passed.
            httpx2.HTTPError: No connection, or a broken one.
        """
        return asyncio.run_coroutine_threadsafe(self._post(url, content), _loop()).result()

    async def _post(self, url: str, content: bytes) -> tuple[int, dict[str, str], bytes]:
        received = bytearray()
        async with (
            asyncio.timeout(self._timeout),
            self._client.stream(
                "POST", url, content=content, headers={"Content-Type": "application/json"}
            ) as response,
        ):
            async for chunk in response.aiter_bytes():
                received += chunk
                if len(received) > MAX_BYTES:
                    break
            return response.status_code, dict(response.headers), bytes(received[: MAX_BYTES + 1])


@cache
def _started() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="mllm-http", daemon=True).start()
    return loop


def _loop() -> asyncio.AbstractEventLoop:
    """The one loop of the process."""
    with _STARTING:  # a cache alone lets two threads start one each
        return _started()


def _close(client: Any) -> None:
    closing: Coroutine[Any, Any, None] = client.aclose()
    asyncio.run_coroutine_threadsafe(closing, _loop())
