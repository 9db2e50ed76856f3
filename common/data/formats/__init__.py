"""The forms in which datasets are stored: the bundled digits, folders of images, shards, TFDS, and original files."""
