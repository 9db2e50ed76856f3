"""Today's LeNet-5 on a folder of your own images: FOLDER/train/<class>/*, FOLDER/test/<class>/*.

Command: python -m common.main --config=configs/lenet5_folder.py:FOLDER
The sub-folders are the classes. Without test/ a fifth of each class is held out. Images become 32x32 and grey;
`--config.data.channels=3` keeps colour.
"""

from common import models
from common.config import base


def get_config(folder: str = ""):
    config = base(models.section("lenet", "lenet5_modern"))
    config.data.source = f"folder:{folder}"
    config.data.channels = 1
    config.data.resize = 32
    config.train.batch_size = 32
    config.train.length = "30 epochs"
    config.augment.translate = 2.0
    config.augment.scale = 0.1
    config.augment.shear = 0.1
    config.optimizer.name = "adamw"
    config.optimizer.decay = "decoupled"
    config.optimizer.decay_mask = "kernels"
    config.optimizer.weight_decay = 0.01
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 2e-3
    config.schedule.warmup = "1 epoch"
    config.mesh.devices = 1  # small batches of a small network
    return config
