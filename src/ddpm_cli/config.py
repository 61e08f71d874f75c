"""Every choice that shapes a model or a run, as frozen dataclasses that check themselves.

Invariant: a config that exists is valid; it turns into plain JSON with :func:`to_dict` and back, strictly, with
:func:`from_dict`. No torch and no numpy here.
"""

import dataclasses
import math
import reprlib
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ddpm_cli import ranges
from ddpm_cli.errors import UsageError, unknown_name
from ddpm_cli.ranges import Range

Config = TypeVar("Config")
Shape = tuple[int, int, int]
"""Channels, height and width of an image."""

Formula = Literal["constant", "linear", "quadratic", "scaled-linear", "cosine", "sigmoid"]
Kind = Literal[Formula, "custom"]
Target = Literal["eps", "x0", "v"]
Loss = Literal["simple", "min-snr", "vlb", "hybrid"]
Times = Literal["stratified", "uniform", "logit-normal"]
Decay = Literal["constant", "linear", "cosine"]
Time = Literal["level", "log-snr"]
Sampler = Literal["ddpm", "ddim", "euler", "euler-a", "heun", "dpm++2m", "dpm++2m-sde", "dpm++3m", "unipc"]
Spacing = Literal["uniform", "leading", "trailing", "quadratic", "log-snr", "karras"]
Variance = Literal["small", "large", "learned"]
Precision = Literal["auto", "float32", "bf16", "fp16"]
Compiling = Literal["auto", "on", "off"]
OnBadImage = Literal["stop", "skip"]
Device = Literal["auto", "cpu", "cuda", "mps"]
PlotFormat = Literal["png", "svg", "pdf"]
Optimizer = Literal["adamw", "adam"]
NoiseKind = Literal["gaussian", "uniform", "laplace", "gamma"]
Process = Literal["closed-form", "markov", "naive"]


def _check(holds: bool, what: str, found: object, expected: str) -> None:
    if not holds:
        raise UsageError(f"{what} is {found}, expected {expected}")


def check_number(name: str, value: object, allowed: Range) -> None:
    """Refuse a value that is not a number inside its range.

    Args:
        name: what the value is called, for the message.
        value: a number, or None: not given.
        allowed: its range.

    Raises:
        UsageError: it is not.
    """
    try:
        if value is not None:
            allowed.check(value)
    except ValueError as error:
        raise UsageError(f"{name} {error}") from None


def _within(config: object, **allowed: Range) -> None:
    """Check that fields of a config lie within their ranges, where they are given."""
    for name, each in allowed.items():
        check_number(name, getattr(config, name), each)


# --- the noise schedule ---------------------------------------------------------------------------------------------

SCHEDULES: dict[Kind, str] = {
    "constant": "one beta for every level: abar_t = (1 - beta)^t",
    "linear": "betas evenly spaced (Ho et al. 2020)",
    "quadratic": "square roots of beta evenly spaced",
    "scaled-linear": "quadratic with the range of latent diffusion (Rombach et al. 2022)",
    "cosine": "abar falls as a squared cosine (Nichol and Dhariwal 2021)",
    "sigmoid": "abar falls as a sigmoid (Jabri et al. 2022)",
    "custom": "your own betas, from a file",
}

# First and last beta at T = 1000; at other T they are scaled by 1000/T, so that every chain ends equally noisy.
BETA_RANGES: dict[Kind, tuple[float, float]] = {
    "constant": (0.01, 0.01),
    "linear": (1e-4, 0.02),
    "quadratic": (1e-4, 0.02),
    "scaled-linear": (0.00085, 0.012),
}


DEFAULT_SCHEDULE: Formula = "cosine"


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Which noise schedule.

    Args:
        kind: a name of :data:`SCHEDULES`.
        timesteps: T, the number of noising steps, at least 1.
        beta_start: first beta, inside (0, 1); for `constant`, every beta. None: :data:`BETA_RANGES` scaled by 1000/T.
        beta_end: last beta, inside (0, 1), likewise.
        max_beta: no beta of a schedule made from abars, or of a scaled range, exceeds it; inside (0, 1).
        offset: s of `cosine`, at least 0.
        start: where `sigmoid` starts, below `end`.
        end: where `sigmoid` ends.
        tau: temperature of `sigmoid`, above 0.
        betas: the betas of `custom`, one for each of the levels 1..T, inside (0, 1).
        zero_terminal_snr: whether signals are shifted and scaled so that nothing of the image is left at level T, and
            its beta is 1; from T = 2 on.

    Raises:
        UsageError: a value out of range, or one that this kind does not have.
    """

    kind: Kind = DEFAULT_SCHEDULE
    timesteps: int = 1000
    beta_start: float | None = None
    beta_end: float | None = None
    max_beta: float = 0.999
    offset: float = 0.008
    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0
    betas: tuple[float, ...] = ()
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        if self.kind not in SCHEDULES:
            raise unknown_name("schedule", self.kind, SCHEDULES)
        _within(self, timesteps=ranges.TIMESTEPS, offset=ranges.OFFSET, tau=ranges.TAU)
        _within(self, start=ranges.SIGMOID, end=ranges.SIGMOID)
        _within(self, beta_start=ranges.BETA, beta_end=ranges.BETA, max_beta=ranges.BETA)
        for name, beta in (("beta-start", self.beta_start), ("beta-end", self.beta_end)):
            if beta is not None and self.kind not in BETA_RANGES:
                kinds = ", ".join(BETA_RANGES)
                raise UsageError(f"--{name} does not apply to {self.kind}, only to {kinds}", f"Remove --{name}.")
        if not self.start < self.end:
            raise UsageError(
                f"--start {self.start:g} is not below --end {self.end:g}", "Give the lower one as --start."
            )
        _check((self.kind == "custom") == bool(self.betas), "number of betas", len(self.betas), "some, only for custom")
        for t, beta in enumerate(self.betas, 1):
            if not ranges.BETA.holds(beta):
                check_number(f"beta of level {t}", beta, ranges.BETA)
        if self.betas:
            _check(len(self.betas) == self.timesteps, "number of betas", len(self.betas), f"{self.timesteps} (T)")
        if self.kind == "constant":
            same = self.beta_end is None or self.beta_end == self.beta_start
            _check(same, "beta-end of a constant schedule", self.beta_end, "none, or the same as beta-start")
        fine = self.timesteps > 1 or not self.zero_terminal_snr
        _check(fine, "timesteps", self.timesteps, "2 or more with a zero terminal SNR")

    @property
    def scaling(self) -> str:
        """What was done to the kind's own beta range because T is not 1000; empty: nothing."""
        own = BETA_RANGES.get(self.kind)
        needs_end = self.kind != "constant" and self.beta_end is None
        if own is None or self.timesteps == 1000 or not (self.beta_start is None or needs_end):
            return ""
        start, end = self.beta_range()
        scaled = f"{start:.3g}" if self.kind == "constant" else f"{start:.3g} to {end:.3g}"
        return (
            f"betas are {scaled}: the defaults at T = 1000 scaled by 1000/{self.timesteps}, so that the chain ends "
            "equally noisy; --beta-start and --beta-end are not scaled"
        )

    def check_target(self, target: Target) -> None:
        """Refuse what a network cannot be asked for: where nothing of the image is left, no noise tells of it.

        Raises:
            UsageError: eps with a zero terminal SNR.
        """
        if self.zero_terminal_snr and target == "eps":
            raise UsageError(
                "at zero terminal SNR a network that predicts eps says nothing of the image, expected target v or x0",
                "Take --target v.",
            )

    def beta_range(self) -> tuple[float, float]:
        """First and last beta: as given, else the kind's own range scaled by 1000/T and capped at max_beta."""
        start, end = (min(beta * 1000 / self.timesteps, self.max_beta) for beta in BETA_RANGES[self.kind])
        return (
            start if self.beta_start is None else self.beta_start,
            end if self.beta_end is None else self.beta_end,
        )


# --- networks -------------------------------------------------------------------------------------------------------


def _check_shape(shape: Shape) -> None:
    sizes: tuple[int, ...] = shape
    fine = len(sizes) == 3 and all(map(ranges.SIDE.holds, sizes))
    _check(fine, "image shape", shape, f"channels, height and width of {ranges.SIDE.expected(0)}")


@dataclasses.dataclass(frozen=True)
class ReportUNetConfig:
    """The attention U-Net of the report; at its defaults exactly 13,911,937 parameters for 1x28x28.

    Args:
        shape: channels, height and width of the images.
        classes: number of classes it can be conditioned on; 0: unconditional.
        widths: channels at full, half and quarter resolution.
        embedding: size of the time embedding.
        heads: heads of the attention in the bottleneck.
        learned_variance: whether the answer has twice the channels, the second half for the reverse variance.
    """

    shape: Shape
    classes: int = 0
    widths: tuple[int, int, int] = (128, 256, 512)
    embedding: int = 128
    heads: int = 4
    time: Literal["level"] = "level"
    learned_variance: bool = False

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        _within(self, classes=ranges.CLASSES, heads=ranges.WIDTH, embedding=ranges.WIDTH)
        widths: tuple[int, ...] = self.widths
        fine = len(widths) == 3 and all(map(ranges.WIDTH.holds, widths))
        _check(fine, "widths", self.widths, f"three whole numbers of {ranges.WIDTH.expected(0)}")
        _check(self.widths[-1] % self.heads == 0, "widest layer", self.widths[-1], f"a multiple of {self.heads} heads")
        _check(self.time == "level", "time", self.time, "level")


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """A modern U-Net: group norm, SiLU, scale-shift time conditioning, attention at chosen resolutions.

    Args:
        shape: channels, height and width of the images; any size, padded inside and cropped back.
        classes: number of classes it can be conditioned on; 0: unconditional.
        patch: side of the pixel blocks folded into channels at the entrance (pixel-unshuffle); 1: none.
        widths: channels at each resolution, from fine to coarse; multiples of 8.
        blocks: residual blocks at each resolution on the way down; one more on the way up.
        attention: resolutions with self-attention in every block, 0 the finest; the middle has one in any case.
        heads: attention heads; divides the widths that have attention.
        dropout: probability, 0 <= p < 1, inside every residual block.
        time: what the time embedding sees: the level (t - 1), or log-SNR, which means the same in every schedule.
        learned_variance: whether the answer has twice the channels, the second half for the reverse variance.
    """

    shape: Shape
    classes: int = 0
    patch: int = 2
    widths: tuple[int, ...] = (48, 96)
    blocks: int = 2
    attention: tuple[int, ...] = (1,)
    heads: int = 4
    dropout: float = 0.0
    time: Time = "log-snr"
    learned_variance: bool = False

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        _within(self, classes=ranges.CLASSES, heads=ranges.WIDTH, patch=ranges.BLOCKS, blocks=ranges.BLOCKS)
        fine = 1 <= len(self.widths) <= 8 and all(ranges.WIDTH.holds(w) and w % 8 == 0 for w in self.widths)
        _check(fine, "widths", self.widths, f"one to eight multiples of 8, up to {ranges.WIDTH.most}")
        for place in self.attention:
            check_number("attention", place, Range(0, len(self.widths) - 1))
        for width in {self.widths[place] for place in (*self.attention, -1)}:
            _check(width % self.heads == 0, "width", width, f"a multiple of {self.heads} heads")
        _within(self, dropout=ranges.PART)
        _check(self.time in get_args(Time), "time", self.time, "level or log-snr")


NetworkConfig = ReportUNetConfig | UNetConfig
NETWORKS: dict[str, type[NetworkConfig]] = {"report-unet": ReportUNetConfig, "unet": UNetConfig}


def _tiny(shape: Shape, classes: int) -> NetworkConfig:
    return UNetConfig(shape, classes, patch=2, widths=(16, 32), blocks=1, heads=2)


def _small(shape: Shape, classes: int) -> NetworkConfig:
    # Larger images get larger patches, so that the cost stays that of a small image, and one more resolution.
    side = max(shape[1:])
    _check(side <= 2048, "the image size", side, "at most 2048 with --preset small")
    patch = 2 ** max(1, math.ceil(math.log2(side / 32)))
    widths = (48, 96) if patch == 2 else (48, 96, 144)
    return UNetConfig(shape, classes, patch=patch, widths=widths, blocks=1, attention=(len(widths) - 1,))


def _report(shape: Shape, classes: int) -> NetworkConfig:
    return ReportUNetConfig(shape, classes)


def _base(shape: Shape, classes: int) -> NetworkConfig:
    # The shape of the CIFAR-10 network of Ho et al. 2020, appendix B: 35.7 M parameters there.
    return UNetConfig(shape, classes, patch=1, widths=(128, 256, 256, 256), blocks=2, attention=(1,), dropout=0.1)


PRESETS: dict[str, tuple[Callable[[Shape, int], NetworkConfig], str]] = {
    "tiny": (_tiny, "for tests and first tries"),
    "small": (_small, "the default: good digits in minutes on a laptop"),
    "report": (_report, "the report's attention U-Net, 13.9 M parameters"),
    "base": (_base, "37 M parameters, for 32x32 colour images; wants a GPU"),
}


def network_for(preset: str, shape: Shape, classes: int, learned_variance: bool = False) -> NetworkConfig:
    """The network of a preset for images of a shape and a number of classes (0: unconditional)."""
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    return dataclasses.replace(PRESETS[preset][0](shape, classes), learned_variance=learned_variance)


# --- sampling -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """How images are drawn from a model.

    Args:
        name: the step rule.
        steps: number of steps; None: the rule's own, :data:`SAMPLERS`.
        spacing: how the steps are spread over the levels; None: the rule's own.
        eta: `ddim` alone: 0 deterministic, 1 ancestral; None: 0.
        variance: `ddpm` alone: of the noise added back, btilde (small), beta (large) or the one that the model has
            learned; None: learned where it has, else small.
        guidance: classifier-free guidance, 1: off.
        clip: whether clean-image estimates are clipped to [-1, 1].
        rescale: how far guided images are brought back to the contrast they have unguided, from 0 to 1.
        interval: the levels t, both ends included, between which there is guidance; None: everywhere.
        threshold: share of an image's pixels, 0.5 to 1, that stays within [-1, 1] where the others are clipped: all are
            divided by the value that so many do not exceed, if it is above 1; None: all are clipped at 1.

    Raises:
        UsageError: a value out of range, or an option that the rule does not have, or that comes to nothing.
    """

    name: Sampler = "dpm++2m-sde"
    steps: int | None = None
    spacing: Spacing | None = None
    eta: float | None = None
    variance: Variance | None = None
    guidance: float = 1.0
    clip: bool = True
    rescale: float = 0.0
    interval: tuple[float, float] | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.name not in SAMPLERS:
            raise unknown_name("sampler", self.name, SAMPLERS)
        _within(self, steps=ranges.STEPS, eta=ranges.SHARE, guidance=ranges.GUIDANCE, rescale=ranges.SHARE)
        _within(self, threshold=ranges.THRESHOLD)
        if self.spacing is not None and self.spacing not in get_args(Spacing):
            raise unknown_name("spacing", self.spacing, get_args(Spacing))
        if self.variance is not None and self.variance not in get_args(Variance):
            raise unknown_name("variance", self.variance, get_args(Variance))
        for option, given, owner in (("--eta", self.eta, "ddim"), ("--variance", self.variance, "ddpm")):
            if given is not None and self.name != owner:
                hint = f"Remove {option}, or add --sampler {owner}."
                raise UsageError(f"{option} applies to --sampler {owner} only, not to {self.name}", hint)
        if self.interval is not None:
            for t in self.interval:
                check_number("level of --guidance-interval", t, ranges.LEVEL)
            if self.interval[0] > self.interval[1]:
                high, low = map("{:g}".format, self.interval)
                message = f"--guidance-interval is {high}-{low}, expected the lower level first"
                raise UsageError(message, f"Give the lower level first: {low}-{high}.")
        for option, extra in (("--guidance-rescale", self.rescale), ("--guidance-interval", self.interval)):
            if extra and self.guidance == 1:
                raise UsageError(f"{option} needs guidance", f"Add --guidance 2, or remove {option}.")
        if self.threshold is not None and not self.clip:
            raise UsageError("--threshold needs clipping", "Remove --threshold, or --no-clip.")

    @property
    def is_deterministic(self) -> bool:
        """Whether the noise it starts from says all of the image."""
        return self.name not in ("ddpm", "euler-a", "dpm++2m-sde") and not self.eta

    def guides(self, t: float) -> bool:
        """Whether there is guidance at a level, where a question then costs two evaluations."""
        return self.guidance != 1 and (self.interval is None or self.interval[0] <= t <= self.interval[1])

    def changed(self, name: Sampler | None, changes: Mapping[str, Any]) -> "SamplerConfig":
        """With other settings; another method begins with its own defaults, but keeps what it does to clean images.

        Guidance that is turned off takes its interval and rescaling with it.

        Args:
            name: of the method; None: this one.
            changes: settings by name; None stands for "as it is".

        Raises:
            UsageError: a setting that the method does not have.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        other = name is not None and name != self.name
        kept = {key: getattr(self, key) for key in ("guidance", "clip", "rescale", "interval", "threshold")}
        base = SamplerConfig(name or self.name, **kept) if other else self
        if given.get("guidance") == 1:
            given = {"rescale": 0.0, "interval": None, **given}
        if given.get("clip") is False:
            given = {"threshold": None, **given}
        return dataclasses.replace(base, **given)

    def steps_and_spacing(self, timesteps: int) -> tuple[int, Spacing]:
        """How many steps, and how they are spread, for a model of `timesteps` levels."""
        usual, own, _ = SAMPLERS[self.name]
        spacing = self.spacing or own
        steps = self.steps or min(usual or timesteps, timesteps)
        # More steps than whole levels visit each level once, as T steps do.
        return min(steps, timesteps) if spacing in ("uniform", "trailing", "leading") else steps, spacing

    def variance_of(self, learned: bool) -> Variance:
        """The variance of the noise that `ddpm` adds back, for a model that has learned one or has not.

        Raises:
            UsageError: the learned variance of a model that has none.
        """
        if self.variance == "learned" and not learned:
            raise UsageError(
                "this model has learned no variance, expected one trained with --loss hybrid",
                "Take --variance small or large.",
            )
        return self.variance or ("learned" if learned else "small")


# Times that repainting makes each step: docs/editing.md has what more of them bring, and cost.
INPAINT_ROUNDS = 5

# name -> default number of steps (None: all T), default spacing, what it is
SAMPLERS: dict[Sampler, tuple[int | None, Spacing, str]] = {
    "ddpm": (None, "uniform", "ancestral sampling (Ho et al. 2020)"),
    "ddim": (50, "uniform", "from deterministic (eta 0) to ancestral (eta 1) (Song et al. 2021)"),
    "euler": (20, "karras", "the probability flow by straight steps: `ddim` of eta 0 (Karras et al. 2022)"),
    "euler-a": (20, "karras", "the same with fresh noise: `ddim` of eta 1 (Song et al. 2021)"),
    "heun": (10, "karras", "the probability flow, second order, two evaluations a step (Karras et al. 2022)"),
    "dpm++2m": (20, "log-snr", "second-order multistep, deterministic (Lu et al. 2022)"),
    "dpm++2m-sde": (20, "karras", "second-order multistep, stochastic (Lu et al. 2022)"),
    "dpm++3m": (20, "log-snr", "third-order multistep, deterministic (Lu et al. 2022)"),
    "unipc": (20, "log-snr", "second-order multistep that corrects every step (Zhao et al. 2023)"),
}


# --- training -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a denoiser is fitted. The budget stands beside it, as a number of steps.

    Args:
        target: what the network predicts.
        loss: `simple`, the mean squared error of the target; `min-snr` (Hang et al. 2023); `vlb`, the variational
            bound in bits per dimension; `hybrid`, simple + 0.001 vlb, which learns the variance too (Nichol and
            Dhariwal 2021).
        gamma: cap of the signal-to-noise ratio in `min-snr`, above 0.
        times: distribution of t: `uniform`; `stratified`, uniform too but spread evenly over a batch; `logit-normal`,
            not for `vlb` and `hybrid`, whose bound weighs every level alike.
        batch_size: images a step.
        accumulate: parts that a batch is worked through in, one after the other, of which its gradient is the mean: so
            much less memory for the same step. Batch norm sees the parts.
        optimizer: `adamw` or `adam`.
        lr: peak learning rate.
        warmup: steps over which the learning rate rises linearly from 0.
        decay: how it falls from its peak to 0 at the last step, or `constant`.
        weight_decay: of `adamw`, at least 0.
        clip: largest norm of the gradient; 0: no clipping.
        ema: half-life of the averaged weights, as a share of the run so far, below 1; 0: no averaging.
        label_drop: share of labels hidden in training, so that guidance has an unconditional half; 0..1.
        seed: of everything drawn.
    """

    target: Target = "v"
    loss: Loss = "simple"
    gamma: float = 5.0
    times: Times = "stratified"
    batch_size: int = 128
    accumulate: int = 1
    optimizer: Optimizer = "adamw"
    lr: float = 2e-3
    warmup: int = 200
    decay: Decay = "linear"
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.08
    label_drop: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for what, found, choice in (
            ("target", self.target, Target),
            ("loss", self.loss, Loss),
            ("distribution of t", self.times, Times),
            ("learning-rate decay", self.decay, Decay),
            ("optimizer", self.optimizer, Optimizer),
        ):
            if found not in get_args(choice):
                raise unknown_name(what, found, get_args(choice))
        if self.needs_bound and self.times == "logit-normal":
            raise UsageError(
                f"loss {self.loss} cannot have times logit-normal: the bound needs every level equally often",
                "Leave out --times.",
            )
        _within(self, batch_size=ranges.BATCH, accumulate=ranges.BATCH, seed=ranges.SEED, warmup=ranges.EVERY)
        _within(self, lr=ranges.RATE, weight_decay=ranges.PART, ema=ranges.PART, label_drop=ranges.SHARE)
        _within(self, gamma=ranges.GAMMA, clip=ranges.CLIP)
        if self.accumulate > self.batch_size:
            raise UsageError(
                f"--accumulate {self.accumulate} is larger than --batch-size {self.batch_size}",
                "A batch is split into at most as many parts as it has images.",
            )

    @property
    def loss_name(self) -> str:
        """What the loss is called: of which target, and with which weight or unit."""
        names = {"simple": f"{self.target}-loss", "min-snr": "min-SNR loss", "vlb": "bound in bits/dim"}
        return names.get(self.loss, f"{self.target}-loss + 0.001 bound")

    @property
    def needs_bound(self) -> bool:
        """Whether the loss is made of the variational bound, or has it in it."""
        return self.loss in ("vlb", "hybrid")

    @property
    def learns_variance(self) -> bool:
        """Whether the network learns the variance of the reverse step beside its target."""
        return self.loss == "hybrid"


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long a run trains: exactly one of the three.

    Args:
        epochs: passes over the data.
        steps: optimizer steps.
        minutes: of wall-clock time, turned into steps once the speed is known.
    """

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [f"--{f.name}" for f in dataclasses.fields(self) if getattr(self, f.name) is not None]
        _check(len(given) == 1, "budget", " and ".join(given) or "missing", "one of --epochs, --steps, --minutes")
        _within(self, epochs=ranges.TRAINED, steps=ranges.TRAINED, minutes=ranges.MINUTES)

    def total_steps(self, steps_per_epoch: int) -> int | None:
        """Steps of the whole run; None while only its minutes are known."""
        return self.epochs * steps_per_epoch if self.epochs is not None else self.steps


# The report trains with plain Adam at a constant rate and keeps no average: its loss figures belong to that recipe.
RECIPES: dict[str, tuple[TrainConfig, Budget, str]] = {
    "default": (TrainConfig(), Budget(minutes=10), "v target, AdamW, warm-up and linear decay, clipping, EMA"),
    "report": (
        TrainConfig(
            target="eps",
            times="uniform",
            optimizer="adam",
            lr=2e-4,
            warmup=0,
            decay="constant",
            clip=0.0,
            ema=0.0,
        ),
        Budget(epochs=50),
        "eps target, Adam at a constant rate, no clipping, no EMA",
    ),
}


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A training run from its data to its budget: what config.json and every saved state hold.

    Args:
        dataset: a known set, or the absolute path of a folder.
        budget: how long.
        preset: of the network.
        conditional: whether it learns the labels; None: where there are labels, but not with preset `report`.
        schedule: the forward process.
        train: the recipe.
        limit: number of images to train on; None: all.
        image_size: side images are brought to; None: their own.
        on_bad_image: whether an image of a folder that cannot be read stops the run, or is left out.
        precision: what the network computes in; a saved run holds what `auto` came to.
        save_every: minutes between saves, above 0.
        save_steps: steps between saves; None: by time alone.
        keep: models of earlier saves to keep, the newest so many.
        sample_every: epochs between grids of samples; 0: only at the end.
        eval_every: epochs between judgements of samples, which then tell the best model; 0: none.
    """

    dataset: str
    budget: Budget
    preset: str = "small"
    conditional: bool | None = None
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    limit: int | None = None
    image_size: int | None = None
    on_bad_image: OnBadImage = "stop"
    precision: Precision = "auto"
    save_every: float = 5.0
    save_steps: int | None = None
    keep: int = 0
    sample_every: int = 5
    eval_every: int = 0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise unknown_name("preset", self.preset, PRESETS)
        _within(self, limit=ranges.IMAGES, image_size=ranges.SIDE, save_every=ranges.MINUTES)
        _within(self, save_steps=ranges.TRAINED, keep=ranges.EVERY, sample_every=ranges.EVERY, eval_every=ranges.EVERY)
        if self.precision not in get_args(Precision):
            raise unknown_name("precision", self.precision, get_args(Precision))
        if self.on_bad_image not in get_args(OnBadImage):
            raise unknown_name("way with bad images", self.on_bad_image, get_args(OnBadImage))
        if self.image_size is not None:
            network_for(self.preset, (1, self.image_size, self.image_size), 0)  # refused before anything is read
        self.schedule.check_target(self.train.target)


# --- to and from JSON -----------------------------------------------------------------------------------------------


def to_dict(config: object) -> dict[str, Any]:
    """A config as plain JSON values: tuples become lists, configs inside it objects."""

    def plain(value: object) -> object:
        if isinstance(value, tuple):
            return list(value)
        return to_dict(value) if dataclasses.is_dataclass(value) else value

    fields = dataclasses.fields(config)  # type: ignore[arg-type]  # every caller passes a dataclass
    return {field.name: plain(getattr(config, field.name)) for field in fields}


def from_dict(kind: type[Config], values: object, where: str) -> Config:
    """A config from JSON values, strictly.

    Args:
        kind: one of the dataclasses here.
        values: what the JSON held.
        where: the name for messages, "schedule" say.

    Raises:
        UsageError: not an object, an unknown or missing key, a value of the wrong type or out of range.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} is {type(values).__name__}, expected an object")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    found = {}
    for key, value in values.items():
        if key not in fields:
            raise unknown_name(f"key in {where}", str(key), fields)
        if dataclasses.is_dataclass(hints[key]):
            value = from_dict(cast("type[Any]", hints[key]), value, key)
        elif not _fits(value, hints[key]):
            raise UsageError(f"{key} of {where} is {reprlib.repr(value)}, expected {hints[key]}")
        found[key] = tuple(value) if isinstance(value, list) else value
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in values:
            raise UsageError(f"{where} has no {name}")
    return kind(**found)


def _fits(value: object, hint: Any) -> bool:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in args
    if origin in (Union, types.UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        each = [args[0]] * len(value) if args[-1] is Ellipsis else args
        return len(value) == len(each) and all(map(_fits, value, each))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
