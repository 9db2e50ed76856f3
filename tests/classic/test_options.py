"""Options of a pipeline that are set and have no effect."""

import pytest

from classic import config as config_lib
from common.errors import UserError

IDLE = {  # pipeline, option -> what is said, an option that switches it on, its value then
    ("raw_linear", "data.interpolation"): ("config.data.resize is 0", "data.resize", 16),
    ("raw_linear", "data.directory"): ("config.data.source is 'digits'", "data.source", "tfds:mnist"),
    ("raw_linear", "encode.sample"): ("config.encode.pca is 0", "encode.pca", 8),
    ("raw_linear", "encode.whiten"): ("config.encode.pca is 0", "encode.pca", 8),
    ("fisher", "pool.weighted"): ("config.pool.layout is 'whole'", "pool.layout", "pyramid1"),
    ("rbf_svm", "decode.constants"): ("config.decode.C is '10'", "decode.C", "validation"),
    ("rbf_svm", "decode.holdout"): ("config.decode.C is '10' and", "decode.C", "validation"),
    ("sparse_sift", "describe.size"): ("config.describe.detector is 'dog'", "describe.detector", "harris"),
    ("harris", "describe.edge"): ("config.describe.detector is 'harris'", "describe.detector", "dog"),
}


def config_with(pipeline, changes):
    config = config_lib.base(pipeline)
    config.update_from_flattened_dict(changes)
    config_lib.validate(config)
    return config


@pytest.mark.parametrize(("pipeline", "option"), IDLE)
def test_an_option_without_effect_is_refused(pipeline, option):
    said, switch, on = IDLE[pipeline, option]
    with pytest.raises(UserError) as refusal:
        config_lib.check_given(config_with(pipeline, {}), [option])
    assert str(refusal.value).startswith(f"config.{option} has no effect, because {said}")
    config_lib.check_given(config_with(pipeline, {switch: on}), [option])
    config_lib.check_given(config_with(pipeline, {}), [option, switch])


def test_the_colours_of_grey_images_are_not_described():
    config = config_with("fisher", {"describe.colour": "opponent"})
    config_lib.check_colour(config, 3)
    with pytest.raises(UserError, match="config.describe.colour 'opponent' has no effect on grey images"):
        config_lib.check_colour(config, 1)
    for pipeline in config_lib.PIPELINES:
        config_lib.check_colour(config_lib.base(pipeline), 1)


def test_an_option_that_a_config_file_sets_is_refused_as_well():
    with pytest.raises(UserError, match="config.describe.constant has no effect, because"):
        config_lib.check_given(config_with("kmeans", {"describe.normalise": "mean", "describe.constant": 3.0}), [])
    held_out = config_with("raw_linear", {"data.validation": "10%", "decode.holdout": 0.2})
    with pytest.raises(UserError, match="because config.decode.C is 'validation' and config.data.validation is '10%'"):
        config_lib.check_given(held_out, [])
    for pipeline in config_lib.PIPELINES:
        config_lib.check_given(config_lib.base(pipeline), [])
