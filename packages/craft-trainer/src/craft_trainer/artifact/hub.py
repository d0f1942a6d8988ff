"""Putting an artefact on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from cas_metric.errors import InputError


def require_login(repository: str) -> None:
    """Fail before a run where its artefact could not be pushed after it.

    Raises:
        InputError: The name is none, nobody is logged in, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    if repository.count("/") != 1 or not all(repository.split("/")):
        raise InputError(f"{repository!r} is no repository", fix="name it OWNER/NAME")
    try:
        HfApi().whoami()
    except (HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise _explained(repository, error) from error


def push_to_hub(artifact: Path, repository: str, *, private: bool = True) -> str:
    """Upload an artefact as a model repository, which is made where there is none.

    The folder goes up as it is: weights, model card with its curves and samples, and the
    configuration with its paths. The token is the one of ``hf auth login`` or of ``HF_TOKEN``.

    Args:
        artifact: Folder of a stage's artefact.
        repository: ``OWNER/NAME``.
        private: Whether a repository that is made is private.

    Returns:
        Its address.

    Raises:
        InputError: The hub refuses it, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    api = HfApi()
    try:
        made = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=artifact, commit_message="Upload of craft-trainer"
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise _explained(repository, error) from error
    return str(made)


def _explained(repository: str, error: Exception) -> InputError:
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return InputError(
        f"{repository} cannot be pushed to: {reason}",
        fix="log in with `hf auth login` or set HF_TOKEN, with the right to write there",
    )
