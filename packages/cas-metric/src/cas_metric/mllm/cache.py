"""Answers by content: what was paid for once is never paid for again.

One small JSON file an answer, named by the sha256 of everything that decides it: the model and its
parameters, the system prompt, the prompt, the bytes of the images, the schema, and what was said
before. A file is there as a whole or not at all, so a killed run loses nothing that arrived.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from cas_metric.embedding.cache import NO_CACHE, READING
from cas_metric.errors import CasError
from cas_metric.files import cache_directory, require_writable, write_bytes
from cas_metric.mllm.schemas import json_schema
from cas_metric.mllm.types import Conversation, Reply, Usage

#: Changes whenever the layout of a file or the making of a key does.
STORE: Final = "answers-v2"
ELSEWHERE: Final = "choose another directory with --cache DIR or CAS_CACHE"


def conversation_key(
    identity: Mapping[str, Any], conversation: Conversation, images: Sequence[str]
) -> str:
    """Name of an answer: sha256, as hex, of all that decides it.

    Versions of the packages that decode images are not part of it: a new one rarely makes other
    pixels, and all answers would be paid for again. When this package's own reading changes, they
    are.

    Args:
        identity: Of the model.
        conversation: What was said so far.
        images: sha256 of the bytes of each image.
    """
    request = conversation.request
    content: dict[str, Any] = {
        "model": dict(identity),
        "system": request.system,
        "prompt": request.prompt,
        "captions": request.captions,
        "images": list(images),
        "window": request.window.bounds if request.window else None,
        "schema": json_schema(request.schema),
        "yes_no": request.yes_no,
        "turns": [[turn.answer, turn.complaint] for turn in conversation.turns],
    }
    if images and READING > 1:  # the first has no number: answers were kept before it was counted
        content["reading"] = READING
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class AnswerCache:
    """The store in a directory; a context manager. Threads and processes may share it.

    Args:
        directory: ``None`` takes the directory of the embedding cache, ``"none"`` a temporary one
            that is removed on :meth:`close`.

    Raises:
        InputError: It cannot be written to: an answer is paid for before it can be kept.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self._temporary = None
        if directory == NO_CACHE:
            self._temporary = tempfile.TemporaryDirectory(prefix="cas-answers-")
            directory = self._temporary.name
        self.path = Path(directory or cache_directory()).expanduser() / STORE
        require_writable(self.path, fix=ELSEWHERE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove a temporary store."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def get(self, key: str) -> Reply | None:
        """The answer of a key; None where there is none, or none that can be read."""
        try:
            kept = json.loads(self._file(key).read_bytes())
            shares = kept["shares"]
            return Reply(
                text=str(kept["text"]),
                refusal=str(kept["refusal"]),
                truncated=bool(kept["truncated"]),
                usage=Usage(int(kept["input_tokens"]), int(kept["output_tokens"])),
                elsewhere=str(kept["elsewhere"]),
                fault=str(kept["fault"]),
                foreign=bool(kept["foreign"]),
                shares=(float(shares[0]), float(shares[1])) if shares else None,
                shares_from=kept["shares_from"],
            )
        except (OSError, ValueError, TypeError, KeyError, IndexError):
            return None  # asking again is the repair

    def put(self, key: str, reply: Reply) -> None:
        """Keep an answer, in place of an earlier one.

        Raises:
            CasError: The disk is full, or the directory cannot be written to.
        """
        kept = {
            "text": reply.text,
            "refusal": reply.refusal,
            "truncated": reply.truncated,
            "input_tokens": reply.usage.input_tokens,
            "output_tokens": reply.usage.output_tokens,
            "elsewhere": reply.elsewhere,
            "fault": reply.fault,
            "foreign": reply.foreign,
            "shares": reply.shares,
            "shares_from": reply.shares_from,
        }
        try:
            # ASCII: a model's text may hold halves of surrogates, which UTF-8 has no bytes for.
            write_bytes(self._file(key), json.dumps(kept).encode("ascii"))
        except CasError as error:
            raise CasError(
                error.problem,
                fix=f"free space, or {ELSEWHERE}; then run the same command again: what was "
                "answered is kept",
            ) from error

    def _file(self, key: str) -> Path:
        return self.path / key[:2] / f"{key}.json"
