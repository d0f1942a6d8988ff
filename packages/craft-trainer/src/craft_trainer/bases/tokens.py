"""Learned tokens: a few vectors of their own behind the text encoders' embeddings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from cas_metric.errors import InputError
from cas_metric.files import write_bytes
from craft_trainer.bases.base import DiffusionModel

#: Folder of an artefact with one file a learned token, as ``load_textual_inversion`` reads them.
EMBEDDINGS_FOLDER: Final = "learned_embeds"
#: Name of the trained parameter; a family with two towers has one a tower, with its name behind.
LEARNED: Final = "learned_tokens"


class LearnedToken(NamedTuple):
    """A token and its vectors.

    Attributes:
        token: As it stands in a prompt, e.g. ``<pleural-effusion>``.
        vectors: Tower to ``(n, D)``; more than one vector is spelt ``<x> <x>_1 …`` by diffusers.
    """

    token: str
    vectors: Mapping[str, Tensor]


class LearnedTokens(nn.Module):
    """Token embedding whose first rows are frozen and whose last rows are learned.

    Training a few separate vectors leaves the table itself, and the optimizer's memory of it, out
    of the step.

    Args:
        table: The text encoder's own embedding.
        learned: ``(N, D)`` initial vectors; token ``start + i`` gets row ``i``.
        start: First learned id. It is the tokenizer's, and can be less than ``len(table)``, which
            some models pad.
    """

    def __init__(self, table: nn.Embedding, learned: Tensor, start: int) -> None:
        super().__init__()
        self.table = table
        self.start = start
        self.learned = nn.Parameter(learned.detach().float().clone())

    @property
    def weight(self) -> Tensor:
        """``(V, D)`` of the frozen part; callers read its dtype and device."""
        return self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        """``(…)`` token ids to ``(…, D)`` vectors in the table's dtype."""
        known = self.table(ids.clamp(max=self.start - 1))
        added = F.embedding((ids - self.start).clamp(min=0), self.learned).to(known.dtype)
        return torch.where((ids >= self.start).unsqueeze(-1), added, known)


def token_of(class_name: str) -> str:
    """The token of a class, from its full name: ``<pleural-effusion>``.

    Raises:
        InputError: The name has no letter of a to z and no digit.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", class_name.casefold()).strip("-")
    if not slug:
        raise InputError(
            f"no token can be made of the class {class_name!r}",
            fix="give it a name with letters of a to z",
        )
    return f"<{slug}>"


def require_distinct(class_names: Iterable[str]) -> None:
    """Refuse classes that would share a token. InputError, as of :func:`token_of`.

    Examples:
        >>> require_distinct(["Pleural Effusion", "Pneumonia"])
    """
    owners: dict[str, str] = {}
    for name in class_names:
        if (other := owners.setdefault(token_of(name), name)) != name:
            raise InputError(
                f"the classes {other!r} and {name!r} would share the token {token_of(name)}",
                fix="rename them so that they differ in letters of a to z or digits",
            )


def spelling(token: str, count: int) -> list[str]:
    """The tokens that one learned token of ``count`` vectors is spelt with, as diffusers does."""
    return [token, *(f"{token}_{number}" for number in range(1, count))]


def initial_tokens(
    model: DiffusionModel, class_names: Sequence[str], vectors_per_token: int = 1
) -> dict[str, LearnedToken]:
    """Each class's token with the mean of the vectors of the words of its name.

    Several vectors start equal: their positions in the prompt tell them apart.

    Raises:
        InputError: The family of the model learns no tokens.
    """
    if not model.towers:
        raise InputError(
            f"textual inversion is not offered for {model.pipeline_name}: diffusers cannot load "
            "learned tokens into it",
            fix="start with a `lora` stage, and leave {token} out of the prompts",
        )
    tokens = {}
    for name in class_names:
        vectors = {}
        for tower in model.towers:
            tokenizer, encoder = _parts(model, tower)
            ids = tokenizer(name, add_special_tokens=False).input_ids
            mean = encoder.get_input_embeddings().weight[ids].detach().float().mean(dim=0)
            vectors[tower.name] = mean.cpu().repeat(vectors_per_token, 1)
        tokens[name] = LearnedToken(token_of(name), vectors)
    return tokens


def attach_tokens(
    model: DiffusionModel, tokens: Mapping[str, LearnedToken]
) -> dict[str, LearnedTokens]:
    """Add one learned token a class to every tokenizer and text encoder that learns.

    A text encoder of CLIP whose settings say ``eos_token_id: 2``, as those of Stable Diffusion XL
    do, pools where the highest id stands, which is that of a learned token. It is told where a
    text ends; without learned tokens that is the same place.

    Args:
        model: Extended in place; the vectors do not become trainable by this.
        tokens: Class name to its token.

    Returns:
        Name of the trained parameter to the module that holds it.

    Raises:
        InputError: Two classes share a token, or a token is already in the vocabulary.
    """
    modules = {}
    for tower in model.towers:
        tokenizer, encoder = _parts(model, tower)
        own = [(one.token, one.vectors[tower.name]) for one in tokens.values()]
        words = [word for token, rows in own for word in spelling(token, len(rows))]
        start = len(tokenizer)
        if tokenizer.add_tokens(words) != len(words):
            raise InputError(
                f"the tokens {words} are not all new to the tokenizer and distinct",
                fix="rename the classes so that their slugs differ",
            )
        learned = torch.cat([rows for _, rows in own]).to(model.device)
        module = LearnedTokens(encoder.get_input_embeddings(), learned, start)
        module.learned.requires_grad_(False)
        encoder.set_input_embeddings(module)
        if tower.pooled:
            encoder.text_model.eos_token_id = tokenizer.eos_token_id
        modules[_parameter_name(tower.name)] = module
    model.tokens = {name: one.token for name, one in tokens.items()}
    return modules


def learned_tokens(model: DiffusionModel) -> dict[str, LearnedTokens]:
    """Tower to the learned part of its token embedding; empty where nothing was learned."""
    found = {}
    for tower in model.towers:
        module = _parts(model, tower)[1].get_input_embeddings()
        if isinstance(module, LearnedTokens):
            found[tower.name] = module
    return found


def save_tokens(model: DiffusionModel, folder: Path) -> None:
    """Write one file a class.

    A family with one tower gets what ``load_textual_inversion`` reads as it is: the token and its
    vectors. With two the file has the vectors by tower (``clip_l``, ``clip_g``), and the token in
    its header.
    """
    modules = learned_tokens(model)
    if not modules:
        return
    count = len(next(iter(modules.values())).learned) // len(model.tokens)
    for position, (name, token) in enumerate(model.tokens.items()):
        rows = slice(position * count, (position + 1) * count)
        tensors = {
            tower or token: module.learned.detach()[rows].cpu().squeeze(0).contiguous()
            for tower, module in modules.items()
        }
        header = {"class": name} if len(modules) == 1 else {"class": f"{token} {name}"}
        write_bytes(folder / f"{token.strip('<>')}.safetensors", save(tensors, header))


def read_tokens(
    folder: Path, model: DiffusionModel | type[DiffusionModel]
) -> dict[str, LearnedToken]:
    """Class name to its token, from a ``learned_embeds`` folder of a model's family.

    Raises:
        InputError: A file has the vectors of another family.
    """
    tokens = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict
            name = (file.metadata() or {}).get("class", "")
        rows = {key: value.reshape(-1, value.shape[-1]) for key, value in found.items()}
        if len(rows) == 1:
            ((token, vectors),) = rows.items()
            rows = {"": vectors}
        else:
            token, _, name = name.partition(" ")
        if set(rows) != {tower.name for tower in model.towers}:
            raise InputError(
                f"{path} holds a token of another family than {model.pipeline_name}",
                fix="take the base model that it was learned on",
            )
        tokens[name or token] = LearnedToken(token, rows)
    return tokens


def _parts(model: DiffusionModel, tower: Any) -> tuple[Any, Any]:
    """Tokenizer and text encoder of a tower."""
    return getattr(model.pipeline, tower.tokenizer), getattr(model.pipeline, tower.encoder)


def _parameter_name(tower: str) -> str:
    return f"{LEARNED}/{tower}" if tower else LEARNED
