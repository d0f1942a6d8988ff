"""Clinical Alignment Score as a torchmetrics metric.

For training loops that hold images as tensors. It keeps one row an image, merges the rows of all
ranks, and counts an image once however often a padded sampler delivers it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor

from cas_metric import primitives, protocol
from cas_metric.domains import Domain, load_domain
from cas_metric.encoders import Encoder, load_encoder
from cas_metric.errors import InputError, MissingDependency
from cas_metric.images.tensors import require_unit_range
from cas_metric.scoring.per_image import DECIMALS
from cas_metric.scoring.probe import Probe

try:
    from torchmetrics import Metric
except ImportError as error:
    raise MissingDependency(
        "torchmetrics", extra="metrics", purpose="ClinicalAlignmentScore"
    ) from error

#: Columns of the state, one value an image.
_SCORES = (*protocol.PRIMITIVES, "dd_prob", "cas")


class ClinicalAlignmentScore(Metric):
    """Mean CAS, its primitives, and the rows behind them.

    Images are embedded by the encoder's differentiable preprocessing; ``cas score`` uses the
    official one, so the two differ in the third decimal.

    Args:
        encoder: The space in which to score: a loaded encoder, or what ``load_encoder`` takes.
        probe: Fitted on real images in the same space, or its file; its classes are the domain's.
        domain: Checklists and class names: a domain, or the name or file of a domain pack.
        **kwargs: As :class:`torchmetrics.Metric` takes them.

    Examples:
        >>> from cas_metric.images import load_image, to_tensor
        >>> from cas_metric.manifest import read_manifest
        >>> real = read_manifest("demo/real/test").take(range(4))
        >>> images = torch.stack([to_tensor(load_image(path).pixels) for path in real.paths()])
        >>> metric = ClinicalAlignmentScore(
        ...     "phantom-siglip", "demo/run/probe.safetensors", "phantom-chexpert"
        ... )
        >>> metric.update(images, list(real.rows["label"]), list(real.rows["prompt"]), images)
        >>> round(float(metric.compute()["sfs"]), 3)  # each image is its own reference
        1.0

    Raises:
        InputError: The probe was fitted in another space or on other classes.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(
        self,
        encoder: Encoder | str | Path,
        probe: Probe | str | Path,
        domain: Domain | str | Path,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(encoder, str | Path):
            encoder = load_encoder(encoder)
        if isinstance(domain, str | Path):
            domain = load_domain(domain)
        probe = (Probe.read(probe) if isinstance(probe, str | Path) else probe).require(encoder)
        if set(probe.classes) != set(domain.class_names):
            raise InputError(
                f"the probe tells apart {', '.join(probe.classes)}, the domain "
                f"{', '.join(domain.class_names)}",
                fix="fit a probe on the classes of the domain",
            )
        self.encoder, self.probe, self.domain = encoder, probe, domain
        # Lists of tensors, which torchmetrics gathers over ranks by itself.
        self.add_state("keys", default=[], dist_reduce_fx="cat")
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.keys: list[Tensor]
        self.values: list[Tensor]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy with states of its own; encoder, probe and domain, which never change, are shared.

        ``clone`` and ``MetricCollection`` copy this way.
        """
        for shared in (self.encoder, self.probe, self.domain):
            memo[id(shared)] = shared
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        for name, value in self.__getstate__().items():
            twin.__dict__[name] = copy.deepcopy(value, memo)
        twin.__setstate__(twin.__dict__)
        return twin

    @torch.no_grad()
    def update(
        self,
        images: Tensor,
        labels: Sequence[str],
        prompts: Sequence[str],
        references: Tensor,
        ids: Sequence[int] | None = None,
    ) -> None:
        """Score a batch.

        Args:
            images: ``(B, 3, H, W)`` float in [0, 1].
            labels: ``B`` class names or synonyms.
            prompts: ``B`` enriched prompts.
            references: ``(B, 3, H, W)`` real partners, in the same order.
            ids: ``B`` numbers from 0 that name the images; an image that comes twice, also on
                another rank, counts once. Without them every image counts.

        Raises:
            InputError: Lengths differ, pixels are not finite or not in [0, 1], an id is negative,
                or a label is unknown or without a checklist.
        """
        labels, prompts = list(labels), list(prompts)  # also the columns of a frame
        sizes = {len(images), len(labels), len(prompts), len(references)}
        if len(sizes) != 1 or (ids is not None and len(ids) != len(images)):
            raise InputError("images, labels, prompts, references and ids must be equally many")
        if ids is not None and any(one < 0 for one in ids):
            raise InputError("ids count from 0", fix="name the images by numbers without a sign")
        require_unit_range(images)
        require_unit_range(references)
        names = [self.domain.canonical(label) for label in labels]
        checklists = [self.domain.checklist_text(name) for name in names]
        if "" in checklists:
            lacking = names[checklists.index("")]
            raise InputError(f"class {lacking!r} has no checklist", fix="add it to the domain pack")
        image = self.encoder.embed_images(images)
        logits = self.probe.logits(image)
        index = torch.tensor([self.probe.classes.index(n) for n in names], device=logits.device)
        four = (
            primitives.vdc(image, self.encoder.embed_texts(prompts).embeddings),
            primitives.ccs(image, self.encoder.embed_texts(checklists).embeddings),
            primitives.dd(logits, index),
            primitives.sfs(image, self.encoder.embed_images(references)),
        )
        graded = primitives.dd_probability(logits, index)
        cas = primitives.clinical_alignment(*four)
        self.values.append(torch.stack([*four, graded, cas], dim=1))
        self.keys.append(self._keys(ids, len(images)))

    def compute(self) -> dict[str, Tensor]:
        """Means over images of the primitives, ``dd_prob`` and ``cas``; ``n`` images.

        Raises:
            InputError: Nothing was scored yet.
        """
        rows = self.rows()
        if rows.empty:
            raise InputError("no image was scored yet", fix="call update first")
        means = {name: torch.tensor(float(rows[name].mean())) for name in _SCORES}
        return {**means, "n": torch.tensor(len(rows))}

    def rows(self) -> pd.DataFrame:
        """One row an image: ``id`` and the scores; inside :meth:`compute`, of all ranks."""
        keys, values = (_joined(state) for state in (self.keys, self.values))
        table = pd.DataFrame(
            values.cpu().double().numpy().round(DECIMALS).reshape(-1, len(_SCORES)),
            columns=list(_SCORES),
        )
        table.insert(0, "id", keys.cpu().numpy())
        # Negative keys were given here: they name an image of one rank only.
        repeated = table.duplicated("id") & (table["id"] >= 0)
        return table[~repeated].sort_values("id", ignore_index=True, kind="stable")

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the means as bars; ``val`` is one or several results of :meth:`compute`."""
        return self._plot({k: v for k, v in (val or self.compute()).items() if k != "n"}, ax)

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # For a rank without images torchmetrics would gather a vector, which no matrix joins.
        if not self.keys:
            self.keys = [torch.empty(0, dtype=torch.int64, device=self.device)]
            self.values = [torch.empty(0, len(_SCORES), device=self.device)]
        super()._sync_dist(*args, **kwargs)

    def _keys(self, ids: Sequence[int] | None, count: int) -> Tensor:
        device = self.device
        if ids is not None:
            return torch.as_tensor(ids, dtype=torch.int64, device=device)
        seen = sum(len(keys) for keys in self.keys)
        return -1 - torch.arange(seen, seen + count, device=device)


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """A list state before synchronisation, or the tensor that it becomes afterwards."""
    if isinstance(state, Tensor):
        return state
    return torch.cat(state) if state else torch.empty(0)
