"""The measurements of `benchmarks.campaign`, in the order of their worth, each with its command and expected time."""

import dataclasses

# Seconds of an update of 128 images of 32x32 pixels, in float32, fifty in a call, on one H200 (2026-11-27). The times
# of other networks follow from their numbers of layers: such small kernels all take about as long.
_RESNET20_UPDATE = 2.45e-3
_START = 20.0  # seconds until a run's first update: imports, images, compilation


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A command to run on an accelerator.

    worth: what it tells. minutes: expected on one H100 or H200. command: module and arguments, in which {out} is the
    folder of results, {source} that of CIFAR-10's images, {data} that of TFDS datasets. needs: packages, and 'cifar10'
    and 'data' for the folders that have to be given. smoke: the arguments of a run that takes seconds on a CPU.
    """

    name: str
    worth: str
    minutes: float
    command: tuple[str, ...]
    smoke: tuple[str, ...]
    needs: tuple[str, ...] = ()


def _training_minutes(updates: float, layers: float = 20, side_by_side: int = 1, runs: int = 1) -> float:
    """The expected minutes of `runs` runs of `updates` updates each. Side by side they save only start-up time."""
    return runs * (updates * _RESNET20_UPDATE * layers / 20 + _START / side_by_side) / 60


def _speed(name: str, minutes: float, models: str, batch: int, *options: str) -> Measurement:
    fixed = ("--image_size=224", "--dtype=bfloat16", "--peers=torch.compile,timm", "--together=2")
    return Measurement(
        f"speed-{name}",
        "training speed against PyTorch's, and the share of the matrix products' rate",
        minutes,
        ("benchmarks.throughput", f"--models={models}", f"--batch_size={batch}", *(options or fixed), "--out={out}"),
        ("--models=resnet:resnet20", "--batch_size=2", "--image_size=16", "--rounds=2", "--seconds=0", "--peers="),
        needs=("torch", "timm") if not options else ("torch",),
    )


def _formulations(model: str, minutes: float, *options: str) -> Measurement:
    return Measurement(
        f"formulations-{model.partition(':')[2]}",
        "formulations and compiler flags that may be faster",
        minutes,
        ("benchmarks.formulations", f"--model={model}", *options, "--out={out}"),
        (
            *("--model=vit:nano4", "--candidates=looped_blocks", "--batch_size=2", "--image_size=16"),
            *("--rounds=2", "--seconds=0", "--per_call=1,2"),
        ),
    )


def _kernels(model: str, *options: str) -> Measurement:
    return Measurement(
        f"kernels-{model.partition(':')[2]}",
        "where an update's time goes",
        0.7,
        ("benchmarks.kernels", f"--model={model}", *options, "--out={out}", "--traces={out}/traces"),
        ("--model=vit:nano4", "--batch_size=2", "--image_size=16", "--dtype=float32"),
    )


def _claims(name: str, worth: str, minutes: float, claims: str, needs: str, jobs: int, *options: str) -> Measurement:
    """Runs of claims, a few at a time."""
    where = {"cifar10": "--source={source}", "data": "--data_dir={data}"}[needs]
    return Measurement(
        name,
        worth,
        minutes,
        (
            *("common.reproduce", f"--claims={claims}", where, f"--jobs={jobs}", *options),
            *("--runs={out}/runs", "--results={out}"),
        ),
        (
            *("--claims=lenet5-pooling-max", "--scale=quick", "--seeds=1", "--source={source}", "--jobs=2"),
            *("--runs={out}/runs", "--results={out}"),
        ),
        needs=(needs,),
    )


_SMALL = ("--batch_size=128", "--image_size=32", "--dtype=float32")
_DEGRADATION = "resnet-plain56-worse-than-plain20"
_TRICKS = "alexnet-dropout,alexnet-crops,alexnet-2010-single-view,alexnet-overlap-pool,alexnet-pca-colour"
_DEPTHS = (
    "vgg-depth,vgg-3x3-vs-1x1,vgg-shallow-5x5,vgg-stack-3x3-vs-7x7,vgg-jitter,vgg-multicrop,vgg-multicrop-and-dense"
)
_PARTS = "googlenet-aux-small-effect,googlenet-1m-10c,googlenet-1m-144c,resnet-shortcut-abc-order,resnet-ensemble-helps"
_TRANSFORMERS = "vit-posemb-ablation,vit-gap-vs-cls,vit-shape,betterplain-no-aug,vit-attention-distance"

MEASUREMENTS = (
    Measurement(
        "agreement",
        "whether losses, gradients, attention and a continued run are right on it",
        6.0,  # it took five on one H200 with 16 cores, without GoogLeNet, whose reference compiles longest
        ("benchmarks.agreement", "--out={out}"),
        ("--families=resume,attention",),
    ),
    _speed("convolutions", 2.5, "resnet:resnet50_modern,googlenet:googlenet", 256),
    _speed("attention", 2.5, "vit:b16,vit:l16", 64),
    _formulations(
        "resnet:resnet50_modern",
        1.5,
        *("--batch_size=256", "--candidates=space_to_depth,rectified_gradient,sliced_pooling,no_command_buffers"),
    ),
    _formulations("vit:b16", 1.2, "--batch_size=128", "--candidates=looped_blocks,plain_attention"),
    _kernels("vit:b16", "--batch_size=128"),
    _kernels("resnet:resnet50_modern", "--batch_size=256"),
    _speed(
        *("small", 2.0, "resnet:resnet20,resnet:resnet56,lenet:lenet5_modern", 128),
        *("--image_size=32", "--dtype=float32", "--per_call=50", "--peers=torch.compile,torch.graphs", "--together=3"),
    ),
    _claims(
        *("activations", "ReLU against tanh to a training error of 25%, at the paper's schedule"),
        _training_minutes(391 * 50, 8, 2, runs=3) + 0.5,
        *("alexnet-relu-vs-tanh", "cifar10", 3),
    ),
    _claims(
        *("degradation", "plain and residual networks of 20 and 56 layers for 64,000 updates, one seed"),
        _training_minutes(64_000, 20, 2, runs=2) + _training_minutes(64_000, 56, 2, runs=2),
        *(_DEGRADATION, "cifar10", 2, "--seeds=1"),
    ),
    _speed("fully-connected", 3.0, "vgg:vgg16,alexnet:two_column,alexnet:one_column", 128),
    _formulations(
        "resnet:resnet20",
        1.2,
        *(*_SMALL, "--per_call=50,1,200", "--candidates=no_command_buffers,loops_in_command_buffers,no_autotuning"),
    ),
    Measurement(
        "loop-resnet20",
        "the whole training loop over its bare step",
        1.2,
        ("benchmarks.loop", "--config=configs/resnet_cifar10.py:resnet20", "--config.data.source={source}")
        + ("--steps=2000", "--rounds=3", "--out={out}"),
        ("--config=configs/lenet5_digits.py", "--steps=20", "--rounds=2"),
        needs=("cifar10",),
    ),
    Measurement(
        "loop-lenet5",
        "the whole training loop over its bare step",
        0.6,
        ("benchmarks.loop", "--config=configs/lenet5_mnist_modern.py", "--config.data.directory={data}")
        + ("--steps=9380", "--rounds=3", "--out={out}"),
        ("--config=configs/lenet5_digits.py", "--steps=20", "--rounds=2"),
        needs=("data",),
    ),
    Measurement(
        "scaling",
        "images a second against batch, image size, depth and devices",
        6.0,
        ("benchmarks.sweep", "--minutes=6", "--out={out}"),
        ("--scale=smoke", "--minutes=0.5"),
    ),
    Measurement(
        "inputs",
        "the share of the time that decoding JPEGs takes",
        2.5,
        ("benchmarks.inputs", "--train", "--minutes=2", "--out={out}"),
        ("--images=200", "--batch_size=16", "--workers=2"),
    ),
    _claims(
        *("tricks", "AlexNet's tricks, one by one, at the paper's schedule"),
        _training_minutes(23_460, 8, 4, runs=30),
        *(_TRICKS, "cifar10", 4),
    ),
    _claims(
        *("depths", "VGG's comparisons and scales, at short schedules"),
        _training_minutes(4_000, 14, 6, runs=60),
        *(_DEPTHS, "cifar10", 6, "--scale=quick"),
    ),
    _claims(
        *("parts", "GoogLeNet's classifiers and crops, ResNet's shortcuts and ensembles, at short schedules"),
        _training_minutes(2_000, 20, 6, runs=45),
        *(_PARTS, "cifar10", 6, "--scale=quick"),
    ),
    _claims(
        *("transformers", "ViT's embeddings, pooling, shape and augmentation, at short schedules"),
        _training_minutes(4_000, 12, 6, runs=33),
        *(_TRANSFORMERS, "cifar10", 6, "--scale=quick"),
    ),
    _claims(
        *("convolution-or-attention", "ViT against ResNet at equal cost for 64,000 updates"),
        _training_minutes(64_000, 20, 2, runs=6),
        *("vit-small-data-convolution-wins", "cifar10", 2),
    ),
    _claims(
        *("residual-depths", "ResNet-20 to 110, plain-20, 56 and 110 for 64,000 updates, all seeds"),
        _training_minutes(64_000, 50, 2, runs=24),
        *(f"{_DEGRADATION},resnet-cifar-depth-helps,resnet-plain110-fails", "cifar10", 2),
    ),
    _claims(
        *("digits", "LeNet-5 and the 1989 network over many seeds"),
        _training_minutes(1.2e6, 1.5, 8, runs=10) + _training_minutes(1.7e5, 1.5, 8, runs=25),
        *("lenet5-mnist-error,zip89-test-error", "data", 8),
    ),
)
