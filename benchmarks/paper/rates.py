"""What a forward pass and an embedding cost on this machine, for the plan's estimates."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from cas_metric.files import to_json, write_bytes

if TYPE_CHECKING:
    from benchmarks.paper.pipeline import Pipeline
    from benchmarks.paper.steps import Work

#: Images of the probe.
_PROBED: Final = 8
#: Table 6: a CheXpert run (495 images, 10 epochs, M = 2, T = 20, K = 1) takes 1.3 h. Its forwards,
#: counted as the pipeline counts them, over that time.
_PAPER_FORWARDS: Final = 495 * 10 * (3 + 2 * (2 * 19 + 2 * 3)) / (1.3 * 3600)
#: Table 6: "scoring 1 min a CheXpert seed".
_PAPER_EMBEDDED: Final = 495 / 60


class Rates(NamedTuple):
    """Per second; where they come from."""

    forwards: float
    embedded: float
    source: str

    def seconds(self, work: Work) -> float:
        """Estimate of a step."""
        return work.fixed + work.forwards / self.forwards + work.embedded / self.embedded


def rates_of(pipeline: Pipeline) -> Rates:
    """Measured once a run directory for the embedded base; else as Table 6 implies."""
    if pipeline.settings.base != "phantom-sd":
        return Rates(_PAPER_FORWARDS, _PAPER_EMBEDDED, "one RTX 6000 Ada, from the paper's Table 6")
    path = pipeline.folder / "rates.json"
    if not path.is_file():
        scale = pipeline.settings.scale
        measured = _measure(pipeline.settings.base, scale.evaluators["main"], scale.resolution)
        write_bytes(path, to_json(measured).encode())
    source = "measured on one core of this machine"
    return Rates(**json.loads(path.read_text(encoding="utf-8")), source=source)


@cache
def _measure(base: str, evaluator: str, side: int) -> dict[str, float]:
    import time

    import torch

    from cas_metric.encoders import load_encoder
    from craft_trainer.bases.loading import load_model

    model = load_model(base, device=torch.device("cpu"))
    conditions = model.encode_prompts(["a picture"] * _PROBED)
    latents = torch.randn(_PROBED, *model.latent_shape(side))
    encoder = load_encoder(evaluator)
    images = torch.rand(_PROBED, 3, side, side)

    def rate(call: object, times: int) -> float:
        assert callable(call)
        call()
        started = time.perf_counter()
        for _ in range(times):
            call()
        return times * _PROBED / (time.perf_counter() - started)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        measured = {
            "forwards": rate(
                lambda: model.denoise(latents, torch.tensor([500]), conditions), times=10
            ),
            "embedded": rate(lambda: encoder.embed_images(images), times=5),
        }
    torch.set_num_threads(threads)
    return measured
