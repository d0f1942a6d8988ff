"""A vision-language model on this machine: MedGemma, Lingshu, Qwen-VL, LLaVA and their like."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.encoders import hub
from cas_metric.encoders.weights import content_digest, quiet_transformers, read_config
from cas_metric.errors import InputError, ModelUnavailable
from cas_metric.mllm.dialect import whole_system
from cas_metric.mllm.endpoint import Settings
from cas_metric.mllm.extraction import is_mark, is_unfinished
from cas_metric.mllm.pictures import picture
from cas_metric.mllm.types import Conversation, Reply, Request, Usage

if TYPE_CHECKING:
    import torch

    from cas_metric.mllm.prefixes import YesNoLogits

#: Tokens at the end of a question, among which a template may open a block of thinking.
_TAIL: Final = 8
#: What a chat model has beyond an encoder's files.
_CHAT_FILES: Final = (
    "chat_template.json",
    "chat_template.jinja",
    "generation_config.json",
    "video_preprocessor_config.json",
    "preprocessor_config.json",
)


class LocalModel:
    """A model in a directory of the hub's format. See :class:`cas_metric.mllm.types.Model`.

    Greedy decoding, one question at a time. Only safetensors are loaded, and no code that comes
    with a model is run.

    Args:
        directory: Its files.
        settings: ``max_tokens`` and ``longest_side`` count; a timeout does not.
        device: ``auto`` takes a GPU where there is one.
        dtype: ``auto`` takes bfloat16 on a GPU, else float32.
        name: The spec that it was opened with.

    Raises:
        ModelUnavailable: Files are missing, or pickled.
        InputError: It is no image-text-to-text model, or has no chat template.
    """

    concurrent = False
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        *,
        device: str = "auto",
        dtype: str = "auto",
        name: str = "",
    ) -> None:
        import transformers

        from cas_metric.encoders.devices import resolve_device

        self.name = name or f"local:{directory}"
        self._settings = settings
        self._device = resolve_device(device)
        self._dtype = _dtype(dtype, self._device)
        self._lock = threading.Lock()
        self._yes_no: YesNoLogits | None = None
        digest = content_digest(directory)
        self._processor, self._network = _load(directory, self._dtype)
        self._network.to(self._device).eval().requires_grad_(False)
        self.identity: Mapping[str, Any] = {
            "kind": "local",
            "weights": digest,
            "model_type": self._network.config.model_type,
            "dtype": str(self._dtype).removeprefix("torch."),
            "decoding": "greedy",
            "max_tokens": settings.max_tokens,
            "longest_side": settings.longest_side,
            "transformers": transformers.__version__,
        }

    def reply(self, conversation: Conversation) -> Reply:
        """Answer the last turn; see :meth:`cas_metric.mllm.types.Model.reply`."""
        import torch

        if conversation.request.yes_no:
            return self.replies([conversation.request])[0]
        images = self._images(conversation)
        with self._lock, torch.inference_mode():
            inputs = self._inputs(conversation, images).to(self._device, dtype=self._dtype)
            asked = inputs["input_ids"].shape[1]
            # Some templates open the block of thinking themselves.
            thinking = is_unfinished(self._processor.decode(inputs["input_ids"][0, -_TAIL:]))
            output = self._network.generate(
                **inputs,
                max_new_tokens=self._settings.max_tokens,
                do_sample=False,
                num_beams=1,
                # A model's own file may hold sampling parameters, which greedy decoding ignores.
                temperature=None,
                top_p=None,
                top_k=None,
            )[0, asked:]
        text = self._text(output)
        text = f"<think>{text}" if thinking else text
        ended = bool(torch.isin(output, torch.tensor(self._ends, device=output.device)).any())
        return Reply(
            text=text,
            truncated=not ended and len(output) >= self._settings.max_tokens,
            usage=Usage(asked, len(output)),
        )

    def replies(self, requests: Sequence[Request]) -> list[Reply]:
        """P(yes) and P(no) of questions that want them, many at once.

        Raises:
            ImageError: An image of a question cannot be read.
            InputError: The tokenizer has no token for one of the words.
        """
        import torch

        from cas_metric.mllm.prefixes import YesNoLogits

        with self._lock, torch.inference_mode():
            if self._yes_no is None:
                tokenizer = self._processor.tokenizer
                self._yes_no = YesNoLogits(self._network, tokenizer, self._prepare, self._tokens)
            shares = self._yes_no.shares(requests)
        return [Reply("", shares=one, shares_from="logits") for one in shares]

    def _prepare(self, request: Request) -> tuple[dict[str, Any], list[int]]:
        """Tensors of a question, and the tokens of its text with one placeholder an image."""
        conversation = Conversation(request)
        inputs = self._inputs(conversation, self._images(conversation))
        return dict(inputs.to(self._device, dtype=self._dtype)), self._tokens(request)

    def _tokens(self, request: Request) -> list[int]:
        text = self._rendered(Conversation(request), [None] * len(request.images), tokenize=False)
        return list(self._processor.tokenizer(text, add_special_tokens=False).input_ids)

    def _text(self, output: torch.Tensor) -> str:
        """What the tokens say. Marks of thinking stay, also where they are special tokens."""
        added = self._processor.tokenizer.added_tokens_decoder
        dropped = {n for n, token in added.items() if token.special and not is_mark(str(token))}
        kept = [number for number in output.tolist() if number not in dropped]
        text: str = self._processor.decode(kept, skip_special_tokens=False)
        return text

    @property
    def _ends(self) -> list[int]:
        """Tokens that end an answer."""
        ends = self._network.generation_config.eos_token_id
        if ends is None:
            return []
        return [ends] if isinstance(ends, int) else list(ends)

    def _images(self, conversation: Conversation) -> list[Any]:
        request = conversation.request
        side = self._settings.longest_side
        return [picture(path, longest_side=side, window=request.window) for path in request.images]

    def _inputs(self, conversation: Conversation, images: list[Any]) -> Any:
        """The conversation in the model's own template, as tensors."""
        return self._rendered(conversation, images, tokenize=True)

    def _rendered(self, conversation: Conversation, images: list[Any], *, tokenize: bool) -> Any:
        import jinja2

        messages = messages_of(conversation, images)
        render = self._tensors if tokenize else self._words
        try:
            return render(messages)
        except jinja2.exceptions.TemplateError:  # templates that know no system prompt
            system, user = (message["content"] for message in messages[:2])
            messages[1]["content"] = [_text(f"{system[0]['text']}\n\n"), *user]
            return render(messages[1:])

    def _tensors(self, messages: list[dict[str, Any]]) -> Any:
        return self._processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )

    def _words(self, messages: list[dict[str, Any]]) -> Any:
        return self._processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )


def open_local(
    spec: str, settings: Settings, *, device: str = "auto", dtype: str = "auto", offline: bool
) -> LocalModel:
    """The model in a directory, or of a hub id, with ``@revision`` if wanted.

    Raises:
        ModelUnavailable: It is neither here nor to be had.
    """
    path = Path(spec).expanduser()
    if not path.is_dir():
        hub_id, _, revision = spec.partition("@")
        if not hub.HUB_ID.fullmatch(hub_id):
            raise ModelUnavailable(
                f"the model directory {spec} does not exist",
                fix="name a directory with config.json and model.safetensors, or a hub id "
                "(owner/name)",
            )
        path = hub.fetch(
            hub_id,
            revision or "main",
            offline=offline,
            extra_files=_CHAT_FILES,
            what="vision-language model",
        ).directory
    return LocalModel(path, settings, device=device, dtype=dtype, name=f"local:{spec}")


def _load(directory: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Processor and network."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    kind = read_config(directory).get("model_type")
    try:
        with quiet_transformers():
            processor = AutoProcessor.from_pretrained(directory, trust_remote_code=False)
            network = AutoModelForImageTextToText.from_pretrained(
                directory, dtype=dtype, use_safetensors=True, trust_remote_code=False
            )
    except (ValueError, KeyError, OSError, ImportError) as error:
        cause = " ".join(str(error).split())[:300]
        raise InputError(
            f"{directory}: model_type {kind!r} cannot be loaded as an image-text-to-text model: "
            f"{cause}",
            fix="take a chat model that reads images, in transformers' own format",
        ) from error
    if not getattr(processor, "chat_template", None):
        raise InputError(
            f"{directory}: the processor has no chat template, so the model is none to talk to",
            fix="take the instruction-tuned model (often called -it or -instruct)",
        )
    return processor, network


def _dtype(name: str, device: torch.device) -> torch.dtype:
    import torch

    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise InputError(f"unknown dtype {name!r}", fix=f"auto, {', '.join(known)}")
    return known[name]


def messages_of(conversation: Conversation, images: list[Any]) -> list[dict[str, Any]]:
    """A conversation in the form that chat templates take."""
    request = conversation.request
    content = _content(request.captions, images, request.prompt)
    turns = [(turn.answer, turn.complaint) for turn in conversation.turns]
    return [
        {"role": "system", "content": [_text(whole_system(request))]},
        {"role": "user", "content": content},
        *_history(turns),
    ]


def _content(captions: tuple[str, ...], images: list[Any], prompt: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for caption, image in zip(captions or ("",) * len(images), images, strict=True):
        if caption:
            parts.append(_text(caption))
        parts.append({"type": "image", "image": image})
    return [*parts, _text(prompt)]


def _history(turns: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"role": role, "content": [_text(said)]}
        for answer, complaint in turns
        for role, said in (("assistant", answer), ("user", complaint))
    ]


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
