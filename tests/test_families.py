"""Fields of the networks of every family."""

import pytest
from flax import linen as nn

from common import models
from common.errors import UserError

# By the type of a field's default: values of other types, some of which Python would take without a word.
WRONG = {
    bool: ("False", 1, None),
    int: (1.5, 2.0, "1", True, None, (1, 2)),
    float: ("1", True, None, ()),
    str: (1, None, ("relu",)),
    tuple: (3, (1.5, 2), ("3", "4"), None),
}


class Wide(nn.Module):
    """A network with one field."""

    width: int = 32


def test_a_variant_names_the_nearest_field_of_a_misspelt_one():
    with pytest.raises(ValueError, match=r"variant 'wide': unknown field of Wide 'widht'; did you mean 'width'\?"):
        models.variants(Wide, {"wide": {"widht": 64}})


@pytest.mark.parametrize("family", models.families())
def test_a_field_refuses_values_of_another_type(family):
    for fields in models.family_module(family).VARIANTS.values():
        assert {type(default) for default in fields.values()} <= {*WRONG, dict}
    shapes = {tuple(fields): variant for variant, fields in models.family_module(family).VARIANTS.items()}
    for variant in shapes.values():
        fields = models.section(family, variant).to_dict()
        del fields["family"], fields["variant"]
        options = fields.pop("loss", {})
        for name, default, changes in (
            *((name, default, lambda value, name=name: {name: value}) for name, default in fields.items()),
            *((f"loss.{o}", default, lambda value, o=o: {"loss": {o: value}}) for o, default in options.items()),
        ):
            for value in WRONG[type(default)]:
                with pytest.raises(UserError, match=f"config.model.{name} "):
                    models.check(models.section(family, variant, **changes(value)))
