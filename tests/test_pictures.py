import matplotlib
import numpy as np
import pandas as pd
import pytest

from fewlabels.errors import UserError
from fewlabels.evidence import figures, pictures


@pytest.fixture(autouse=True)
def book_style():
    matplotlib.use("agg")
    with matplotlib.rc_context():
        figures.style()
        yield


def grey(*values: int, side: int = 4) -> np.ndarray:
    """Even pictures, uint8 [N, side, side]."""
    return np.stack([np.full((side, side), value, np.uint8) for value in values])


def vaes() -> pd.DataFrame:
    """Two runs each of three weights, the last of which has collapsed."""
    return pd.DataFrame(
        {
            "weight": [1e-4, 1e-4, 1e-2, 1e-2, 1.0, 1.0],
            "kl": [9.0, 11.0, 4.0, 6.0, 0.0, 0.0],
            "mse": [0.02, 0.02, 0.03, 0.03, 0.06, 0.08],
        }
    )


def test_columns_have_a_row_for_each_image_and_titles_above_the_first():
    axes = pictures.columns({"clean": grey(10, 20), "noisy": grey(30, 40)}).axes
    assert [ax.get_title() for ax in axes] == ["clean", "noisy", "", ""]
    assert [ax.images[0].get_array().max() for ax in axes] == [10, 30, 20, 40]


def test_columns_of_different_shapes_are_refused_by_name():
    with pytest.raises(UserError, match="'noisy': \\(1, 4, 4\\)"):
        pictures.columns({"clean": grey(10, 20), "noisy": grey(30)})


def test_lines_are_drawn_for_what_has_a_look_in_the_order_of_x():
    frame = pd.DataFrame(
        {
            "panel": ["PSNR", "PSNR", "PSNR", "SSIM"],
            "name": ["filter", "filter", "other", "filter"],
            "x": [0.4, 0.2, 0.2, 0.2],
            "mean": [15.0, 19.0, 1.0, 0.5],
            "low": [14.0, 18.0, 0.0, 0.4],
            "high": [16.0, 20.0, 2.0, 0.6],
        }
    )
    left, right = pictures.lines(frame, {"filter": ("a filter", "#0072b2", "o")}, "noise").axes
    assert (left.get_ylabel(), right.get_ylabel(), left.get_xlabel()) == ("PSNR", "SSIM", "noise")
    (line,) = left.lines
    assert line.get_xdata().tolist() == [0.2, 0.4] and line.get_ydata().tolist() == [19, 15]
    assert left.get_legend_handles_labels()[1] == ["a filter"]


def test_measures_by_weight_have_a_point_for_each_run_and_two_marks():
    measures = {"mse": "MSE", "kl": "KL, nats"}
    left, right = pictures.by_weight(vaes(), measures, solid=1e-2, dashed=1.0).axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("MSE", "KL, nats")
    mean, points, solid, dashed = right.lines
    assert mean.get_ydata().tolist() == [10, 5, 0] and len(points.get_xdata()) == 6
    assert (solid.get_xdata()[0], dashed.get_xdata()[0]) == (1e-2, 1)
    assert right.get_xscale() == "log" and right.get_xlabel() == "weight of the KL term"
    below = pictures.by_weight(vaes(), measures | {"weight": "weight"}, 1e-2, 1.0)
    assert [ax.get_xlabel() for ax in below.axes] == ["", "", *["weight of the KL term"] * 2]


def test_rate_against_distortion_names_every_weight_and_circles_the_knee():
    (ax,) = pictures.rate_distortion(vaes(), knee=1e-2, blind=0.0675).axes
    assert {text.get_text() for text in ax.texts} == {"0.0001", "0.01", "1"}
    circled = next(line for line in ax.lines if line.get_label() == "knee")
    assert (circled.get_xdata()[0], circled.get_ydata()[0]) == (5, 0.03)
    assert ax.lines[0].get_xdata().tolist() == [10, 5, 0]


def test_weights_next_to_no_rate_share_a_name():
    flat = vaes().assign(kl=[9.0, 11.0, 0.0, 0.0, 0.0, 0.0])
    (ax,) = pictures.rate_distortion(flat, knee=1e-2, blind=0.0675).axes
    assert {text.get_text() for text in ax.texts} == {"0.0001", "0.01, 1"}


def test_planes_have_their_own_scale_and_share_one_legend():
    points = {"1": np.array([[2.0, -4.0], [1.0, 1.0]]), "2": np.zeros((3, 2), np.float16)}
    labels = np.array([0, 1, 1, 0])
    first, second, last = pictures.planes(points, labels, ["zero", "one"], "digit").axes
    assert first.get_title() == "1" and first.get_xlim()[1] == pytest.approx(4, abs=0.1)
    assert second.get_xlim() == (-0.5, 0.5)
    # Two points are told apart by the first two of the labels, three by the first three.
    assert [len(each.get_offsets()) for each in first.collections] == [1, 1]
    assert [len(each.get_offsets()) for each in second.collections] == [1, 2]
    assert [text.get_text() for text in last.get_legend().get_texts()] == ["zero", "one"]


def test_a_decoded_plane_is_laid_out_from_left_to_right_and_from_top_to_bottom():
    first, _, empty = pictures.decoded({"a": grey(1, 2, 3, 4), "b": grey(5, 6, 7, 8)}, 3.0).axes
    drawn = first.images[0].get_array()
    assert drawn.shape == (8, 8)
    assert [drawn[0, 0], drawn[0, 7], drawn[7, 0], drawn[7, 7]] == [1, 2, 3, 4]
    # The outer points, at -3 and 3, are the middles of the outer cells.
    assert first.images[0].get_extent() == [-6, 6, -6, 6]
    assert first.get_title() == "a" and not empty.axison
    with pytest.raises(UserError, match="3 cells make no square"):
        pictures.decoded({"a": grey(1, 2, 3)}, 3.0)


def test_what_is_read_stands_in_the_cell_white_where_it_is_sure():
    sure = np.array([0.9, 0.1, 0.5, 0.7], np.float16)
    read = pictures.read(grey(1, 2, 3, 4), np.array([7, 1, 0, 3]), sure, 3.0)
    texts = read.axes[1].texts
    assert [text.get_text() for text in texts] == ["7", "1", "0", "3"]
    assert [text.get_color() == "white" for text in texts] == [True, False, False, True]
    assert texts[1].get_position() == (1, 0)
    with pytest.raises(UserError, match=r"confidence runs from 0.1 to 90: pass 0 to 1"):
        pictures.read(grey(1, 2, 3, 4), np.array([7, 1, 0, 3]), [90, 0.1, 0.5, 0.7], 3.0)
    with pytest.raises(UserError, match=r"classes \(3,\) and confidence \(4,\) for 4 cells"):
        pictures.read(grey(1, 2, 3, 4), np.array([7, 1, 0]), sure, 3.0)
