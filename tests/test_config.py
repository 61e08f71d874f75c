"""A config that exists is valid, and JSON gives back exactly what it was given."""

import json
import math
from collections.abc import Callable
from typing import Any, get_args

import pytest

from ddpm_cli.config import (
    NETWORKS,
    PRESETS,
    RECIPES,
    SAMPLERS,
    Budget,
    Loss,
    ReportUNetConfig,
    RunConfig,
    SamplerConfig,
    ScheduleConfig,
    TrainConfig,
    UNetConfig,
    Variance,
    from_dict,
    network_for,
    to_dict,
)
from ddpm_cli.errors import UsageError

SHAPE = (1, 28, 28)
NAN, INF = math.nan, math.inf

REFUSED: list[tuple[Callable[..., object], dict[str, Any]]] = [
    *((ScheduleConfig, {"timesteps": t}) for t in (0, -1, 1.5, True)),
    *((ScheduleConfig, {"kind": "linear", end: b}) for end in ("beta_start", "beta_end") for b in (0, 1, -0.1, 2, NAN)),
    *((ScheduleConfig, {"kind": kind, "beta_start": 0.1}) for kind in ("cosine", "sigmoid")),
    (ScheduleConfig, {"kind": "custom", "timesteps": 1, "betas": (0.1,), "beta_start": 0.1}),
    *((ScheduleConfig, {"max_beta": b}) for b in (0, 1, NAN)),
    *((ScheduleConfig, {"offset": s}) for s in (-0.1, NAN, INF)),
    *((ScheduleConfig, {"kind": "sigmoid", "start": a, "end": b}) for a, b in ((3, 3), (4, 3), (NAN, 3), (-3, NAN))),
    *((ScheduleConfig, {"kind": "sigmoid", "start": a, "end": b}) for a, b in ((-INF, 3), (-3, INF))),
    *((ScheduleConfig, {"kind": "sigmoid", "tau": tau}) for tau in (0, -1, NAN, INF)),
    (ScheduleConfig, {"kind": "custom"}),
    (ScheduleConfig, {"kind": "custom", "timesteps": 3, "betas": (0.1, 0.2)}),
    *((ScheduleConfig, {"kind": "custom", "timesteps": 2, "betas": (0.1, b)}) for b in (0, 1, NAN)),
    (ScheduleConfig, {"kind": "linear", "timesteps": 1, "betas": (0.1,)}),
    (ScheduleConfig, {"kind": "constant", "beta_start": 0.1, "beta_end": 0.2}),
    (ScheduleConfig, {"kind": "cosin"}),
    *((kind, {"shape": s}) for kind in NETWORKS.values() for s in ((0, 28, 28), (1, 28, 5000), (28, 28), ())),
    *((kind, {"shape": SHAPE, "classes": c}) for kind in NETWORKS.values() for c in (-1, 1.5)),
    *((ReportUNetConfig, {"shape": SHAPE, "widths": w}) for w in ((8, 16), (8, 16, 0), (8, 16, 32, 64))),
    *((ReportUNetConfig, {"shape": SHAPE, **o}) for o in ({"heads": 0}, {"heads": 3}, {"embedding": 0})),
    (ReportUNetConfig, {"shape": SHAPE, "time": "log-snr"}),
    *((UNetConfig, {"shape": SHAPE, "widths": w}) for w in ((), (12,), (0,), (8,) * 9)),
    *((UNetConfig, {"shape": SHAPE, o: 0}) for o in ("patch", "blocks", "heads")),
    *((UNetConfig, {"shape": SHAPE, "attention": a}) for a in ((-1,), (2,))),
    (UNetConfig, {"shape": SHAPE, "widths": (8, 16), "heads": 3}),
    *((UNetConfig, {"shape": SHAPE, "dropout": p}) for p in (-0.1, 1, NAN)),
    (UNetConfig, {"shape": SHAPE, "time": "t"}),
    (SamplerConfig, {"name": "ddpn"}),
    *((SamplerConfig, {"steps": n}) for n in (0, 1.5, True)),
    (SamplerConfig, {"spacing": "even"}),
    *((SamplerConfig, {"name": "ddim", "eta": eta}) for eta in (-0.1, 1.1, NAN)),
    *((SamplerConfig, {"name": name, "eta": 0.5}) for name in SAMPLERS if name != "ddim"),
    (SamplerConfig, {"name": "ddpm", "variance": "medium"}),
    (SamplerConfig, {"name": "ddim", "variance": "learned"}),
    *((SamplerConfig, {"name": name, "variance": "small"}) for name in SAMPLERS if name != "ddpm"),
    *((SamplerConfig, {"guidance": g}) for g in (-1, NAN, INF)),
    *((SamplerConfig, {"guidance": 2.0, "rescale": r}) for r in (-0.1, 1.1, NAN)),
    *((SamplerConfig, {"guidance": 2.0, "interval": i}) for i in ((5.0, 4.0), (-1.0, 4.0), (0.0, INF), (NAN, 1.0))),
    *((SamplerConfig, {"threshold": p}) for p in (0.4, 1.1, NAN)),
    *((SamplerConfig, each) for each in ({"rescale": 0.5}, {"interval": (0.0, 9.0)})),
    (SamplerConfig, {"threshold": 0.9, "clip": False}),
    *((TrainConfig, {o: "other"}) for o in ("target", "loss", "times", "decay", "optimizer")),
    *((TrainConfig, {"loss": loss, "times": "logit-normal"}) for loss in ("vlb", "hybrid")),
    *((TrainConfig, {"gamma": g}) for g in (0, -1, NAN, INF)),
    *((TrainConfig, {"batch_size": b}) for b in (0, 1.5)),
    *((TrainConfig, {"lr": lr}) for lr in (0, 1, NAN)),
    *((TrainConfig, {"warmup": w}) for w in (-1, 1.5)),
    *((TrainConfig, {"weight_decay": w}) for w in (-1, 1, NAN)),
    *((TrainConfig, {"clip": c}) for c in (-1, NAN, INF)),
    *((TrainConfig, {"ema": e}) for e in (-0.1, 1, NAN)),
    *((TrainConfig, {"label_drop": p}) for p in (-0.1, 1.1, NAN)),
    *((TrainConfig, {"seed": s}) for s in (-1, 2**63, 0.5)),
    (Budget, {}),
    (Budget, {"steps": 1, "epochs": 1}),
    *((Budget, {"steps": n}) for n in (0, 1.5)),
    (Budget, {"epochs": 0}),
    *((Budget, {"minutes": m}) for m in (0, -1, NAN, INF)),
]


@pytest.mark.parametrize(("kind", "options"), REFUSED, ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_value_out_of_range_is_a_usage_error(kind: Callable[..., object], options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        kind(**options)
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "smal"},
        {"save_every": 0},
        {"save_every": INF},
        {"save_every": NAN},
        {"sample_every": -1},
        {"eval_every": -1},
        {"limit": 0},
        {"image_size": 0},
        {"precision": "int8"},
        {"schedule": ScheduleConfig(zero_terminal_snr=True), "train": TrainConfig(target="eps")},
    ],
)
def test_a_run_out_of_range_is_a_usage_error(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RunConfig("mnist", Budget(steps=1), **options)


def test_a_misspelt_name_brings_the_nearest_one() -> None:
    with pytest.raises(UsageError) as caught:
        ScheduleConfig("cosin")  # type: ignore[arg-type]
    assert "Did you mean cosine?" in caught.value.hint
    with pytest.raises(UsageError, match="preset"):
        network_for("smal", SHAPE, 0)


CONFIGS = [
    ScheduleConfig(),
    ScheduleConfig("linear", 100, beta_start=1e-4, beta_end=0.02),
    ScheduleConfig("custom", 3, betas=(0.1, 0.2, 0.3)),
    *(network_for(preset, (3, 32, 48), 10) for preset in PRESETS),
    *(network_for(preset, (3, 32, 48), 10, learned_variance=True) for preset in PRESETS),
    *(SamplerConfig(name) for name in SAMPLERS),
    SamplerConfig("ddim", 7, "trailing", eta=0.3, guidance=2.5, clip=False),
    SamplerConfig(guidance=2.5, rescale=0.7, interval=(100.0, 700.5), threshold=0.995),
    SamplerConfig("ddpm", variance="learned"),
    TrainConfig(loss="hybrid", times="uniform"),
    *(recipe for recipe, *_ in RECIPES.values()),
    Budget(minutes=1.5),
    RunConfig("mnist", Budget(epochs=3)),
    RunConfig(
        "/photos",
        Budget(minutes=0.5),
        preset="tiny",
        conditional=False,
        schedule=ScheduleConfig("custom", 2, betas=(0.1, 0.5)),
        train=TrainConfig(target="x0", seed=2**63 - 1),
        limit=10,
        image_size=32,
        precision="bf16",
    ),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_json_gives_back_an_equal_config(config: object) -> None:
    text = json.dumps(to_dict(config), allow_nan=False)
    assert from_dict(type(config), json.loads(text), "config") == config


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        (ScheduleConfig, [], "list"),
        (ScheduleConfig, {"timestep": 3}, "timestep"),
        (ScheduleConfig, {"timesteps": "3"}, "timesteps"),
        (ScheduleConfig, {"timesteps": True}, "timesteps"),
        (ScheduleConfig, {"timesteps": 3.0}, "timesteps"),
        (ScheduleConfig, {"timesteps": None}, "timesteps"),
        (ScheduleConfig, {"offset": NAN}, "offset"),
        (ScheduleConfig, {"offset": INF}, "offset"),
        (ScheduleConfig, {"offset": False}, "offset"),
        (ScheduleConfig, {"kind": 3}, "kind"),
        (ScheduleConfig, {"kind": "custom", "timesteps": 1, "betas": 0.1}, "betas"),
        (ScheduleConfig, {"kind": "custom", "timesteps": 1, "betas": ["0.1"]}, "betas"),
        (ScheduleConfig, {"timesteps": 0}, "timesteps"),
        (UNetConfig, {}, "shape"),
        (UNetConfig, {"shape": [1, 28]}, "shape"),
        (UNetConfig, {"shape": [1, 28, 28.0]}, "shape"),
        (SamplerConfig, {"clip": 1}, "clip"),
        (RunConfig, {"dataset": "mnist"}, "budget"),
        (RunConfig, {"dataset": "mnist", "budget": {"steps": 1}, "train": {"lr": "1"}}, "lr"),
        (RunConfig, {"dataset": "mnist", "budget": {"steps": 1}, "train": {"learning_rate": 1}}, "learning_rate"),
        (RunConfig, {"dataset": 3, "budget": {"steps": 1}}, "dataset"),
    ],
)
def test_json_of_any_other_form_is_a_usage_error_that_names_the_key(kind: type, values: object, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        from_dict(kind, values, "config")


def test_a_whole_number_will_do_for_a_real_one() -> None:
    assert from_dict(ScheduleConfig, {"kind": "sigmoid", "tau": 2}, "schedule").tau == 2


@pytest.mark.parametrize(
    ("config", "timesteps", "steps"),
    [
        (SamplerConfig("ddpm"), 1000, 1000),
        (SamplerConfig("ddpm"), 4000, 4000),
        (SamplerConfig("ddim"), 1000, 50),
        (SamplerConfig("ddim"), 10, 10),
        (SamplerConfig("dpm++2m"), 1000, 20),
        (SamplerConfig("dpm++2m-sde"), 1000, 20),
        (SamplerConfig("heun"), 1000, 10),
        (SamplerConfig("ddim", steps=7), 1000, 7),
    ],
)
def test_default_numbers_of_steps(config: SamplerConfig, timesteps: int, steps: int) -> None:
    assert config.steps_and_spacing(timesteps)[0] == steps


@pytest.mark.parametrize(
    ("variance", "learned", "used"),
    [
        *((None, True, "learned"), (None, False, "small"), ("learned", True, "learned")),
        *((variance, learned, variance) for variance in ("small", "large") for learned in (True, False)),
    ],
)
def test_the_variance_of_ancestral_sampling(variance: Variance | None, learned: bool, used: str) -> None:
    assert SamplerConfig("ddpm", variance=variance).variance_of(learned) == used


def test_only_the_hybrid_loss_learns_a_variance() -> None:
    learning = {loss: TrainConfig(loss=loss).learns_variance for loss in get_args(Loss)}
    assert learning == {"simple": False, "min-snr": False, "vlb": False, "hybrid": True}


def test_a_budget_in_steps() -> None:
    assert Budget(epochs=3).total_steps(469) == 1407
    assert Budget(steps=5).total_steps(469) == 5
    assert Budget(minutes=1).total_steps(469) is None


def test_every_loss_has_a_name_that_says_which_it_is() -> None:
    names = {TrainConfig(target=target, loss=loss).loss_name for target in ("v", "eps", "x0") for loss in ("simple",)}
    assert names == {"v-loss", "eps-loss", "x0-loss"}
    assert TrainConfig(loss="min-snr").loss_name == "min-SNR loss"
    assert TrainConfig(loss="vlb", times="uniform").loss_name == "bound in bits/dim"
    assert TrainConfig(loss="hybrid", times="uniform").loss_name == "v-loss + 0.001 bound"
