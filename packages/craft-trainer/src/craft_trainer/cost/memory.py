"""How much memory a stage takes, counted without weights and without computing anything.

The modules are built from their configurations with *fake* tensors, which have a shape and no
content, and run forward by the family's own code: autograd then says which tensors it would keep
for the backward pass. The count is that of a real forward of the same modules (tested). On one
device, with B images, M
repeats and K differentiated steps, and u, v, r the bytes that the denoiser, the VAE's decoder and
the critic keep for one image:

- weights: denoiser in ``dtype``, the VAE in float32, critics in ``critic.dtype``; text encoders and
  the critics' text towers leave the device once all texts are encoded, except where tokens are
  learned;
- optimizer: 4 bytes a trained parameter for itself, its gradient and each of what the optimizer
  keeps: two moments (AdamW, 1 byte each in 8 bits), one (Muon), four vectors (Prodigy); and for
  each copy: an average, the reference of DPO, the older copy of DiffusionNFT;
- activations of the diffusion loss: u B (DPO: 2 u B);
- activations of the reward: K b u M B + v M B + r M B, b = 2 with guidance in both branches (a
  guidance-distilled model has one); where a step's latent needs no gradient, as in the first of
  the K steps, nothing is kept before the first adapter. A KL term on the trajectory keeps u M B.

With gradient checkpointing u and v shrink to the inputs of the blocks, and the largest block is
held once more while it is run again. Before the first step every text encoder and text tower is on
the device: where that is more than training takes, the total is that. Workspaces, caches and what
the allocator loses are not counted: allow for a tenth more.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from cas_metric.errors import CasError, InputError
from craft_trainer.bases.base import DiffusionModel, family_of
from craft_trainer.bases.loading import empty_model
from craft_trainer.bases.lora import peft_config
from craft_trainer.bases.weights import base_directory
from craft_trainer.config.schema import Config
from craft_trainer.config.sections import Lora
from craft_trainer.config.stage import Kept, TrainedStage
from craft_trainer.cost.estimate import branches
from craft_trainer.diffusion.conditions import Conditions
from craft_trainer.rewards.targets import checkpoint_blocks

_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
#: What diffusers runs again under gradient checkpointing.
_BLOCKS: Final = (
    "ResnetBlock2D",
    "BasicTransformerBlock",
    "UpDecoderBlock2D",
    "UNetMidBlock2D",
    "JointTransformerBlock",
    "FluxTransformerBlock",
    "FluxSingleTransformerBlock",
    "SanaTransformerBlock",
)
_GIGABYTE: Final = 1e9
#: Bytes of a trained parameter by optimizer: itself, its gradient, and the optimizer's state.
_TRAINED: Final = {"adamw": 16, "adamw8bit": 10, "muon": 12, "prodigy": 24}


class Memory(NamedTuple):
    """Gigabytes (10⁹ bytes) of a stage.

    Attributes:
        method: Of the stage.
        weights: Frozen weights of every model, as far as it stays on the device in training.
        loading: The same before the texts are encoded, with all text encoders and text towers.
        optimizer: Trained parameters, their gradients and the optimizer's moments.
        activations: Kept for the backward pass without gradient checkpointing.
        checkpointed: The same with it.
        total: The most, at loading or in training, of what the configuration chooses.
    """

    method: str
    weights: float
    loading: float
    optimizer: float
    activations: float
    checkpointed: float
    total: float


class Parts(NamedTuple):
    """Bytes of the modules.

    Attributes:
        weights: Frozen weights of the pipeline.
        texts: Those of its text encoders among them.
        trained: LoRA parameters.
        denoiser: Kept for one image and one prediction: plain, and with checkpointing. The latent
            needs no gradient, so that nothing is kept before the first adapter.
        later: The same of every step but the first, whose latent needs one.
        decoder: The same of the VAE's decoder.
        blocks: Largest block of the denoiser and of the decoder, for one image.
        token: Width of the text encoders' embeddings, for learned tokens.
        guided: Whether guidance has an unconditional branch.
    """

    weights: int
    texts: int
    trained: int
    denoiser: tuple[int, int]
    later: tuple[int, int]
    decoder: tuple[int, int]
    blocks: tuple[int, int]
    token: int
    guided: bool


def memory_of(config: Config, stage: TrainedStage, classes: int, parts: Parts) -> Memory:
    """Memory of one stage.

    Args:
        config: Of the run.
        stage: One of its stages.
        classes: That have a learned token after textual inversion.
        parts: Of the base model, from :func:`parts_of`.
    """
    weights = parts.weights if stage.learns == "tokens" else parts.weights - parts.texts
    own = config.critic
    critics = [
        encoder_bytes(spec, own.dtype or "float32", checkpointing=own.checkpointing)
        for spec in stage.encoders(config)
    ]
    critic = sum(one.kept for one in critics)
    image_towers = sum(one.weights - one.texts for one in critics)
    # A critic's text tower leaves before the next critic comes.
    loading = parts.weights + image_towers + max((one.texts for one in critics), default=0)
    weights += image_towers
    if config.validation.encoder is not None:
        guard = config.guards.memorization
        watching = (config.validation.encoder, guard.encoder if guard.reaction != "off" else None)
        weights += sum(_bytes(_empty_encoder(one)[0]) for one in watching if one is not None)
    trained = stage.trained_bytes(parts.trained, 4 * parts.token, classes) // 4
    both = branches(stage.sampling(config), guided=parts.guided)
    plain, checkpointed = (
        stage.kept_bytes(
            Kept(
                denoiser=parts.denoiser[index],
                later=parts.later[index],
                decoder=parts.decoder[index],
                critic=critic,
                block=index * parts.blocks[0],
                decoder_block=index * parts.blocks[1],
                branches=both,
            )
        )
        for index in range(2)
    )
    chosen = checkpointed if config.gradient_checkpointing else plain
    copies = stage.copies + (stage.ema is not None)
    optimizer = (_TRAINED[stage.optimizer or "adamw"] + 4 * copies) * trained
    total = max(weights + optimizer + chosen, loading + 4 * trained)
    figures = (weights, loading, optimizer, plain, checkpointed, total)
    return Memory(stage.method, *(value / _GIGABYTE for value in figures))


def parts_of(config: Config) -> Parts:
    """Count the base model of a configuration.

    Raises:
        ModelUnavailable: Its configuration files are not here and cannot be had.
        InputError: A family that is not trained here.
    """
    directory, index = _index(config)
    dtype = _DTYPES[config.dtype]
    model = empty_model(directory)
    vae, trunk = model.pipeline.vae, nn.Module.to(model.trunk, dtype)
    texts = [_text_encoder(directory / part, index[part][1]) for part in _text_names(index)]
    reading = sum(_bytes(text.to(dtype)) for text in texts)
    weights = _bytes(trunk) + _bytes(vae) + reading
    trained = _attach_lora(model, config.lora)
    shape = model.latent_shape(config.data.resolution)
    conditions = _conditions_of(model)

    def predict(count: int, *, later: bool) -> Tensor:
        """Some latents, which need a gradient in every step but the first of K."""
        latents = torch.randn(count, *shape).requires_grad_(later)
        return model.denoise(latents, torch.tensor(1.0), conditions(count))

    with _fake(trunk, vae):
        first, _ = _counted(trunk, lambda count: predict(count, later=False))
        later, block = _counted(trunk, lambda count: predict(count, later=True))
        decoder, last = _counted(
            vae, lambda count: vae.decode(torch.randn(count, *shape, requires_grad=True)).sample
        )
    token = sum(text.config.hidden_size for text in texts) if model.towers else 0
    guided, blocks = model.unconditional_branch, (block, last)
    return Parts(weights, reading, trained, first, later, decoder, blocks, token, guided)


def has_unconditional_branch(config: Config) -> bool:
    """Whether guidance of this base takes two predictions; so it is said where it is not here."""
    try:
        return family_of(_index(config)[1]["_class_name"]).unconditional_branch
    except CasError:
        return True


def _index(config: Config) -> tuple[Path, dict[str, Any]]:
    """Folder of a base model's files, and what its ``model_index.json`` lists."""
    directory = base_directory(config.base, config.revision, offline=config.offline)
    return directory, json.loads((directory / "model_index.json").read_text(encoding="utf-8"))


class EncoderBytes(NamedTuple):
    """Bytes of an encoder.

    Attributes:
        weights: All of them.
        texts: Those of its text tower among them.
        kept: By autograd, in the image tower, for one image.
    """

    weights: int
    texts: int
    kept: int


def encoder_bytes(
    spec: str, dtype: str = "float32", *, checkpointing: bool = False
) -> EncoderBytes:
    """Bytes of an encoder's weights, and what its image tower keeps for one image.

    Args:
        spec: Of the encoder.
        dtype: Of its weights and activations.
        checkpointing: Whether its blocks run again in the backward pass.

    Raises:
        CasError: Its configuration is not here, or it is no model of transformers.
    """
    model, settings = _empty_encoder(spec)
    model = model.to(_DTYPES[dtype])
    if checkpointing:
        checkpoint_blocks(model)
    texts = _bytes(getattr(model, "text_model", nn.Module()))
    vision = getattr(settings, "vision_config", settings)
    with _fake(model):
        size = 3, vision.image_size, vision.image_size

        def forward(count: int) -> Tensor:
            pixels = torch.randn(count, *size, dtype=_DTYPES[dtype], requires_grad=True)
            embed = getattr(model, "get_image_features", model)  # some embed images alone
            pooled: Tensor = embed(pixel_values=pixels).pooler_output
            return pooled

        return EncoderBytes(_bytes(model), texts, _per_image(forward))


def _empty_encoder(spec: str) -> tuple[Any, Any]:
    """An encoder on the device ``meta``, and its configuration. CasError as `encoder_bytes`."""
    from transformers import AutoConfig, AutoModel

    from cas_metric.encoders.hub import fetch
    from cas_metric.encoders.registry import resolve

    source = resolve(spec)
    if source.openclip is not None:
        raise InputError(f"the memory of {spec} is not estimated: it is a model of open_clip")
    directory = source.directory
    if directory is None:
        assert source.hub_id is not None
        directory = fetch(source.hub_id, source.revision, offline=True).directory
    settings = AutoConfig.from_pretrained(directory)
    with torch.device("meta"):
        builder: Any = AutoModel
        return builder.from_config(settings).requires_grad_(False).eval(), settings


def _counted(module: Any, forward: Callable[[int], Tensor]) -> tuple[tuple[int, int], int]:
    """Bytes kept for one image, plain and with checkpointing, and by the largest block."""
    module.eval()
    _, largest = _saved(lambda: forward(1), module)
    plain = _per_image(forward)
    if not module._supports_gradient_checkpointing:
        return (plain, plain), largest
    module.enable_gradient_checkpointing()
    checkpointed = _per_image(forward)
    module.disable_gradient_checkpointing()
    return (plain, checkpointed), largest


def _per_image(forward: Callable[[int], Tensor]) -> int:
    """What a second image adds: some of what is kept does not depend on the batch."""
    one, _ = _saved(lambda: forward(1))
    two, _ = _saved(lambda: forward(2))
    return two - one


def _saved(forward: Callable[[], Tensor], module: nn.Module | None = None) -> tuple[int, int]:
    """Bytes that autograd keeps of a forward, each storage once, and the most within a block."""
    storages: dict[int, int] = {}
    largest, started, handles = 0, [0], []

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            storages[storage._cdata] = storage.nbytes()
        return tensor

    def enter(*_: Any) -> None:
        started.append(sum(storages.values()))

    def leave(*_: Any) -> None:
        nonlocal largest
        largest = max(largest, sum(storages.values()) - started.pop())

    for part in module.modules() if module is not None else ():
        if type(part).__name__ in _BLOCKS:
            handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = forward()
        total = sum(storages.values())
        del output
    finally:
        for handle in handles:
            handle.remove()
    return total, largest


@contextmanager
def _fake(*modules: nn.Module) -> Iterator[None]:
    """Give modules tensors without content, on a CPU, whose attention keeps no matrix of weights.

    They are built on the device ``meta`` before, for fake tensors do not survive ``Module.to``.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), torch.enable_grad():
        for part in itertools.chain.from_iterable(module.modules() for module in modules):
            for name, value in part._parameters.items():
                if value is not None:
                    empty = torch.empty(value.shape, dtype=value.dtype)
                    part._parameters[name] = nn.Parameter(empty, value.requires_grad)
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
        yield


def _text_names(index: dict[str, Any]) -> list[str]:
    return [name for name in sorted(index) if name.startswith("text_encoder") and index[name][0]]


def _text_encoder(directory: Path, class_name: str) -> Any:
    import transformers

    settings = transformers.AutoConfig.from_pretrained(directory)
    with torch.device("meta"):
        return getattr(transformers, class_name)(settings).requires_grad_(False)


def _attach_lora(model: DiffusionModel, lora: Lora) -> int:
    """Add the adapter that is trained; the bytes of its parameters in float32."""
    trunk: Any = model.trunk
    trunk.add_adapter(peft_config(lora, model))
    trained = (one for one in trunk.parameters() if one.requires_grad)
    return sum(4 * parameter.numel() for parameter in trained)


def _conditions_of(model: DiffusionModel) -> Callable[[int], Conditions]:
    """Makes conditions of the shapes that the family's text encoders give."""
    width, pooled = model.condition_sizes

    def make(count: int) -> Conditions:
        summary = torch.randn(count, pooled) if pooled else None
        return Conditions(torch.randn(count, model.text_tokens, width), summary)

    return make


def _bytes(module: Any) -> int:
    held = itertools.chain(module.parameters(), module.buffers())
    return sum(value.numel() * value.element_size() for value in held)
