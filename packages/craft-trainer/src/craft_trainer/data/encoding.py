"""Images to latents and texts to conditions, once for all stages, processes and resumed runs.

What was encoded lies in the store of embeddings, found by its content and by all that decides the
result: the bytes of the images, the weights and settings of the base model, the versions of what
runs it, the resolution, the kind of device, and for texts the learned tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from accelerate.utils import gather_object, reduce
from torch import Tensor

from cas_metric.embedding.cache import EmbeddingCache, Entry, image_key, text_key
from cas_metric.errors import CasError, PreflightError
from cas_metric.images import Note, load_image, notes_of
from craft_trainer.bases.base import DiffusionModel
from craft_trainer.bases.tokens import learned_tokens
from craft_trainer.data.dataset import Examples, image_digest, square_of
from craft_trainer.data.held import held
from craft_trainer.diffusion.conditions import Conditions

if TYPE_CHECKING:
    from collections.abc import Callable

    from accelerate import Accelerator

#: Images that the VAE encodes together.
_ENCODED_TOGETHER: Final = 4


@dataclass(frozen=True)
class Encodings:
    """The store as one base model uses it.

    Attributes:
        cache: Store of embeddings.
        base: Of the base model, from :func:`~craft_trainer.bases.weights.encoding_hash`.
        model: That encodes what is not there.
        noted: Images that were met in :meth:`latents` and in which little can be seen.
    """

    cache: EmbeddingCache
    base: str
    model: DiffusionModel
    noted: dict[Note, list[Path]] = field(default_factory=dict)

    def latents(self, examples: Examples, rows: slice, resolution: int) -> Tensor:
        """``(B, 2C, h, w)`` moments of the images of some rows, which are encoded together.

        Raises:
            PreflightError: Images that cannot be read; all of these rows are listed.
        """
        paths, manifest = examples.paths[rows], examples.manifest
        together = hashlib.sha256("\0".join(map(image_digest, paths)).encode()).digest()
        kind = (
            f"craft-trainer latents with notes\0{self.base}\0{resolution}\0{self.model.device.type}"
        )
        key = image_key(together, kind, manifest.window)
        (entry,) = self.cache.get_many([key])
        channels, height, width = self.model.latent_shape(resolution)
        shape = len(paths), 2 * channels, height, width
        if entry is not None:
            self._note(paths, entry.steps)
            return torch.from_numpy(entry.vector).reshape(shape)
        images, steps, problems = [], [], []
        for slot, path in enumerate(paths):
            try:
                image = load_image(path, window=manifest.window)
                images.append(square_of(image, resolution))
                steps += [f"{slot} {note}" for note in notes_of(image.steps)]
            except CasError as error:
                problems.append(f"{path.name}: {error.problem}")
        if problems:
            raise PreflightError(problems)
        moments = self.model.encode_images(torch.stack(images)).float().cpu()
        self.cache.put_many([(key, Entry(moments.flatten().numpy(), steps=tuple(steps)))])
        self._note(paths, steps)
        return moments

    def _note(self, paths: Sequence[Path], steps: Sequence[str]) -> None:
        """Remember the notes on some images, stored with their position among them."""
        for step in steps:
            slot, _, note = step.partition(" ")
            self.noted.setdefault(Note(note), []).append(paths[int(slot)])

    @torch.no_grad()
    def text(self, text: str) -> Conditions:
        """Condition of a text, of length 1, on the CPU, in the denoiser's dtype.

        The text encoders must be on its device: see :func:`encode_texts`.
        """
        dtype = self.model.dtype
        kind = f"craft-trainer text\0{self.base}\0{dtype}\0{self.model.device.type}"
        key = text_key(text, f"{kind}\0{self._tokens()}")
        (entry,) = self.cache.get_many([key])
        if entry is not None:
            return _unpacked(entry, dtype)
        found = self.model.encode_prompts([text]).to("cpu", dtype)
        self.cache.put_many([(key, _packed(found))])
        return found

    def _tokens(self) -> str:
        """Digest of the learned tokens, which decide what a text becomes."""
        learned = hashlib.sha256(repr(sorted(self.model.tokens.items())).encode())
        if self.model.tokens and any(tower.pooled for tower in self.model.towers):
            learned.update(b"pooled at the end of a text")  # earlier versions: at a learned token
        for name, module in sorted(learned_tokens(self.model).items()):
            learned.update(name.encode() + module.learned.detach().float().cpu().numpy().tobytes())
        return learned.hexdigest()


def _packed(conditions: Conditions) -> Entry:
    """Float32 holds every value of a smaller type exactly."""
    parts = [one for one in (conditions.embeddings, conditions.pooled) if one is not None]
    flat = torch.cat([part.float().flatten() for part in parts])
    shapes = tuple(",".join(map(str, part.shape)) for part in parts)
    return Entry(flat.numpy(), steps=shapes)


def _unpacked(entry: Entry, dtype: torch.dtype) -> Conditions:
    shapes = [tuple(map(int, shape.split(","))) for shape in entry.steps]
    sizes = [torch.Size(shape).numel() for shape in shapes]
    flat = torch.from_numpy(entry.vector).to(dtype).split(sizes)
    return Conditions(*(part.reshape(shape) for part, shape in zip(flat, shapes, strict=True)))


class Texts:
    """Conditions of distinct texts, :func:`~craft_trainer.data.held.held`.

    Args:
        texts: In the order of the conditions.
        conditions: One a text.
    """

    def __init__(self, texts: Sequence[str], conditions: Conditions) -> None:
        self._row = {text: row for row, text in enumerate(texts)}
        self._conditions = conditions

    def of(self, texts: Sequence[str]) -> Conditions:
        """A copy of the conditions of some texts, in their order."""
        return self._conditions[[self._row[text] for text in texts]]


def encode_latents(
    examples: Examples,
    encodings: Encodings,
    resolution: int,
    progress: Callable[[int, int], None] | None = None,
    accelerator: Accelerator | None = None,
) -> Tensor:
    """``(N, 2C, h, w)`` float32 moments of all images, :func:`~craft_trainer.data.held.held`.

    Mean and variance are kept, not a sample, so that every step draws its own latent. Each process
    encodes its share. The images that are encoded together are the same however many processes
    there are, and so are the bits.

    Raises:
        PreflightError: Images that cannot be read; all are listed.
        InputError: The disk of the store has no room for the moments.
    """
    rank, world = _place(accelerator)
    channels, height, width = encodings.model.latent_shape(resolution)
    total = len(examples)
    shape = total, 2 * channels, height, width
    moments = held(shape, torch.float32, encodings.cache.directory, accelerator)
    problems: list[str] = []
    for start in range(0, total, world * _ENCODED_TOGETHER):
        shares = torch.zeros_like(moments[start : start + world * _ENCODED_TOGETHER])
        first = start + rank * _ENCODED_TOGETHER
        if first < total:
            try:
                rows = slice(first, first + _ENCODED_TOGETHER)
                own = encodings.latents(examples, rows, resolution)
                shares[first - start :][: len(own)] = own
            except PreflightError as error:
                problems += error.problems
        if world > 1:  # the share of a process is zero where the others are not
            shares = reduce(shares.to(encodings.model.device), reduction="sum")
        if _writes(accelerator):
            moments[start : start + len(shares)] = shares
        if progress is not None:
            progress(start + len(shares), total)
    if world > 1:
        problems = gather_object(problems)  # and everything is written
    if problems:
        raise PreflightError(problems, fix="replace or remove these images")
    return moments


def encode_texts(
    texts: Sequence[str],
    encodings: Encodings,
    progress: Callable[[int, int], None] | None = None,
    accelerator: Accelerator | None = None,
) -> Texts:
    """Conditions of the distinct ones of some texts.

    Raises:
        InputError: The disk of the store has no room for them.
    """
    unique = sorted(set(texts))
    with encodings.model.reading():
        one = encodings.text(unique[0])
        conditions = one.each(
            lambda part: held(
                (len(unique), *part.shape[1:]), part.dtype, encodings.cache.directory, accelerator
            )
        )
        for row, text in enumerate(unique if _writes(accelerator) else ()):
            conditions.put(row, encodings.text(text))
            if progress is not None:
                progress(row + 1, len(unique))
    if accelerator is not None:
        accelerator.wait_for_everyone()
    return Texts(unique, conditions)


def _place(accelerator: Accelerator | None) -> tuple[int, int]:
    """Rank, and how many processes there are."""
    if accelerator is None:
        return 0, 1
    return accelerator.process_index, accelerator.num_processes


def _writes(accelerator: Accelerator | None) -> bool:
    """Whether this process fills what those of its machine share."""
    return accelerator is None or accelerator.is_local_main_process
