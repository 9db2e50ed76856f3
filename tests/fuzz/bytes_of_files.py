"""Damage to the bytes of a file, as disks, downloads and people do it."""

from hypothesis import strategies as st


@st.composite
def damaged(draw, contents):
    """One of some contents, cut short, with bytes flipped, overwritten, inserted or removed; or only random bytes."""
    content = bytearray(draw(st.sampled_from(contents)))
    kind = draw(st.sampled_from(["random", "cut", "flipped", "overwritten", "inserted", "removed", "twice", "whole"]))
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    if draw(st.booleans()):  # headers are where it hurts
        place = min(place, draw(st.integers(0, 64)))
    if kind == "random":
        return draw(st.binary(max_size=200))
    if kind == "cut":
        return bytes(content[:place])
    if kind == "flipped":
        for spot in draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[spot] ^= 1 << draw(st.integers(0, 7))
        content[place] ^= 1 << draw(st.integers(0, 7))
    if kind == "overwritten":
        part = draw(
            st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, b"\xff" * 8, b"\0" * 8]))
        )
        content[place : place + len(part)] = part
    if kind == "inserted":
        content[place:place] = draw(st.binary(min_size=1, max_size=32))
    if kind == "removed":
        del content[place : place + draw(st.integers(1, 32))]
    return bytes(content) * (2 if kind == "twice" else 1)
