"""Datasets that TFDS prepared as ArrayRecord, with random access and without TensorFlow.

The features' types show which one is the image and which the label; shapes, sizes and class names come from the
prepared dataset. Nothing here needs the code that generated it.
"""

import collections
import dataclasses
import difflib
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from google.protobuf import json_format
from ml_collections import ConfigDict

from common.data.dataset_info import Info, NotPreparedError, fingerprint
from common.data.formats import builders
from common.data.sources import ImageSource, Record, Records, Subset
from common.data.splits import (
    Dataset,
    fixed_order,
    held_out_share,
    make_dataset,
    overlap_note,
    unused_note,
    with_input_shape,
)
from common.errors import UserError, count_of, first_line, unknown
from common.files import user_path

FILE_FORMAT = "array_record"  # the only format of TFDS with random access


@dataclasses.dataclass(frozen=True)
class TfdsRecords:
    """One split of a prepared dataset, its images still encoded."""

    name: str
    records: Any  # a TFDS data source whose images are still encoded
    files: tuple[Any, ...]  # TFDS's file instructions: the files, and the range of records in each
    keys: tuple[str, str]  # names of the image and of the label
    num_classes: int

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.__getitems__([range(len(self))[index]])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Record]:
        try:
            records = self.records.__getitems__([int(i) for i in indices])
        except RuntimeError as error:  # raised by array_record for a damaged file
            raise UserError(_damaged(self._file_of(indices), error)) from error
        return [self._record(record, index) for record, index in zip(records, indices, strict=True)]

    def _record(self, record: dict[str, Any], index: int) -> Record:
        image_key, label_key = self.keys
        label, name = record[label_key], f"{self.name}[{index}]"
        if not 0 <= label < self.num_classes:
            raise UserError(f"{name} has label {label}; expected 0..{self.num_classes - 1}: is this split labelled?")
        return Record(record[image_key], int(label), name)

    def _file_of(self, indices: Sequence[int]) -> str:
        """The names of the files that hold these examples."""
        ends = np.cumsum([file.take for file in self.files])
        names = (str(self.files[i].filename) for i in np.unique(np.searchsorted(ends, indices, side="right")))
        return ", ".join(names)


def open_dataset(name: str, config: ConfigDict, known: Info | None = None) -> Dataset[ImageSource]:
    """The training and test splits of a prepared dataset; no image is decoded.

    name: TFDS's NAME, NAME/CONFIG or NAME/CONFIG:VERSION. known: as for other sources; the order of the classes is
    fixed. Raises UserError for an unknown name, another file format, damaged files, and features other than one image
    and one label, and NotPreparedError for a known name that is not prepared on this machine.
    """
    found = find_prepared(name, config.directory)
    if found is None:
        raise _not_prepared(name, config)
    check_format(found, config.directory)
    facts = _stored_facts(found.info, config)
    train, test = (_open_split(found, split) for split in (config.train_split, config.test_split))
    train, validation, notes = _with_validation(found, train, test, config)
    splits = [(config.train_split, train), (config.test_split, test), (config.validation, validation or ())]
    kept = fingerprint(f"{found.info.full_name} {split} {len(records)}" for split, records in splits)
    facts = dataclasses.replace(facts, fingerprint=kept)
    return make_dataset(train, test, facts, config, validation, notes)


def _with_validation(
    found: tfds.core.DatasetBuilder, train: TfdsRecords, test: TfdsRecords, config: ConfigDict
) -> tuple[Records, Records | None, list[str]]:
    """The training examples, the validation examples that the config asks for, and notes on both."""
    wanted, share = config.validation, held_out_share(config)
    notes = []
    if shared := overlap(train.files, test.files):
        notes.append(overlap_note(shared, len(test)))
    if share:
        # The classes are unknown until every example is read, so the hash of an example's number decides.
        order = fixed_order(str(i) for i in range(len(train)))
        count = int(np.clip(round(share * len(train)), 1, len(train) - 1))
        held_out, rest = np.sort(order[:count]), np.sort(order[count:])
        notes.append(f"validated on {100 * share:.4g}% of the training images, held out at random")
        return Subset(train, rest), Subset(train, held_out), notes
    if wanted:
        validation = _open_split(found, wanted)
        for split, records in ((config.train_split, train), (config.test_split, test)):
            if shared := overlap(validation.files, records.files):
                raise UserError(
                    f"config.data.validation '{wanted}' shares {count_of(shared, 'image')} with '{split}'; make "
                    f"them slices that do not overlap, such as 'train[:90%]' and 'train[90%:]'"
                )
        return train, validation, notes
    for name in {"validation", "val"} & found.info.splits.keys():
        if not any(overlap(found.info.splits[name].file_instructions, records.files) for records in (train, test)):
            notes.append(unused_note(f"the split '{name}'", name))
    return train, None, notes


def overlap(first: Sequence[Any], second: Sequence[Any]) -> int:
    """The number of examples that two splits, given by TFDS's file instructions, have in common."""
    parts = collections.defaultdict(list)  # of the second split, by file
    for file in second:
        parts[str(file.filename)].append((file.skip, file.skip + file.take))
    return sum(
        max(min(file.skip + file.take, end) - max(file.skip, start), 0)
        for file in first
        for start, end in parts[str(file.filename)]
    )


def find_prepared(name: str, directory: str) -> tfds.core.DatasetBuilder | None:
    """The prepared dataset of this name in a TFDS directory ('' is TFDS's default), or None."""
    given = name.partition(":")[0]
    usual = given.lower().replace("-", "_")
    if usual != given and is_ours(usual):  # TFDS would take 'MNIST' for its own builder, which needs TensorFlow
        raise UserError(f"unknown TFDS dataset '{name}'; did you mean '{usual}'?")
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=_root(directory))
    except tfds.core.registered.DatasetNotFoundError:
        return None
    except (tfds.core.dataset_info.DatasetInfoFileError, json_format.ParseError, ValueError) as error:
        raise UserError(f"TFDS dataset '{name}' cannot be opened: {first_line(error)}") from error


def registered_builder(name: str, directory: str, **options: Any) -> tfds.core.DatasetBuilder:
    """The builder that generates a dataset, TFDS's or ours. Raises UserError for an unknown name, config or version."""
    base, _, config = name.partition(":")[0].partition("/")
    try:
        builder_class = builders.builder_class(base) if is_ours(base) else tfds.builder_cls(base)
        if config and config not in builder_class.builder_configs:
            raise unknown(f"config of TFDS dataset '{base}'", config, builder_class.builder_configs)
        if is_ours(base):
            return builder_class(data_dir=_root(directory), version=name.partition(":")[2] or None, **options)
        return tfds.builder(name, data_dir=_root(directory), **options)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise unknown("TFDS dataset", name, _nearby_names(name, directory)) from error
    except (ValueError, AssertionError) as error:
        raise UserError(f"TFDS dataset '{name}' cannot be opened: {first_line(error)}") from error


def check_format(found: tfds.core.DatasetBuilder, directory: str) -> None:
    """Raises UserError for a dataset that was prepared in a format without random access."""
    if found.info.file_format.value == FILE_FORMAT:
        return
    raise UserError(
        f"'{found.info.full_name}' is prepared as {found.info.file_format.value}, expected {FILE_FORMAT}: remove "
        f"{found.data_dir} or choose another directory, then run {prepare_command(found.name, directory)}"
    )


def prepare_command(name: str, directory: str) -> str:
    """The command that prepares a dataset in a TFDS directory."""
    return f"`python -m common.prepare --dataset={name} --data_dir={_root(directory)}`"


def is_ours(name: str) -> bool:
    """True if the builder of NAME or NAME:VERSION is one of `common.data.formats.builders`."""
    return name.partition(":")[0] in builders.names()


def _root(directory: str) -> pathlib.Path:
    """The folder of a TFDS directory; '' is TFDS's default."""
    return user_path(directory or tfds.core.constants.DATA_DIR)


def _nearby_names(name: str, directory: str) -> list[str]:
    """Names of all prepared datasets, of those that we can prepare, and similar ones that TFDS can."""
    root = _root(directory)
    prepared = {path.relative_to(root).parts[0] for path in root.glob("*/**/features.json")}
    close = difflib.get_close_matches(name, tfds.list_builders(with_community_datasets=False))
    return sorted({*prepared, *close, *builders.names()})


def _not_prepared(name: str, config: ConfigDict) -> UserError:
    facts = _stored_facts(registered_builder(name, config.directory).info, config)
    root, command = _root(config.directory), prepare_command(name, config.directory)
    missing = "" if root.is_dir() else " (no such folder)"
    return NotPreparedError(
        f"TFDS dataset '{name}' is not prepared in {root}{missing}: run {command}", with_input_shape(facts, config)
    )


def _feature_keys(info: tfds.core.DatasetInfo) -> tuple[str, str]:
    """The names of the image and the label: TFDS's `supervised_keys`, or the only image and the only label."""
    features = sorted(info.features.items())  # TFDS restores them in any order
    images = [key for key, feature in features if _is_image(feature)]
    labels = [key for key, feature in features if isinstance(feature, tfds.features.ClassLabel)]
    supervised = info.supervised_keys
    if supervised and supervised[0] in images and supervised[1] in labels:
        return supervised[0], supervised[1]
    if len(images) == len(labels) == 1:
        return images[0], labels[0]
    raise UserError(
        f"'{info.full_name}' has images {images} and labels {labels}; expected one 8-bit image (or float tensor of "
        f"height, width, channels) and one class label, or supervised_keys that name them"
    )


def _is_image(feature: tfds.features.FeatureConnector) -> bool:
    if isinstance(feature, tfds.features.Image):
        return feature.np_dtype == np.uint8
    is_pixels = feature.np_dtype in (np.uint8, np.float32) if isinstance(feature, tfds.features.Tensor) else False
    return is_pixels and len(feature.shape) == 3


def _stored_facts(info: tfds.core.DatasetInfo, config: ConfigDict) -> Info:
    """The facts of a dataset without its splits' sizes; the shape is that of stored images, 0 where they differ."""
    image_key, label_key = _feature_keys(info)
    image, label = info.features[image_key], info.features[label_key]
    shape, is_encoded = image.shape, isinstance(image, tfds.features.Image)
    if None in shape[:2] and not config.resize and not config.crop:
        raise UserError(f"images of '{info.full_name}' differ in size: set config.data.resize to one side for all")
    if not config.channels and (shape[2] is None or (is_encoded and shape[2] not in (1, 3))):
        said = f"have {count_of(shape[2], 'channel')}" if shape[2] else "differ in channels"
        raise UserError(f"images of '{info.full_name}' {said}: set config.data.channels to 1 or 3")
    height, width, channels = (length or 0 for length in shape)
    facts = Info(info.name, label.num_classes, tuple(label.names), (height, width, channels), 0, 0)
    return dataclasses.replace(facts, float_images=bool(np.issubdtype(image.np_dtype, np.floating)))


def _open_split(found: tfds.core.DatasetBuilder, split: str) -> TfdsRecords:
    """The records of a split or slice such as 'train[:90%]', with images still encoded."""
    info = found.info
    encoded = [key for key, feature in info.features.items() if isinstance(feature, tfds.features.Image)]
    try:
        files = tuple(info.splits[split].file_instructions)
        if not files:
            raise UserError(f"split '{split}' of '{info.full_name}' has no examples")
        records = found.as_data_source(split, decoders={key: tfds.decode.SkipDecoding() for key in encoded})
    except (KeyError, ValueError) as error:
        if split.isidentifier() and split not in info.splits:
            raise unknown(f"split of '{info.full_name}'", split, info.splits) from error
        raise UserError(f"split '{split}' of '{info.full_name}': {str(error).splitlines()[-1]}") from error
    for file in files:
        _check_file(file)
    keys = _feature_keys(info)
    num_classes = info.features[keys[1]].num_classes
    return TfdsRecords(f"{info.full_name} {split}", records, files, keys, num_classes)


def _check_file(file: Any) -> None:
    """Raises a UserError that names a file that is missing, cut short, or has the wrong number of examples."""
    try:
        reader = array_record_module.ArrayRecordReader(str(file.filename))
        size = reader.num_records()
        reader.close()
    except RuntimeError as error:
        raise UserError(_damaged(file.filename, error)) from error
    if size != file.examples_in_shard:
        there = count_of(size, "example")
        raise UserError(_damaged(file.filename, f"it has {there}, expected {file.examples_in_shard}"))


def _damaged(path: Any, why: object) -> str:
    return f"'{path}' is missing or damaged: {why}; remove its folder and prepare the dataset again"
