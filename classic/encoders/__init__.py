"""Encoders by name: modules with DEFAULTS, CHOICES, RANGES, fit, encode and finish.

DEFAULTS, CHOICES, RANGES                               options, see `classic.options.check`
fit(sample, options, seed) -> arrays                    everything that is learnt from a sample of descriptors
encode(arrays, descriptors, regions, options)           codes pooled over each region, [n r f]
finish(pooled, options, weights=None)                   normalised features, [n r*f]
"""

from types import ModuleType

from classic.encoders import flat

ENCODERS: dict[str, ModuleType] = {"flat": flat}
