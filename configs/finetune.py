"""A published network, fine-tuned on a folder of your own images: FOLDER/train/<class>/*, FOLDER/test/<class>/*.

Command: python -m common.main --config=configs/finetune.py:FAMILY:VARIANT:FILE:FOLDER
for example configs/finetune.py:resnet:resnet50_modern:resnet50.pth:pets with torchvision's resnet50.pth
The head is new, with the folder's classes; only LeNet-5 has none, so it takes folders of ten digits. FILE may also be a
folder of Hugging Face's, or the workdir of a run.

Images are prepared as FILE expects: their size, crop, interpolation and scale, which the run prints and records.
--config.data.OPTION=VALUE overrides one of these. A ViT's activation and layer norms are those of FILE, too. With
FAMILY:VARIANT:FOLDER and --config.init.checkpoint=FILE none of that is read from FILE. Images are then scaled by
ImageNet's means and deviations, or to -1 to 1 for GoogLeNet and ViTs, and the run says where FILE expects something
else.

Recipes: 20 epochs with batch 32, a cosine schedule and one epoch of warm-up.
- ResNet: Nesterov momentum (Kornblith et al. 2019, appendix A.5); the head learns ten times as fast.
- VGG, AlexNet, GoogLeNet, LeNet: a tenth of the learning rate of their training; the head learns ten times as fast
  (Girshick et al. 2014, section 2.3).
- ViT: AdamW; the learning rate of each block is 0.75 times that of the next (He et al. 2022, appendix A.1).
Freeze layers with --config.optimizer.factors="('conv1*=0', 'bn1*=0', 'fc*=10')": see common/optim/factors.py.
"""

from ml_collections import ConfigDict

from configs import folder

# The means and deviations that torchvision's networks expect, in grey levels: 0.485, 0.456, 0.406; 0.229, 0.224, 0.225.
IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
HEADS = {"resnet": "fc*", "vgg": "fc8*", "alexnet": "fc8*", "googlenet": "*linear*", "vit": "head*", "lenet": "Output*"}
DECAY = 0.75  # of the learning rate, from a block of a ViT to the one before


def get_config(argument: str = "resnet:resnet50_modern:FOLDER"):
    form, example = "FAMILY:VARIANT:FILE:FOLDER", "resnet:resnet50_modern:resnet50.pth:pets"
    family, variant, paths = folder.parts(argument, form, example)
    file, _, images = paths.rpartition(":")
    fields = {"scan": False} if family == "vit" else {}  # gives each block a name of its own
    config = folder.prepared(family, variant, images, **fields)
    config.init.checkpoint = file or "FILE"
    has_head = config.model.get("output") != "rbf"  # LeNet-5 compares with bitmaps, which do not learn
    config.init.new_head = has_head
    if family in ("vit", "googlenet"):
        config.data.normalize = "range"
        config.data.pixel_range = (-1.0, 1.0)
    elif family != "lenet":
        config.data.mean, config.data.std = IMAGENET
    if file:
        from common.pretrained import adopted  # slow to import

        adopted.adopt(config, keep=("scan", "representation_size"))  # the paper drops the layer before a ViT's old head
    config.train.batch_size = 32
    config.train.length = "20 epochs"
    config.train.label_smoothing = 0.0 if family == "lenet" else 0.1  # most of its losses take class indices only
    config.schedule.name = "cosine"
    config.schedule.warmup = "1 epoch"
    config.optimizer.decay_mask = "kernels"
    if family == "vit":
        config.optimizer.name = "adamw"
        config.optimizer.decay = "decoupled"
        config.optimizer.weight_decay = 0.05
        config.optimizer.clip_norm = 1.0
        config.schedule.learning_rate = 1e-4
        config.optimizer.factors = layerwise(config.model)
    else:
        config.optimizer.name = "nesterov"
        config.optimizer.momentum = 0.9
        config.optimizer.weight_decay = 1e-4
        config.schedule.learning_rate = 0.01 if family == "resnet" else 1e-3
        head = "fc10*" if "cifar10" in variant else HEADS[family]
        config.optimizer.factors = (f"{head}=10",) if has_head else ()
    return config


def layerwise(model: ConfigDict) -> tuple[str, ...]:
    """Factors of a ViT's learning rates: 1 for the head, and below it a factor DECAY more from block to block."""
    blocks = (f"Transformer/encoderblock_{i}/*={DECAY ** (model.depth - i):.4g}" for i in range(model.depth))
    below = ["embedding/*"]
    if model.position.startswith("learned"):
        below.append("Transformer/posembed_input/*")
    if model.pooling == "token":
        below.append("cls")
    if "stages" in model:  # a hybrid's ResNet
        below += ["*_root/*", *(["block*/*"] if model.stages else [])]
    return (*blocks, *(f"{name}={DECAY ** (model.depth + 1):.4g}" for name in below))
