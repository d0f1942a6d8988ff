"""From a spec to a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from cas_metric.errors import InputError
from cas_metric.mllm.endpoint import Settings, open_endpoint
from cas_metric.mllm.types import Model

#: The embedded model, as a directory beside the embedded encoders.
PHANTOM: Final = "phantom-llava"
#: Tokens of its longest answer and some more: one that it does not end itself is no answer.
_LONGEST: Final = 200
_EMBEDDED: Final = Path(__file__).parent.parent / "phantoms" / "weights" / PHANTOM


def open_model(
    spec: str,
    settings: Settings | None = None,
    *,
    base_url: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    offline: bool = False,
) -> Model:
    """Open a multimodal language model.

    Args:
        spec: ``openai:MODEL`` for a model behind a chat-completions endpoint, whose address and
            key come from ``CAS_MLLM_BASE_URL`` and ``CAS_MLLM_API_KEY``, else from
            ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``; or ``local:DIR`` or
            ``local:OWNER/NAME[@REVISION]`` for one on this machine; or ``phantom-llava``, the
            embedded one, which was trained on drawings and reads nothing else.
        settings: Temperature, limits, timeout.
        base_url: Address of the endpoint, in place of the environment's.
        device: Of a local model.
        dtype: Of a local model: auto, float32, bfloat16 or float16.
        offline: Never use the network: no server, and no hub for a local model.

    Raises:
        InputError: No such spec, settings that cannot be, or a server with ``offline``.
        ModelUnavailable: No key, or no files.
        MissingDependency: An extra is missing.
    """
    scheme, colon, name = spec.partition(":")
    settings = settings or Settings()
    if spec == PHANTOM:
        from cas_metric.mllm.local import LocalModel

        bounded = replace(settings, max_tokens=min(settings.max_tokens, _LONGEST))
        model = LocalModel(_EMBEDDED, bounded, device=device, dtype=dtype, name=spec)
        model.notes = (f"{PHANTOM} was trained on drawings: of real images it says nothing",)
        return model
    if colon and name and scheme == "openai":
        if offline:
            raise InputError(
                f"{spec} is behind a server, and --offline uses no network",
                fix="leave --offline out, or name a model on this machine: local:DIR",
            )
        return open_endpoint(name, settings, base_url=base_url)
    if colon and name and scheme == "local":
        from cas_metric.mllm.local import open_local

        return open_local(name, settings, device=device, dtype=dtype, offline=offline)
    raise InputError(
        f"{spec!r} names no multimodal language model",
        fix=f"openai:MODEL for a chat-completions endpoint, local:DIR or local:OWNER/NAME, or "
        f"{PHANTOM}",
    )
