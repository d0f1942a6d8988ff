"""Which named encoder this is, told by the content of its files.

A name or a folder proves nothing: a random model may lie in a folder called ``siglip``, and a
snapshot under the pinned commit may hold anything. Where the sha256 of an encoder's files are
publicly known they decide; where they are not, a pinned revision is all that can be said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cas_metric.encoders.hub import READ_FILES
from cas_metric.encoders.registry import list_encoders

if TYPE_CHECKING:
    from cas_metric.encoders.family import EncoderInfo

Status = Literal["verified", "unverified", "custom"]


@dataclass(frozen=True)
class Identity:
    """Who an encoder is.

    Attributes:
        alias: Its alias where it is one of the named encoders; else what it goes by.
        status: ``verified`` by content; ``unverified`` where only the revision is known; else
            ``custom``.
        reason: What to say beside the alias; empty where it is verified or like no named one.

    Examples:
        >>> Identity("siglip", "unverified", "revision alone is known").alias
        'siglip'
    """

    alias: str
    status: Status
    reason: str = ""

    @property
    def description(self) -> str:
        """What a protocol or a report calls it: the bare alias only where the content is right."""
        return f"{self.alias} ({self.reason})" if self.reason else self.alias


def identify(encoder: Any) -> Identity:
    """Tell which named encoder ``encoder`` is.

    Args:
        encoder: An :class:`~cas_metric.encoders.Encoder`; its ``files`` (sha256 by name) decide,
            its name and revision only where no content is known.

    Examples:
        >>> from cas_metric.encoders import load_encoder
        >>> identify(load_encoder("phantom-siglip", device="cpu")).status
        'custom'
    """
    files: Mapping[str, str] = getattr(encoder, "files", {})
    known = [info for info in list_encoders() if not info.embedded]
    for info in known:
        if info.sha256 and not differences(files, info):
            return Identity(info.alias, "verified")
    for info in known:
        if (encoder.name, encoder.revision) == (info.hub_id, info.revision):
            if not info.sha256:
                return Identity(info.alias, "unverified", "revision pinned, content unverified")
            differing = ", ".join(differences(files, info))
            return Identity(encoder.name, "custom", f"not the published files: {differing}")
    taken = {name for info in known for name in (info.alias, info.hub_id)}
    named_so = f"only named so, revision {encoder.revision}" if encoder.name in taken else ""
    return Identity(encoder.name, "custom", named_so)


def differences(files: Mapping[str, str], info: EncoderInfo) -> list[str]:
    """Names of files that are missing, other, or read besides those that were published."""
    published = dict(info.sha256)
    read = {name: digest for name, digest in files.items() if name in READ_FILES}
    return sorted(name for name in published | read if read.get(name) != published.get(name))
