"""How near does each sampler come to the pictures that phantom-sd was trained on?

``python -m benchmarks.phantoms.samplers [--base phantom-sd] [--steps 20] [--guidance 1]
[--samples 120]``

Fréchet distance on features of phantom-dino between unseen phantoms and samples from captions of
the modality, by default without guidance, over that between two sets of unseen phantoms. The same
noise starts every trajectory.
"""

from __future__ import annotations

import argparse
from itertools import cycle, islice
from typing import get_args

import torch

from benchmarks.phantoms.corpus import COUNTS
from benchmarks.phantoms.diffusion_captions import MODALITIES
from benchmarks.phantoms.evaluate import embed
from benchmarks.phantoms.evaluate_diffusion import SAMPLES, SAMPLING, sample, unseen
from cas_metric.encoders import load_encoder
from cas_metric.sets.fidelity import frechet_distance
from cas_metric.statistics.tables import markdown_table
from craft_trainer.bases.loading import load_model
from craft_trainer.config.sections import Sampling

SAMPLERS = get_args(get_args(Sampling.model_fields["sampler"].annotation)[0])


def main() -> None:
    """Print one row a domain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="phantom-sd")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--domains", nargs="+", default=list(COUNTS))
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SAMPLERS)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of each sampler and domain")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.base, device=torch.device("cpu"))
    dino, body = load_encoder("phantom-dino", device="cpu"), []
    for domain in options.domains:
        first, second = (
            embed(dino, list(unseen(domain, options.samples, offset).images)).numpy()
            for offset in (0, 1)
        )
        near, line = frechet_distance(second, first), [domain]
        told = list(islice(cycle(MODALITIES[domain]), options.samples))
        for kind in options.samplers:
            how = {"guidance": options.guidance, "steps": options.steps, "sampler": kind}
            drawn = embed(dino, list(sample(model, told, SAMPLING.model_copy(update=how))))
            line.append(f"{frechet_distance(drawn.numpy(), first) / near:.1f}")
        body.append(line)
        print(*line, flush=True)
    print(markdown_table(["domain", *options.samplers], body))


if __name__ == "__main__":
    main()
