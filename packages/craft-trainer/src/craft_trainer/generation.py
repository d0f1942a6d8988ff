"""Seeds × prompts as a folder for ``cas score``, and what a drawn folder says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cas_metric.encoders.memory import digest_of
from cas_metric.errors import InputError, PreflightError
from cas_metric.files import require_writable
from cas_metric.images import IMAGE_SUFFIXES
from cas_metric.manifest import (
    FolderConfig,
    read_folder_config,
    write_folder_config,
    write_manifest,
)
from craft_trainer.artifact.folder import (
    LOADING,
    find_artifact,
    load_base,
    load_trained,
    origin_of,
)
from craft_trainer.artifact.identity import CONFIG_FILE, stage_of, stored_identity
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.bases.loading import default_device, require_sampling
from craft_trainer.bases.lora import scale_lora
from craft_trainer.config.schema import Config, require_effect, resolve
from craft_trainer.config.sections import Sampling
from craft_trainer.data.dataset import Examples, conditioning_texts, read_examples
from craft_trainer.data.rows import domain_of, repeated_ids
from craft_trainer.inference import Drawing, draw_missing, noise_seed
from craft_trainer.runtime import Progress, silent
from craft_trainer.runtime.checkpoints import require_same
from craft_trainer.runtime.lock import alone_in
from craft_trainer.runtime.telling import tell_notes, tell_truncated

if TYPE_CHECKING:
    import pandas as pd


class Generated(NamedTuple):
    """Images of one artefact.

    Attributes:
        folder: With ``metadata.csv`` and ``cas.yaml``: what ``cas score`` reads.
        artifact: What they were drawn with.
        drawn: Images drawn now.
        kept: Images that were there.

    Examples:
        >>> made = generate(trained, prompts, tmp / "again", seeds=1)
        >>> made.drawn + made.kept
        8
    """

    folder: Path
    artifact: Path
    drawn: int
    kept: int


def generate(
    artifact: str | Path,
    /,  # which is also a setting, and one that changes no image
    prompts: str | Path,
    out: str | Path,
    *,
    stage: str | int | None = None,
    seeds: int = 5,
    batch_size: int = 8,
    method: str | None = None,
    zero_shot: bool = False,
    prompt: str | None = None,
    lora_scale: float = 1.0,
    progress: Progress = silent,
    **overrides: Any,
) -> Generated:
    """Draw every prompt of a manifest with several seeds into a folder that ``cas score`` reads.

    Base model, sampler and guidance are those of training, unless replaced. Images that exist are
    kept: the same call continues an interrupted one.

    Args:
        artifact: Folder of a run, of one of its stages, or of an artefact.
        prompts: Manifest of the real images to re-synthesise, with labels and prompts.
        out: Folder for the images.
        stage: Of a run: number or method; by default the last finished one.
        seeds: Images a prompt.
        batch_size: Images in a pass.
        method: Name in the tables; by default the stage's.
        zero_shot: Leave the artefact out: the base model alone.
        prompt: Template of the text, with ``{prompt}``, ``{label}``, ``{token}``; by default the
            stage's.
        lora_scale: How much of the adapter counts: 0 is the base model.
        progress: Told after every batch.
        overrides: Settings other than those of training: ``**{"sampling.steps": 50}``.

    Raises:
        InputError: There is no such artefact, ``out`` holds images of another origin or is being
            written to, the base model cannot take such steps, or an override changes no image.
        PreflightError: Rows lack what the template needs, or share an id; all are listed.
        ModelUnavailable: The base model cannot be had here.

    Examples:
        >>> import craft_trainer
        >>> made = craft_trainer.generate(trained, prompts, tmp / "gen", seeds=1)
        >>> made.drawn, (made.folder / "metadata.csv").is_file()
        (8, True)
    """
    found = find_artifact(Path(artifact), None if stage is None else str(stage))
    own = f"stages.{len(stored_identity(found).get('stages', ())) - 1}.prompt"
    require_effect(overrides, (*LOADING, "data", "sampling", own), "generated images")
    config = resolve(found / CONFIG_FILE, **overrides)
    trained = stage_of(found, config)
    require_sampling(config)
    examples = read_examples(Path(prompts), config.data.domain)
    if problems := repeated_ids(examples.manifest):
        fix = f"give each row of {prompts} an id of its own: images are paired by it"
        raise PreflightError(problems, fix=fix)
    folder = Path(out)
    require_writable(folder)
    device = default_device()
    model = load_base(config, device) if zero_shot else load_trained(found, config, device)
    scale_lora(model, lora_scale)
    template = prompt or ("{prompt}" if zero_shot else trained.prompt)
    texts = conditioning_texts(examples, template, model.tokens)
    tell_notes(examples.manifest.notes)
    tell_truncated(model, texts)
    origin = {
        **origin_of(found, config),
        "zero_shot": zero_shot,
        "lora_scale": lora_scale,
        "prompt": template,
    }
    told = folder_config(config, examples, texts, origin)
    require_own_folder(folder, told)  # a refused one gets no file at all
    with alone_in(folder, "--out"):
        claim_folder(folder, told)
        drawn = generate_folder(
            model,
            examples,
            texts,
            folder,
            seeds=range(seeds),
            method=method or ("zero_shot" if zero_shot else trained.method),
            sampling=config.sampling,
            resolution=config.data.resolution,
            batch_size=batch_size,
            progress=lambda done, total: progress("images", done, total),
        )
    return Generated(folder, found, drawn, len(examples) * seeds - drawn)


def folder_config(
    config: Config, examples: Examples, texts: Sequence[str], origin: dict[str, Any]
) -> FolderConfig:
    """The ``cas.yaml`` of generated images: ``cas score`` then needs no option.

    Args:
        config: Of the run; it knows the domain and the real training split, for the probe.
        examples: The prompts' manifest.
        texts: ``N`` conditioning texts.
        origin: Further provenance: what was drawn with.

    Returns:
        Domain, training split and provenance. The last says all that decides an image but its
        seed.
    """
    train = config.data.train.absolute()
    domain = domain_of(examples.manifest, config.data.domain)
    if domain is None and (real := read_folder_config(train if train.is_dir() else train.parent)):
        domain = real.domain
    return FolderConfig(
        domain=domain,
        train=train if train.exists() else None,
        provenance=drawn_with("craft-trainer generate", config, examples, texts, origin),
    )


def drawn_with(
    made_by: str,
    config: Config,
    examples: Examples,
    texts: Sequence[str],
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """All that decides an image of ``made_by`` but its seed; arguments as of `folder_config`."""
    drawn = list(zip(examples.manifest.rows["id"], texts, strict=True))
    return {
        "made_by": made_by,
        **origin,
        "sampling": config.sampling.model_dump(mode="json"),
        "resolution": config.data.resolution,
        "dtype": config.dtype,
        "texts_sha256": digest_of(drawn),
    }


def claim_folder(folder: Path, config: FolderConfig) -> None:
    """Write ``cas.yaml``, before any image, into a folder that is held.

    Raises:
        InputError: As of :func:`require_own_folder`.
    """
    require_own_folder(folder, config)
    write_folder_config(folder, config)


def require_own_folder(folder: Path, config: FolderConfig) -> None:
    """Refuse a folder of other images: it holds those of one origin.

    Raises:
        InputError: The folder holds images that were drawn with other settings, which are named,
            or of which nothing is known: real ones, for example.
    """
    stored = read_folder_config(folder)
    if stored is not None and stored.provenance:
        require_same(stored.provenance, config.provenance, folder, "--out")
    elif stored is not None or _holds_images(folder):
        raise InputError(
            f"{folder} holds images, and nothing says what they were drawn with",
            fix="name another folder with --out",
        )


def _holds_images(folder: Path) -> bool:
    """Whether there are images, or a table that names some elsewhere."""
    return any(
        path.suffix.lower() in IMAGE_SUFFIXES or path.stem == "metadata"
        for path in folder.rglob("*")
    )


def generate_folder(
    model: DiffusionModel,
    examples: Examples,
    texts: Sequence[str],
    folder: Path,
    *,
    seeds: Sequence[int],
    method: str,
    sampling: Sampling,
    resolution: int,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write seeds × prompts as a folder with ``metadata.csv`` that ``cas score`` reads.

    Images that are already there are kept, so that an interrupted call continues. Each names the
    row of ``examples`` that it re-synthesises as its reference.

    Args:
        model: Base model with the artefact in it.
        examples: The prompts' manifest: real images, labels and prompts.
        texts: ``N`` conditioning texts, one an example.
        folder: Made where it does not exist.
        seeds: One image a prompt and seed.
        method: Name of the method in the tables.
        sampling: Steps, guidance and spacing.
        resolution: Side in pixels.
        batch_size: Images in one pass.
        progress: Told after every batch.

    Returns:
        The number of images drawn now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = _rows(examples, seeds, method)
    noise = [noise_seed(seed, row) for seed in seeds for row in range(len(examples))]
    paths, every = [folder / image for image in rows["image"]], list(texts) * len(seeds)
    drawings = [Drawing(*one) for one in zip(paths, every, noise, strict=True)]
    drawn = draw_missing(model, drawings, sampling, resolution, batch_size, progress)
    write_manifest(rows, folder)
    return drawn


def _rows(examples: Examples, seeds: Sequence[int], method: str) -> pd.DataFrame:
    """One row an image to be: id, image, label, prompt, reference, patient, method, seed."""
    import pandas as pd

    real = examples.manifest.rows
    parts = [
        pd.DataFrame(
            {
                "id": [f"{name}-seed{seed}" for name in real["id"]],
                "image": [f"seed{seed}/{row:06d}.png" for row in range(len(real))],
                "label": list(examples.labels),
                "prompt": list(real["prompt"]),
                "reference": list(real["id"]),
                "patient": list(real["patient"]),
                "method": method,
                "seed": seed,
            }
        )
        for seed in seeds
    ]
    return pd.concat(parts, ignore_index=True)
