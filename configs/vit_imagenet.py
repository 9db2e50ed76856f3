"""Vision Transformers trained on ImageNet from scratch, with the paper's recipe.

Paper: Dosovitskiy et al. 2021, section 4.1, appendix B.1 and Table 3: Adam with weight decay 0.3, batch 4096, 300
epochs, 10,000 steps of warm-up, cosine schedule, dropout 0.1, gradients clipped at norm 1, a hidden tanh layer in the
head.
Data: TFDS imagenet2012, prepared as docs/data.md says.
Command: python -m common.main --config=configs/vit_imagenet.py:b16 --config.data.directory=DIR
Variants: ti16, s16, s32, b16, b32, l16, l32, h14 and the hybrids r_ti16, r26_s32, r26_b32, r50_b16, r50_l32
Memory: --config.train.accumulate=N splits the batch, --config.model.remat=blocks recomputes activations.
Expected: after fine-tuning at 384 pixels, top-1 error 22.1, 26.6, 23.5 and 28.8% for b16, b32, l16 and l32 (Table 5).
Larger datasets (Table 3): --config.schedule.name=linear --config.schedule.final=1e-5 --config.optimizer.clip_norm=0
- ImageNet-21k: also --config.schedule.learning_rate=1e-3 --config.optimizer.weight_decay=0.03
  --config.train.length="90 epochs"
- JFT-300M: also --config.optimizer.weight_decay=0.1 --config.model.dropout=0.0 --config.train.length="7 epochs" and
  learning rates of 8e-4 for b16 and b32, 6e-4 for l32, 4e-4 for l16; for h14 3e-4 and 14 epochs
Then: python -m common.main --config=configs/vit_finetune.py:b16 --config.data.directory=DIR
Deviations: bfloat16 computation. The paper does not say how weights decay; here it is AdamW's decay, of kernels only.
The paper does not list its augmentation; the random areas and mirror images are those of its predecessor (Kolesnikov et
al. 2020).
"""

from common import models
from common.config import base


def get_config(variant: str = "b16"):
    model = models.section("vit", variant, dropout=0.1, dtype="bfloat16")
    model.representation_size = model.hidden_size
    config = base(model)
    config.data.source = "tfds:imagenet2012"
    config.data.test_split = "validation"
    config.data.resize = 256
    config.data.crop = 224
    config.data.train_crop = "area"
    config.data.area = (0.05, 1.0)
    config.data.pixel_range = (-1.0, 1.0)
    config.data.workers = 16
    config.augment.mirror = True
    config.train.batch_size = 4096
    config.train.length = "300 epochs"
    config.optimizer.name = "adamw"
    config.optimizer.decay = "decoupled"
    config.optimizer.decay_mask = "kernels"
    config.optimizer.weight_decay = 0.3
    config.optimizer.clip_norm = 1.0
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 3e-3
    config.schedule.warmup = "10000 steps"
    config.evaluate.every = "5 epochs"
    return config
