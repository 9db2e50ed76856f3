"""Draws the lecture's pictures: `python -m lecture.pictures [NAME ...]`.

Without a name it draws all of them. Ten need no training. For the other three it trains networks on digits, which takes
a few minutes; the runs stay in `runs/lecture`.
"""

from absl import flags

from common import launch
from common.errors import unknown
from common.files import user_path, whole_file, writing

_OUT = flags.DEFINE_string("out", "docs/images", "folder of the pictures", allow_override=True)
_RUNS = flags.DEFINE_string("runs", "runs/lecture", "folder of the runs that the pictures show", allow_override=True)


def main(*names: str) -> None:
    """Draws the named pictures."""
    from lecture.pictures import catalogue, style  # slow imports, after the flags are known to be right

    for name in names:
        if name not in catalogue.PICTURES:
            raise unknown("picture", name, catalogue.PICTURES)
    out, folder = user_path(_OUT.value), user_path(_RUNS.value)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    for name in names or catalogue.PICTURES:
        path = out / f"lecture_{name}.png"
        with whole_file(path) as file:
            style.save(catalogue.draw(name, folder), file)
        print(path)


if __name__ == "__main__":
    launch.run(main)
