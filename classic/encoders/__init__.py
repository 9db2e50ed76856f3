"""Encoders by name: modules with DEFAULTS, CHOICES, RANGES, fit, encode and finish.

DEFAULTS, CHOICES, RANGES                               options, see `classic.options.check`
fit(sample, options, seed, centres=None) -> arrays      everything that is learnt from a sample of descriptors [m d];
                                                        centres: their places [m 2], for options that read them
encode(arrays, descriptors, regions, options)           codes pooled over each region, [n r f]
finish(pooled, options, weights=None)                   normalised features, [n r*f]
"""

from types import ModuleType

from ml_collections import ConfigDict

from classic.encoders import fisher, flat, llc, sparse, triangle, words

ENCODERS: dict[str, ModuleType] = {
    "flat": flat,
    "words": words,
    "fisher": fisher,
    "sparse": sparse,
    "llc": llc,
    "triangle": triangle,
}


def learns(options: ConfigDict) -> bool:
    """True for an encoder that is fitted to a sample; `flat` without a PCA is not. options: the section `encode`."""
    return options.name != "flat" or options.pca > 0
