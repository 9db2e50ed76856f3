"""The 7x12 bitmaps, one for each digit, that LeNet-5's output layer compares with F6.

The paper sets the RBF centres by hand "to represent a stylized image of the corresponding character class drawn
on a 7x12 bitmap (hence the number 84)" (section II-B) and shows them only in a small figure. These are our own.
"""

import numpy as np

WIDTH, HEIGHT = 7, 12

# '#' is +1, '.' is -1; digits 0 to 4, then 5 to 9.
_DRAWINGS = (
    """
    .......  .......  .......  .......  .......
    ..###..  ...#...  .#####.  .#####.  .....#.
    .#...#.  ..##...  #.....#  #.....#  ....##.
    #.....#  .#.#...  ......#  ......#  ...#.#.
    #.....#  ...#...  ......#  ......#  ..#..#.
    #.....#  ...#...  .....#.  ..####.  .#...#.
    #.....#  ...#...  ....#..  ......#  #....#.
    #.....#  ...#...  ...#...  ......#  #######
    #.....#  ...#...  ..#....  ......#  .....#.
    .#...#.  ...#...  .#.....  #.....#  .....#.
    ..###..  .#####.  #######  .#####.  .....#.
    .......  .......  .......  .......  .......
    """,
    """
    .......  .......  .......  .......  .......
    #######  ..####.  #######  .#####.  .#####.
    #......  .#.....  ......#  #.....#  #.....#
    #......  #......  .....#.  #.....#  #.....#
    #......  #......  .....#.  #.....#  #.....#
    ######.  ######.  ....#..  .#####.  .######
    ......#  #.....#  ....#..  #.....#  ......#
    ......#  #.....#  ...#...  #.....#  ......#
    ......#  #.....#  ...#...  #.....#  ......#
    #.....#  #.....#  ..#....  #.....#  .....#.
    .#####.  .#####.  ..#....  .#####.  .####..
    .......  .......  .......  .......  .......
    """,
)


def _centres(drawings: tuple[str, ...]) -> np.ndarray:
    """Every digit flattened row by row: [10, 84] of +-1."""
    digits = []
    for block in drawings:
        rows = [line.split() for line in block.split("\n") if line.strip()]
        digits += ["".join(row[column] for row in rows) for column in range(len(rows[0]))]
    return np.array([[1.0 if pixel == "#" else -1.0 for pixel in digit] for digit in digits], np.float32)


CENTRES: np.ndarray = _centres(_DRAWINGS)
