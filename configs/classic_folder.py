"""A classic pipeline on a folder of your own images: FOLDER/train/<class>/*, FOLDER/test/<class>/*.

Command: python -m classic.main --config=configs/classic_folder.py:fisher:FOLDER
The sub-folders are the classes. Without test/ a fifth of each class is held out. The middle square of an image becomes
96x96 pixels, 32x32 for pipelines that read pixels or patches; `--config.data.resize=N` changes that.
"""

from classic.config import base


def get_config(argument: str = "fisher"):
    pipeline, _, folder = argument.partition(":")
    config = base(pipeline)
    config.data.source = f"folder:{folder}"
    small = ("pixels", "deslanted", "shifts", "tangents", "patches")
    config.data.resize = 32 if config.describe.name in small else 96
    if "scale" in config.describe:
        config.describe.scale = 1
    return config
