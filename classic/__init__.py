"""The pipeline that deep networks replaced: descriptors, an encoding, pooling, and a linear or kernel classifier.

OpenCV and scikit-image find corners and describe them; they come with the extra 'classic'. scikit-learn is imported
inside the functions that use it, so commands that do not need it start quickly.
"""

import contextlib
import importlib.util
import sys

from common import errors
from common.command_line import commands


def _check_libraries() -> None:
    """Raises UserError if a library of the extra is not installed."""
    packages = {"cv2": "OpenCV", "skimage": "scikit-image"}
    missing = [title for module, title in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise errors.UserError(f"classic needs {' and '.join(missing)}: pip install -e '.[classic]'")


# `python -m classic.NAME` imports this package before the command's own code could report an error. Python documents
# that sys.argv[0] is '-m' at that moment.
with errors.reporting_user_errors():
    commands.check_start("classic")
with errors.reporting_user_errors() if sys.argv[:1] == ["-m"] else contextlib.nullcontext():
    _check_libraries()
