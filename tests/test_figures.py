import io
import math

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fewlabels.errors import UserError
from fewlabels.evidence import figures


@pytest.fixture(autouse=True)
def book_style(monkeypatch):
    matplotlib.use("agg")
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    with matplotlib.rc_context():
        figures.style()
        yield


def curves():
    values = {
        ("loss", "training", 0): [1.0, 0.5, 0.3],
        ("loss", "training", 1): [2.0, 0.7, 0.5],
        ("loss", "validation", 0): [1.5, 0.9, 1.0],
        ("accuracy", "training", 0): [0.2, 0.5, 0.8],
    }
    return pd.DataFrame(
        [
            {"panel": panel, "series": series, "run": run, "epoch": epoch, "value": value}
            for (panel, series, run), line in values.items()
            for epoch, value in enumerate(line, start=1)
        ]
    )


def forest():
    columns = ["comparison", "mean", "low", "high", "n"]
    rows = [("a - b", -0.03, -0.04, -0.02, 20), ("c - d", 0.01, -0.01, 0.03, 10)]
    return pd.DataFrame(rows, columns=columns)


PRINTED = ["quantity", "published", "mean", "low", "high", "n"]
MEANS = ["method", "labels", "mean", "low", "high"]


def strip(values, labels):
    return figures.strip(np.array(values), np.array(labels), ["a", "b"], "size", 1, [1, 2])


def labelled(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_learning_curves_draw_runs_mean_and_band():
    fig = figures.learning_curves(curves())
    loss, accuracy = fig.axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    assert loss.get_xlabel() == "epoch"
    lines = labelled(loss)
    np.testing.assert_allclose(lines["training"].get_ydata(), [1.5, 0.6, 0.4])
    np.testing.assert_allclose(lines["training"].get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(lines["validation"].get_ydata(), [1.5, 0.9, 1.0])
    # Two runs, their mean, and the single validation run; the band belongs to the two runs only.
    assert len(loss.get_lines()) == 4
    assert len(loss.collections) == 1
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["training", "validation"]


def test_learning_curves_average_only_the_epochs_that_all_runs_reached():
    frame = curves().query("panel == 'loss' and series == 'training'").drop(columns="panel")
    frame = frame[~((frame["run"] == 1) & (frame["epoch"] == 3))]
    fig = figures.learning_curves(frame, ylabel="loss")
    np.testing.assert_allclose(labelled(fig.axes[0])["training"].get_ydata(), [1.5, 0.6])


def test_learning_curves_share_an_axis_of_one_unit():
    fig = figures.learning_curves(curves(), ylabel="value")
    first, second = fig.axes
    assert first.get_ylim() == second.get_ylim()
    assert (first.get_title(), second.get_title()) == ("loss", "accuracy")


def test_confusion_is_in_percent_of_each_row():
    fig = figures.confusion(np.array([[8, 2, 0], [1, 299, 0], [0, 0, 0]]), ["a", "b", "c"])
    (ax,) = fig.axes
    # The third class has no images: its row stays empty.
    assert [text.get_text() for text in ax.texts] == ["80", "20", "", "<1", ">99", ""]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]
    shares = ax.collections[0].get_array().reshape(3, 3)
    np.testing.assert_allclose(shares[0], [80, 20, 0])


def test_confusion_matrices_stand_two_in_a_row():
    fig = figures.confusion_grid({name: np.eye(2) * 4 for name in "abc"}, ["x", "y"])
    titles = [ax.get_title() for ax in fig.axes]
    assert titles == ["a", "b", "c", ""]
    assert [ax.axison for ax in fig.axes] == [True, True, True, False]


@pytest.mark.parametrize("matrix", [np.ones((2, 3)), np.ones((3, 3)), -np.ones((2, 2))])
def test_confusion_refuses(matrix):
    with pytest.raises(UserError, match="matrix has"):
        figures.confusion(matrix, ["a", "b"])


def test_accuracy_against_labels():
    frame = pd.DataFrame(
        [
            ("rotnet", 100, 0.73, 0.70, 0.76),
            ("rotnet", 10, 0.40, 0.35, 0.45),
            ("cnn", 10, 0.50, 0.45, 0.55),
            ("cnn", 100, 0.75, 0.72, 0.78),
        ],
        columns=["method", "labels", "mean", "low", "high"],
    )
    fig = figures.accuracy_against_labels(frame)
    (ax,) = fig.axes
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["10", "100"]
    lines = labelled(ax)
    np.testing.assert_allclose(lines["RotNet, frozen"].get_xdata(), [10, 100])
    np.testing.assert_allclose(lines["RotNet, frozen"].get_ydata(), [40, 73])
    assert lines["RotNet, frozen"].get_marker() != lines["CNN"].get_marker()
    # The best at the right end comes first.
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["CNN", "RotNet, frozen"]


def test_a_method_without_a_look_is_refused():
    with pytest.raises(UserError, match=r"'byol'.*METHODS.*rotnet"):
        figures.look("byol")


def test_image_grid_shows_each_image_once():
    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    fig = figures.image_grid(images, ["a", "b", "c"], columns=2)
    assert len(fig.axes) == 4
    shown = [ax.images[0] for ax in fig.axes if ax.images]
    np.testing.assert_array_equal([image.get_array() for image in shown], images)
    assert {(image.norm.vmin, image.norm.vmax) for image in shown} == {(0, 255)}
    assert [ax.get_title() for ax in fig.axes] == ["a", "b", "c", ""]


def test_titles_shrink_until_they_fit_their_pictures():
    assert figures.fitting(["a", "b"], 1) == 8
    fig = figures.image_grid(
        np.zeros((2, 4, 4), np.uint8), ["short", "a title that is far too long"]
    )
    fig.draw_without_rendering()
    title = fig.axes[1].title.get_window_extent()
    assert 0 < title.width <= fig.axes[1].get_window_extent().width


def test_learning_curves_fit_the_runs_and_not_their_intervals():
    frame = pd.DataFrame(
        {"epoch": [1, 1, 1], "value": [0.4, 0.5, 0.6], "run": [*"abc"], "series": "training"}
    )
    low, high = figures.learning_curves(frame, ylabel="accuracy").axes[0].get_ylim()
    # Student's interval of three such runs goes from 0.25 to 0.75.
    assert (low, high) == pytest.approx((0.37, 0.63))


def test_panels_of_different_lengths_are_filled():
    one = curves().query("panel == 'loss'")
    panels = one.assign(panel="long"), one.query("epoch < 3").assign(panel="short")
    long, short = figures.learning_curves(pd.concat(panels), ylabel="value").axes
    assert short.get_xlim()[1] < long.get_xlim()[1]


def test_image_grid_takes_channels_first():
    grey = np.arange(2 * 16, dtype=np.uint8).reshape(2, 1, 4, 4)
    np.testing.assert_array_equal(
        figures.image_grid(grey).axes[1].images[0].get_array(), grey[1, 0]
    )
    colour = np.arange(48, dtype=np.uint8).reshape(1, 3, 4, 4)
    picture = figures.image_grid(colour).axes[0].images[0].get_array()
    np.testing.assert_array_equal(picture, np.moveaxis(colour[0], 0, -1))


@pytest.mark.parametrize(
    ("images", "titles"),
    [
        (np.zeros((2, 4, 4)), None),
        (np.zeros((4, 4), np.uint8), None),
        (np.zeros((2, 2, 4, 4), np.uint8), None),
        (np.zeros((2, 4, 4, 3), np.uint8), None),
        (np.zeros((0, 4, 4), np.uint8), None),
        (np.zeros((2, 4, 4), np.uint8), ["one"]),
    ],
)
def test_image_grid_refuses(images, titles):
    with pytest.raises(UserError):
        figures.image_grid(images, titles)


def test_strip_has_a_row_of_points_a_class():
    values, labels = np.array([0.5, 2.0, 4.0]), np.array([1, 0, 1])
    (ax,) = figures.strip(values, labels, ["a", "b"], "size", 1, [0.5, 1, 2, 4]).axes
    first, second = (points.get_offsets() for points in ax.collections)
    assert first[:, 0].tolist() == [2] and second[:, 0].tolist() == [0.5, 4]
    assert np.abs(second[:, 1] - 1).max() <= 0.25
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.5", "1", "2", "4"]


def test_embedding_names_each_class_at_its_median():
    points = np.array([[0, 0], [1, 1], [5, 2], [9, 9]], dtype=float)
    fig = figures.embedding(points, np.array([0, 0, 0, 2]), ["a", "b", "c"])
    (ax,) = fig.axes
    assert {text.get_text(): text.get_position() for text in ax.texts} == {"a": (1, 1), "c": (9, 9)}
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), points[:3])


@pytest.mark.parametrize(
    ("points", "labels"),
    [
        (np.zeros((3, 3)), np.zeros(3, int)),
        (np.zeros((3, 2)), np.zeros(2, int)),
        (np.zeros((3, 2)), np.array([0, 1, 2])),
        (np.zeros((3, 2)), np.array([-1, 0, 1])),
    ],
)
def test_embedding_refuses(points, labels):
    with pytest.raises(UserError):
        figures.embedding(points, labels, ["a", "b"])


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (lambda: figures.paired_differences(forest().assign(mean=[-3, 1])), "mean runs from -3 to"),
        (
            lambda: figures.published_against_ours(
                pd.DataFrame([("a", 73, 0.7, 0.6, 0.8, 3)], columns=PRINTED)
            ),
            "published runs from 73 to 73: pass fractions, -1 to 1",
        ),
        (
            lambda: figures.accuracy_against_labels(
                pd.DataFrame([("cnn", 10, 85.0, 80.0, 90.0)], columns=MEANS)
            ),
            "mean runs from 85 to 85: pass fractions",
        ),
        (
            lambda: figures.accuracy_against_labels(
                pd.DataFrame([("cnn", 0, 0.85, 0.8, 0.9)], columns=MEANS)
            ),
            "counts begin at 0: a logarithmic axis",
        ),
        (lambda: strip([0.0, 1.0], [0, 0]), r"values have shape \(2,\): pass \[N\] above zero"),
        (lambda: strip([], []), r"shape \(0,\).*at least one"),
        (lambda: strip([1.0, 2.0], [0, 2]), "labels run from 0 to 2 for 2 classes"),
        (lambda: strip([1.0, 2.0], [0.0, 1.0]), "labels are float64"),
        (lambda: figures.embedding(np.zeros((0, 2)), np.zeros(0, int), ["a"]), "at least one"),
        (
            lambda: figures.runs_and_mean(plt.figure().add_subplot(), [1, 2], np.zeros((3, 4))),
            r"runs have shape \(3, 4\): pass \[runs, 2\]",
        ),
    ],
)
def test_figures_name_what_they_got(draw, told):
    with pytest.raises(UserError, match=told):
        draw()


def test_paired_differences_are_in_points():
    (ax,) = figures.paired_differences(forest()).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a - b", "c - d"]
    marks = [line for line in ax.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose([mark.get_xdata()[0] for mark in marks], [-3, 1])
    # Hollow where the interval contains zero.
    assert [mark.get_markerfacecolor() for mark in marks] == [figures.BLUE, "white"]
    bars = [line.get_xdata() for line in ax.get_lines() if len(line.get_xdata()) == 2][1:]
    np.testing.assert_allclose(bars, [[-4, -2], [-1, 3]])
    assert ax.texts[1].get_text() == (
        "\N{MINUS SIGN}3.0 [\N{MINUS SIGN}4.0, \N{MINUS SIGN}2.0]  n = 20"
    )


def panels(*series):
    rows = [("A", "a", "all", -0.03, -0.04, -0.02, 3), ("A", "b", "all", 0.01, -0.01, 0.03, 3)]
    rows += [("B", "b", each, 0.02, 0.01, 0.03, 2) for each in series]
    return pd.DataFrame(rows, columns=["panel", "row", "series", "mean", "low", "high", "n"])


def test_differences_by_panel_stand_in_their_rows_and_fill_where_zero_is_outside():
    left, right = figures.differences_by_panel(panels("few")).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["a", "b"]
    marks = [
        line for line in left.get_lines() if line.get_marker() == "o" and len(line.get_xdata())
    ]
    np.testing.assert_allclose([mark.get_xdata()[0] for mark in marks], [-3, 1])
    assert [mark.get_markerfacecolor() for mark in marks] == [figures.BLUE, "white"]
    (mark,) = [line for line in right.get_lines() if line.get_marker() == "s"]
    assert mark.get_xdata()[0] == pytest.approx(2)
    assert 1 < mark.get_ydata()[0] < 1.5
    assert left.figure.legends[0].get_texts()[1].get_text() == "few (n = 2)"
    with pytest.raises(UserError, match=r"3 series \(all, few, none\): pass one or two"):
        figures.differences_by_panel(panels("few", "none"))


def test_published_against_ours_marks_the_printed_figure():
    frame = pd.DataFrame(
        [("RotNet", 0.73, 0.765, 0.712, 0.818, 20), ("CNN", 0.75, math.nan, math.nan, math.nan, 0)],
        columns=["quantity", "published", "mean", "low", "high", "n"],
    )
    (ax,) = figures.published_against_ours(frame).axes
    printed = [line for line in ax.get_lines() if line.get_marker() == "D"]
    np.testing.assert_allclose([mark.get_xdata()[0] for mark in printed], [73, 75])
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["published / our mean", "73 / 76.5  n = 20", "75 / not run  n = 0"]


@pytest.mark.parametrize(
    "draw",
    [
        figures.learning_curves,
        figures.accuracy_against_labels,
        figures.paired_differences,
        figures.differences_by_panel,
        figures.published_against_ours,
    ],
)
def test_missing_columns_are_named(draw):
    with pytest.raises(UserError, match=r"the frame lacks .*: it has nothing"):
        draw(pd.DataFrame({"nothing": [1]}))


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_files_are_the_same_to_the_byte(suffix):
    def saved():
        file = io.BytesIO()
        figures.paired_differences(forest()).savefig(file, format=suffix)
        return file.getvalue()

    assert saved() == saved()


def test_no_figure_stays_open_to_be_shown_twice():
    # A figure refused in another test of this process may be open still.
    plt.close("all")
    figures.paired_differences(forest())
    assert plt.get_fignums() == []


def test_markers_and_colours_tell_methods_of_a_chapter_apart():
    chapters = [
        ["cnn", "rotnet", "rotnet-finetuned", "random", "s4l", "fixmatch"],
        ["supervised", "simclr", "moco", "aim", "mae", "fusion"],
        ["simclr", "moco", "aim", "mae", "rotation", "vicreg", "random", "imagenet"],
    ]
    for methods in chapters:
        looks = [figures.look(method) for method in methods]
        assert len({look.marker for look in looks}) == len(methods)
        assert len({look.colour for look in looks}) == len(methods)


def test_every_run_is_a_thin_line_under_the_mean():
    _, ax = plt.subplots()
    figures.runs_and_mean(ax, [1, 2], np.array([[0.0, 2.0], [2.0, 4.0]]), color="red", label="a")
    figures.runs_and_mean(ax, [], np.array([]), color="red", label="not run")
    *thin, mean = ax.get_lines()
    assert [line.get_ydata().tolist() for line in thin] == [[0, 2], [2, 4]]
    assert mean.get_ydata().tolist() == [1, 3]
    assert mean.get_linewidth() > thin[0].get_linewidth()
    assert {line.get_color() for line in (*thin, mean)} == {"red"}
    assert ax.get_legend_handles_labels()[1] == ["a"]
