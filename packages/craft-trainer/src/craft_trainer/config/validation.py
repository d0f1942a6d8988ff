"""The configuration of what watches a run: sample sheets, the held-out evaluation, the guards."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from craft_trainer.config.stage import Place, Section, Seed, Spec


class Validation(Section):
    """Sample sheets at fixed seeds, and what an encoder that gives no reward thinks of them.

    Attributes:
        every: Optimizer steps between two looks; 0 for none.
        images: Images on a sheet.
        seed: Of the noise; the same at every look of a run.
        encoder: Held-out evaluator, e.g. ``siglip``: another checkpoint than the critic. Without
            one there are sheets of training prompts only.
        manifest: Real held-out images with labels and prompts, which the evaluator needs; also
            without one, stages with the diffusion loss log theirs.
        prompts: Held-out prompts that are sampled at every look, spread over the classes.
        probe: Saved probe in the evaluator's space; by default one is fitted on ``data.train``.
        batch_size: Images sampled in one pass.

    Examples:
        >>> Validation(every=50, encoder="siglip", manifest="data/held-out").prompts
        32
    """

    every: NonNegativeInt = 0
    images: PositiveInt = 4
    seed: Seed = 0
    encoder: Spec | None = None
    manifest: Place | None = None
    prompts: PositiveInt = 32
    probe: Place | None = None
    batch_size: PositiveInt = 8

    @model_validator(mode="after")
    def _is_complete(self) -> Validation:
        if self.encoder is not None and self.manifest is None:
            raise ValueError("a held-out evaluation takes both `encoder` and `manifest`")
        if self.manifest is not None and self.every == 0:
            raise ValueError("a held-out `manifest` needs `every`, the steps between two looks")
        return self


class Guard(Section):
    """A detector of reward hacking.

    Attributes:
        reaction: ``warn`` goes on, ``stop`` ends the stage and keeps its best weights.
        patience: Looks in a row that must show the sign.

    Examples:
        >>> Guard(reaction="stop", patience=3).reaction
        'stop'
    """

    reaction: Literal["off", "warn", "stop"] = "warn"
    patience: PositiveInt = 2


class Divergence(Guard):
    """Held-out CAS falls while the critic's reward rises.

    Attributes:
        drop: Fall of the mean held-out CAS from its best value that counts, where the paired
            interval of the fall, wider with every look, excludes 0 as well.

    Examples:
        >>> Divergence().reaction, Divergence(drop=0.02).drop
        ('stop', 0.02)
    """

    reaction: Literal["off", "warn", "stop"] = "stop"
    drop: NonNegativeFloat = 0.01


class Drift(Guard):
    """A statistic of the samples leaves the band of the first looks and the real images.

    Attributes:
        tolerance: Widens the band, as a share of its largest value.
        slack: Widens the band at least by this, in the statistic's own unit.

    Examples:
        >>> Drift(tolerance=0.5).reaction
        'warn'
    """

    tolerance: NonNegativeFloat = 0.25
    slack: NonNegativeFloat = 0.0


class Grid(Guard):
    """A spectral peak at the period of the VAE's or the critic's cells.

    Attributes:
        ratio: Power at the period over that of its neighbours, in decibel, above that of the real
            images and of the first looks.

    Examples:
        >>> Grid(ratio=6).patience
        2
    """

    ratio: NonNegativeFloat = 4.0


class Excess(Guard):
    """DD, VDC or CCS lie above those of the real images: a reference point, not a target.

    Examples:
        >>> Excess(reaction="off").reaction
        'off'
    """

    patience: PositiveInt = 1


class Memorization(Guard):
    """Samples are copies of training images.

    Attributes:
        encoder: Self-supervised encoder, e.g. ``dinov2``, that looks for neighbours nearer than
            those of any real held-out image; without one the perceptual hash alone does.
        share: Share of copies among the samples, above that among real held-out images.

    Examples:
        >>> Memorization(encoder="dinov2", share=0.02).share
        0.02
    """

    encoder: str | None = None
    share: Annotated[float, Field(ge=0, le=1)] = 0.05
    patience: PositiveInt = 1


class Guards(Section):
    """The detectors; they work on the looks of ``validation.encoder``.

    Attributes:
        divergence: Held-out CAS falls while the critic's reward rises.
        diversity: Distance between samples of one prompt leaves its band.
        edge_density: Share of edge pixels leaves its band.
        saturation: Mean saturation of colours leaves its band.
        entropy: Entropy of the grey levels leaves its band.
        noise: Estimated noise leaves its band.
        grid: A pattern at the period of the VAE's or the critic's cells.
        exceeds_real: DD, VDC or CCS above those of the real images.
        memorization: Near-copies of training images.
        baseline: Looks, the one before the first step included, that set the bands.

    Examples:
        >>> Guards(diversity={"reaction": "stop"}).baseline
        2
    """

    baseline: PositiveInt = 2
    divergence: Divergence = Divergence()
    diversity: Drift = Drift()
    edge_density: Drift = Drift(slack=0.005)
    saturation: Drift = Drift(slack=0.02)
    entropy: Drift = Drift(slack=0.2)
    noise: Drift = Drift(slack=0.02)
    grid: Grid = Grid()
    exceeds_real: Excess = Excess()
    memorization: Memorization = Memorization()
