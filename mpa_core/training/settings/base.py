"""Settings of a stage-1 training run: pydantic models, YAML on disk, overridable key by key.

The defaults are the constants of SPEC section 3 (stage 1a); options that depart from them to gain
quality per hour on small machines are off by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from mpa_core.config import StrictModel
from mpa_core.plugins.bases import Architecture
from mpa_core.presets import preset
from mpa_core.tasks.settings import PhotoSettings
from mpa_core.training.settings.adversarial import AdversarialSettings
from mpa_core.training.settings.trees import override, read_tree

RATE_LAMBDAS = (18.0, 9.32, 4.83, 2.5, 1.3, 0.67, 0.35, 0.18)
"""lambda_r(q) of SPEC section 3, for q = 1..8: the weight of one bit per pixel in units of d."""

DISTORTION_SCALE = 100.0
"""Divisor of the MSE on the 0-255 scale that gives d."""

PERCEPTUAL_WEIGHT = 4.26
"""lambda_perc * lambda_G: the weight of one unit of LPIPS in units of d."""

RATIO_WEIGHT = 10.0
"""lambda_ratio: weight of the mask ratio loss (4)."""

EPOCHS = 400.0
"""Number of passes over the photos in stage 1a."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]


class DataSettings(PhotoSettings):
    """Settings for making a batch."""

    crop: PositiveInt = 256
    """Side of the square crops in pixels; a multiple of the model's hyper stride."""
    batch: PositiveInt = 8
    shards: PositiveInt = 1
    """Number of equal parts in which a batch is computed, one after the other on one process or
    divided among several; the number of processes divides it."""
    workers: Annotated[int, Field(ge=0, le=64)] | None = None
    """Number of processes that make batches ahead; 0 makes each when it is due. Null is 1 for a
    base whose photos do not all fit in ``cache_mib`` or that trains on a GPU, if processes start by
    a fork (as on Linux before Python 3.14), else 0."""

    @model_validator(mode="after")
    def _equal_shards(self) -> Self:
        if self.batch % self.shards:
            raise ValueError(
                f"a batch of {self.batch} cannot be cut into {self.shards} equal shards"
            )
        return self


class InitSettings(StrictModel):
    """Settings for the start of training."""

    transform: Literal["random", "klt"] = "random"
    """``klt``: the linear part of ``g_a`` and ``g_s`` starts as a Karhunen-Loeve transform of the
    photos (:mod:`mpa_core.base.tinylic.klt`); another type of base may offer another start from
    photos."""
    block_rescale: PositiveFloat = 1.0
    """Factor on how fast the blocks learn, applied after either start and also after ``--from``
    (:mod:`mpa_core.training.rescale`). The KLT starts blocks near the identity: 20 is a good value
    there."""
    y_gain: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    """Gains of ``y`` at the lowest and the highest quality, geometric in between. At the optimum
    the quantization step is proportional to the square root of lambda_r: a factor of 10 over the
    table."""
    z_gain: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    """The same for ``z``."""


class LossSettings(StrictModel):
    """Equation (7) without its adversarial term."""

    rate_lambdas: tuple[PositiveFloat, ...] = RATE_LAMBDAS
    """lambda_r per quality level; between levels it is interpolated geometrically."""
    distortion_scale: PositiveFloat = DISTORTION_SCALE
    ratio_weight: NonNegative = RATIO_WEIGHT
    perceptual: str | tuple[str, ...] | None = "lpips"
    """Name of a distance in :mod:`mpa_core.tasks.perceptual`, or several names, of which each batch
    draws one; null leaves the term out."""
    perceptual_weight: NonNegative = PERCEPTUAL_WEIGHT
    perceptual_from: Fraction = 0.0
    """Fraction of the budget after which the perceptual term counts."""
    perceptual_images: PositiveInt | None = None
    """Number of images of a batch on which the term is computed; null means all of them."""
    perceptual_shift: Annotated[int, Field(ge=0)] = 15
    """Largest shift, in pixels, of each side of the resized copy on which the term is computed."""
    wasserstein_weight: NonNegative = 0.0
    """Weight of the Wasserstein distortion of the distance's features, relative to the distance, to
    which it is added (:mod:`mpa_core.tasks.wasserstein`). The paper uses a discriminator in its
    place."""
    loss_scale: Literal["paper", "sqrt_rate", "rate"] = "paper"
    """Divide each image's loss by 1, sqrt(lambda_r(q)) or lambda_r(q), relative to the table's
    geometric mean. Without the division the low qualities' loss is ten times that of the high
    ones."""
    quality_sampling: Literal["per_step", "per_image"] = "per_step"
    quality_values: Literal["integer", "real"] = "integer"
    """Train on the levels alone, or on any real quality between the first and the last."""


class OptimSettings(StrictModel):
    """Settings of Adam for the codec, and of a second Adam for the bottleneck's quantiles."""

    lr: PositiveFloat = 1e-4
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    clip: PositiveFloat | None = 1.0
    """Largest norm of the whole gradient; null never clips."""
    aux_lr: PositiveFloat = 1e-3
    lr_factors: dict[str, PositiveFloat] = Field(default_factory=dict)
    """Factors on the learning rate by shell pattern of parameter names; the first match counts."""
    trainable: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    """Shell patterns of the names of the parameters that train. Parts without any run in eval mode:
    ``base.g_s.*`` trains the decoder alone and leaves the bitstream unchanged."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    """Decay per step of the averaged weights, which are exported; 0 turns averaging off."""

    @field_validator("trainable", mode="before")
    @classmethod
    def _one_pattern(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class ScheduleSettings(StrictModel):
    """The learning rate's factor as a function of the fraction of the budget that is spent.

    The fraction is the larger of step / steps and elapsed / hours, so one schedule serves a run
    counted in steps and one counted in hours.
    """

    kind: Literal["milestones", "cosine", "trapezoid"] = "milestones"
    """``milestones``: multiplied by ``gamma`` at each; ``cosine``: from 1 to ``floor``;
    ``trapezoid``: 1 until ``decay_from``, then linearly to ``floor``."""
    warmup: Fraction = 0.0
    """Fraction of the budget in which the rate rises linearly from 0."""
    milestones: tuple[Fraction, ...] = (0.75,)
    """Fractions of the budget. SPEC: epoch 300 of 400."""
    gamma: PositiveFloat = 0.1
    decay_from: Fraction = 0.7
    floor: Fraction = 0.01

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.warmup >= 1.0:
            raise ValueError("a warm-up over the whole budget leaves nothing to train")
        if self.kind == "trapezoid" and not self.warmup <= self.decay_from < 1.0:
            raise ValueError("decay_from lies between warmup and 1")
        return self


class BudgetSettings(StrictModel):
    """The end of a run: the first limit that is reached; ``published`` epochs if none is given."""

    published: ClassVar[float] = EPOCHS

    epochs: PositiveFloat | None = None
    """Passes over the photos, or over the samples of a recipe's data set."""
    steps: PositiveInt | None = None
    hours: PositiveFloat | None = None
    """Wall-clock hours of training, summed over all resumptions."""

    @model_validator(mode="before")
    @classmethod
    def _default(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and all(value is None for value in data.values()):
            return {"epochs": cls.published}
        return data


class RunSettings(StrictModel):
    """Settings for carrying out a run; none of them changes what is learned."""

    threads: PositiveInt | None = None
    """Number of threads of one operation; null leaves torch's default."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """``auto`` is the device that Accelerate finds; any other must exist."""
    mixed_precision: Literal["no", "fp16", "bf16"] | None = None
    """Precision of the forward pass; null is the one given to ``accelerate launch``, else ``no``.
    ``fp16`` needs a GPU."""
    tf32: bool = True
    """On an Nvidia GPU, matrix products and convolutions of float32 round their inputs to
    TensorFloat-32's 10 bits of mantissa and sum in float32."""
    log_every: PositiveInt = 20
    """Steps between two lines of ``metrics.jsonl``."""
    report_seconds: PositiveFloat = 30.0
    """Seconds between two printed lines where there is no terminal."""
    checkpoint_minutes: PositiveFloat = 5.0
    validate_minutes: PositiveFloat = 15.0
    validate_images: PositiveInt = 3
    validate_side: PositiveInt = 512
    """Largest side in pixels of validation photos, which are cut to their centre."""
    validate_samples: bool = False
    """Write the reconstructions of the first validation photo at each validation."""
    tensorboard: bool = False
    """Write metrics and these reconstructions for TensorBoard as well."""
    max_bad_steps: PositiveInt = 20
    """Number of steps in a row without a finite loss and gradient that ends the run."""


class RunConfig(StrictModel):
    """The settings of a run that the engine uses, whatever the run trains."""

    fixed: ClassVar[tuple[str, ...]]
    """Keys (with all below them) that must not change when a run is resumed: other values would
    make the stored state meaningless, or change the order of the photos."""
    free: ClassVar[tuple[str, ...]] = ("data.workers", "data.cache_mib")
    """Keys below those of ``fixed`` that may change nevertheless."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: DataSettings = DataSettings()
    loss: LossSettings = LossSettings()
    optim: OptimSettings = OptimSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    budget: BudgetSettings = BudgetSettings()
    run: RunSettings = RunSettings()


class TrainConfig(RunConfig):
    """Everything that fixes a stage-1 run, apart from the photos."""

    fixed = (
        "model",
        "init",
        "seed",
        "data",
        "optim.trainable",
        "adversarial.widths",
        "adversarial.context_channels",
        "adversarial.per_level",
    )

    model: Architecture
    init: InitSettings = InitSettings()
    adversarial: AdversarialSettings | None = None
    """The adversarial term and its discriminator, for stage 1b; null is stage 1a."""

    @field_validator("model", mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        return preset(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        stride = self.model.hyper_stride
        if self.data.crop % stride:
            wanted = max(1, round(self.data.crop / stride)) * stride
            raise ValueError(f"crop {self.data.crop} is not a multiple of {stride}; take {wanted}")
        if len(self.loss.rate_lambdas) != self.model.quality_levels:
            raise ValueError(
                f"{len(self.loss.rate_lambdas)} rate_lambdas for "
                f"{self.model.quality_levels} quality levels; give loss.rate_lambdas one for each "
                "level, from the fewest bits to the most"
            )
        return self


def load_config(
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    base: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Read a configuration from a YAML file, over ``base`` and under ``key=value`` overrides.

    Args:
        path: YAML file, or None.
        overrides: ``key=value``, keys dotted.
        base: values that the file overrides.

    Raises:
        ConfigError: anything is unknown, not readable or not valid.
    """
    tree = read_tree(path, base)
    for item in overrides:
        if item.startswith("model.") and isinstance(tree.get("model"), str):
            tree["model"] = preset(tree["model"]).model_dump()
        tree = override(tree, item)
    return TrainConfig.parse(tree, source=str(path) if path is not None else "training settings")
