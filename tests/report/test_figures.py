"""Figures of a report: what they show, from arrays made by hand."""

import html as html_lib

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from common.report import assembly, curve_figures, error_figures, explained, figures, occlusion, page, sample_figures


def drawn(text):
    """A picture with a class's name."""
    figure = Figure(figsize=(3, 1))
    figure.text(0.1, 0.5, figures.shortened(text), fontsize=30)
    return page.Picture(figure, text).png


def test_names_in_other_scripts_take_an_installed_font_that_has_them(capsys):
    with rc_context():
        before = drawn("a")
        assert drawn("\u2920") != drawn("\u2921")  # two arrows that Matplotlib's usual font lacks
        assert drawn("a") == before
    assert capsys.readouterr().err == ""


def test_characters_that_no_font_has_are_reported_once_in_one_line(capsys, recwarn):
    with rc_context():
        drawn("\U000e0041 \U000e0042")
        drawn("\U000e0043")
    said = capsys.readouterr().err
    assert said.startswith("pictures show boxes for characters that no installed font has")
    assert said.count("\n") == 1
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_bars_show_the_error_of_each_class():
    for errors in (np.array([0.5, 0.25]), np.zeros(2)):
        axes = error_figures.class_errors(["cat", "dog"], np.array([8, 1200]), errors).axes[0]
        assert [bar.get_width() for bar in axes.patches] == pytest.approx(100 * errors)
        assert [text.get_text() for text in axes.texts] == [f" {errors[0]:.1%} of 8", f" {errors[1]:.1%} of 1,200"]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]


def test_a_saved_gallery_has_its_texts_below_the_images_as_on_the_page():
    image = np.zeros((8, 8), np.uint8)
    figure = assembly.gallery_figure(page.Gallery([page.Example(image, "4", "as 0, 100%")] * 9))
    figure.canvas.draw()
    [axes] = figure.axes
    bottoms = [shown.get_window_extent().y0 for shown in axes.images]
    tops = [text.get_window_extent().y1 for text in axes.texts]
    assert len(tops) == 9
    assert all(bottom - 8 < top <= bottom for top, bottom in zip(tops, bottoms, strict=True))
    assert all(text.get_window_extent().y0 >= 0 for text in axes.texts)


def test_top_predictions_are_named_in_order_and_the_true_class_has_another_colour():
    images, names = [np.zeros((4, 4, 1), np.uint8)] * 2, ("cat", "dog", "hen", "cow", "pig", "emu")
    probabilities = np.array([[0.5, 0.2, 0.15, 0.1, 0.04, 0.01], [0.01, 0.5, 0.2, 0.15, 0.1, 0.04]], np.float32)
    figure = sample_figures.top_predictions(images, np.array([1, 0]), probabilities, names)
    _, first, _, second = figure.axes
    assert [text.get_text() for text in first.texts[::2]] == ["cat", "dog", "hen", "cow", "pig"]
    assert [text.get_text() for text in first.texts[1::2]] == ["50.0%", "20.0%", "15.0%", "10.0%", "4.0%"]
    bars = [bar.get_facecolor() for bar in first.patches[5:]]
    assert bars[1] != bars[0] == bars[2] == bars[3] == bars[4]
    assert len({bar.get_facecolor() for bar in second.patches[5:]}) == 1  # the right class is the sixth
    of_two = sample_figures.top_predictions(images, np.array([1, 0]), probabilities[:, :2], names[:2])
    assert of_two.axes[1].get_ylim() == (1.5, -0.5)  # no room for classes that there are not
    assert of_two.get_figheight() < figure.get_figheight()


@pytest.mark.parametrize("classes", [2, 30, 31])
def test_confusion_matrices_name_every_class_and_write_counts_where_there_is_room(classes):
    counts = np.random.default_rng(0).integers(0, 3, (classes, classes))
    names = [f"class {number}" for number in range(classes)]
    axes = error_figures.confusion(counts, names).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert len(axes.texts) == (np.count_nonzero(counts) if classes <= 30 else 0)


@pytest.mark.slow
def test_names_with_dollars_are_not_formulas(tmp_path):
    """Matplotlib takes text between two dollars for mathematics, and fails where it is none."""
    names, image, one = ["US$5 to US$10", r"a$\b$", "c$"], np.zeros((4, 4, 1), np.uint8), np.eye(3, dtype=np.float32)
    places = np.array([0.5, 2.5])
    found = occlusion.Sensitivity(np.zeros((3, 2, 2)), places, places, 2, np.ones(3))
    drawn = (
        error_figures.confusion(np.eye(3, dtype=int), names),
        error_figures.class_errors(names, np.ones(3, int), np.zeros(3)),
        error_figures.confused_pairs([(names[0], names[1], 1)]),
        sample_figures.top_predictions([image] * 3, np.arange(3), one, names),
        sample_figures.occlusion([image] * 3, found, names),
        figures.through_the_network(image, [], one[0], names),
        explained.figure(image, np.ones((2, 2)), figures.shortened(names[1])),
    )
    for figure in drawn:
        figure.draw_without_rendering()
    with rc_context({"svg.fonttype": "none"}):  # as text
        drawn[0].savefig(tmp_path / "picture.svg")
    assert all(html_lib.escape(name, quote=False) in (tmp_path / "picture.svg").read_text() for name in names)


def test_curves_show_the_records():
    train = [{"step": step, "loss": 1 / step, "error": 0.5 / step} for step in (10, 20, 40)]
    test = [{"step": step, "loss": 0.1, "error": 0.0} for step in (20, 40)]
    figure = curve_figures.curves(train, test, "test", steps_per_epoch=10.0, shown_step=40)
    loss, error = figure.axes
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [(1, 0.1), (2, 0.05), (4, 0.025)])
    np.testing.assert_allclose(error.lines[1].get_xydata(), [(2, 0), (4, 0)])
    np.testing.assert_allclose(error.lines[2].get_xydata(), [(4, 0)])
    assert page.Picture(figure, "curves of errors that are zero can be drawn").png


def test_heat_maps_are_drawn_on_their_own_grid_and_smoothed():
    images, heat = [np.zeros((8, 8, 1), np.uint8)] * 2, np.random.default_rng(0).random((2, 2, 4))
    figure = explained.heat_maps(images, heat, ["cat", "dog"])
    maps = [shown for shown in figure.axes[0].images if shown.get_array().shape == (2, 4)]
    own, smooth = ([shown for shown in maps if (shown.get_interpolation() == "bilinear") == s] for s in (False, True))
    for drawn in (own, smooth):
        for shown, values in zip(drawn, heat, strict=True):
            np.testing.assert_array_equal(shown.get_array(), values)
    assert [shown.get_extent()[2] > 1.9 for shown in (*own, *smooth)] == [True] * 4
    assert [shown.get_extent()[2] > 2.1 for shown in (*own, *smooth)] == [False, False, True, True]


@pytest.mark.parametrize(("channels", "count"), [(1, 6), (3, 130)])
def test_filters_of_grey_and_colour_networks(channels, count):
    kernel = np.random.default_rng(0).normal(size=(5, 5, channels, count)).astype(np.float32)
    drawn = figures.filters(kernel).axes[0].images
    assert len(drawn) == min(count, 96)


def test_coloured_filters_have_their_own_scales_and_dead_ones_stay_pale():
    kernel = np.zeros((2, 2, 3, 3), np.float32)
    kernel[0, 0, :, 0], kernel[1, 1, 0, 1], kernel[0, 1, 2, 2] = -4.0, 2.0, 0.08
    drawn = figures.coloured(kernel)
    assert drawn.shape == (3, 2, 2, 3)
    np.testing.assert_allclose(drawn[0, 0, 0], 0)
    np.testing.assert_allclose(drawn[1, 1, 1], [1, 0.5, 0.5])
    np.testing.assert_allclose(drawn[2, 0, 1], [0.5, 0.5, 0.55])  # a tenth of a fifth of the largest
    np.testing.assert_allclose(figures.coloured(0 * kernel), 0.5)


def test_liveliest_maps_keep_their_order():
    values = np.zeros((2, 2, 12), np.float32)
    values[0, 0] = [0, 5, 0, 1, 2, 3, 9, 4, 6, 7, 8, 0]
    np.testing.assert_array_equal(figures.most_varying(values), [1, 4, 5, 6, 7, 8, 9, 10])


def test_float_images_are_stretched_over_the_greys():
    image = np.array([[-1.0, 0.0], [0.5, 1.0]], np.float32)[..., None]
    np.testing.assert_array_equal(figures.pixels(image), [[0, 128], [191, 255]])
    np.testing.assert_array_equal(figures.pixels(np.full((1, 2, 3), 7, np.uint8)), np.full((1, 2, 3), 7))
