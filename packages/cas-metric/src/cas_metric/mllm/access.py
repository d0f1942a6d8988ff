"""Where a server is, and the key to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from cas_metric.errors import InputError, ModelUnavailable
from cas_metric.mllm.secrets import Secret

OPENAI: Final = "https://api.openai.com/v1"
#: The one query that an address may carry: Azure's addresses by deployment want it.
_QUERY: Final = "api-version"
_AZURE: Final = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")


@dataclass(frozen=True)
class Access:
    """Where a server is, and the key to it, which ``repr`` does not show.

    Attributes:
        base_url: Address, with Azure's ``api-version`` where it was given.
        secret: The key.
    """

    base_url: str
    secret: Secret

    @property
    def chat_url(self) -> str:
        """Where questions go; the query stays at the end."""
        parts = urlsplit(self.base_url)
        path = f"{parts.path.rstrip('/')}/chat/completions"
        return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))

    @property
    def headers(self) -> dict[str, str]:
        """The key in the one header that the server reads: ``api-key`` on Azure."""
        key = self.secret.key
        if not key:
            return {}
        return {"api-key": key} if _is_azure(self.base_url) else {"Authorization": f"Bearer {key}"}


def access_from(environment: Mapping[str, str], base_url: str | None = None) -> Access:
    """Base URL and key.

    ``CAS_MLLM_BASE_URL`` with ``CAS_MLLM_API_KEY`` come before ``OPENAI_BASE_URL`` with
    ``OPENAI_API_KEY``. The latter key goes to no address that was given for this package alone.

    Args:
        environment: E.g. ``os.environ``.
        base_url: An address that comes before all of them.

    Raises:
        InputError: The URL is none, or holds a user name, a password or a query other than
            Azure's ``api-version``.
        ModelUnavailable: OpenAI's own server is meant, and there is no key.
    """
    own = base_url or environment.get("CAS_MLLM_BASE_URL")
    url = (own or environment.get("OPENAI_BASE_URL") or OPENAI).rstrip("/")
    key = environment.get("CAS_MLLM_API_KEY") or ""
    if not key and not own:
        key = environment.get("OPENAI_API_KEY") or ""
    parts = _address(url)
    foreign = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - {_QUERY}
    if parts.username or parts.password or foreign or parts.fragment:
        raise InputError(
            f"the base URL of {parts.hostname} holds a user name, a password or a query other than "
            f"{_QUERY}",
            fix="set the address alone as CAS_MLLM_BASE_URL, and the key as CAS_MLLM_API_KEY",
        )
    if not key.isascii() or not key.isprintable():
        raise InputError(
            "the API key holds characters that no header can carry",
            fix="set CAS_MLLM_API_KEY or OPENAI_API_KEY again, without quotes and line breaks",
        )
    if url == OPENAI and not key:
        raise ModelUnavailable(
            f"{OPENAI} wants a key, and neither CAS_MLLM_API_KEY nor OPENAI_API_KEY is set",
            fix="export OPENAI_API_KEY=…; or CAS_MLLM_BASE_URL for a server of your own",
        )
    return Access(url, Secret(key))


def _is_azure(url: str) -> bool:
    parts = urlsplit(url)
    return (parts.hostname or "").endswith(_AZURE) or _QUERY in parts.query


def _address(url: str) -> SplitResult:
    """The parts of an http(s) address that can be connected to."""
    try:
        parts = urlsplit(url)
        # Wrong ports and host names would otherwise be noticed at the first call.
        usable = parts.scheme in ("http", "https") and parts.port != 0
        usable = usable and bool((parts.hostname or "").encode("idna"))
    except ValueError:
        usable = False
    if not usable:
        raise InputError(
            "the base URL of the model server is no http(s) address",
            fix="set CAS_MLLM_BASE_URL, e.g. http://localhost:8000/v1",
        )
    return parts
