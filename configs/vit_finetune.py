"""A pre-trained Vision Transformer fine-tuned at 384 pixels, with the paper's recipe.

Paper: Dosovitskiy et al. 2021, appendix B.1.1 and Table 4: SGD with momentum 0.9, batch 512, cosine schedule, no weight
decay, gradients clipped at norm 1, 20,000 steps on ImageNet, learning rate from 0.003, 0.01, 0.03 and 0.06. Its code
has 500 steps of warm-up and 0.03. A linear layer of zeros replaces the head.
Data: TFDS imagenet2012, prepared as docs/data.md says.
Command: python -m common.main --config=configs/vit_finetune.py:b16 --config.init.checkpoint=ViT-B_16.npz
--config.data.directory=DIR
Checkpoint: the variant's published .npz, or the workdir of a run; by default that of `vit_imagenet` with the same
variant. Position embeddings are interpolated to the new grid of patches.
Variants: those of `vit_imagenet`
Other data: --config.data.source=folder:PATH; the paper trains 10,000 steps on CIFAR, 500 on Pets and Flowers, and tries
--config.schedule.learning_rate 0.001, 0.003, 0.01 and 0.03. H/14: --config.data.resize=518
Table 2's best numbers: --config.data.resize=512 for l16, 518 for h14, and --config.optimizer.ema=0.9999
Memory: --config.train.accumulate=N splits the batch, --config.model.remat=blocks recomputes activations.
Expected: top-1 error 22.1, 26.6, 23.5 and 28.8% for b16, b32, l16 and l32 pre-trained on ImageNet itself, 16.0, 18.7,
14.9 and 19.0% on ImageNet-21k (Table 5).
Deviations: bfloat16 computation. Tests use the centre square; the paper's code squeezes the whole image into a square.
"""

from common import models
from common.config import base


def get_config(variant: str = "b16"):
    config = base(models.section("vit", variant, dtype="bfloat16"))
    config.init.checkpoint = f"runs/vit_imagenet_{variant}"
    config.init.new_head = True
    config.data.source = "tfds:imagenet2012"
    config.data.test_split = "validation"
    config.data.resize = 384
    config.data.train_crop = "area"
    config.data.area = (0.05, 1.0)
    config.data.pixel_range = (-1.0, 1.0)
    config.data.workers = 16
    config.augment.mirror = True
    config.train.batch_size = 512
    config.train.length = "20000 steps"
    config.optimizer.name = "momentum"
    config.optimizer.momentum = 0.9
    config.optimizer.clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 0.03
    config.schedule.warmup = "500 steps"
    config.evaluate.every = "1 epoch"
    config.evaluate.batch_size = 500
    return config
