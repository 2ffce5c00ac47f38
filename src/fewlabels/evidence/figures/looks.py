"""One style for all figures: width, colours that stay apart, how each method is drawn."""

import os
from typing import NamedTuple

import matplotlib
import seaborn as sns
from IPython import get_ipython
from matplotlib.figure import Figure

from fewlabels.errors import UserError

WIDTH = 6.3  # inches: the text column of the PDF; the web page is a little wider
INK = "#333333"
FAINT = "#8c8c8c"
DASHES = ("-", "--", "-.", ":")
THIN = {"lw": 0.5, "alpha": 0.4}
"""A single run's line, under the mean over runs."""


class Look(NamedTuple):
    """How one method is drawn in every chapter."""

    label: str
    colour: str
    marker: str


# Okabe and Ito's colours, which stay apart under the common colour-vision deficiencies; the marker
# tells methods apart without any colour.
BLUE, VERMILLION, GREEN, ORANGE = "#0072b2", "#d55e00", "#009e73", "#e69f00"
PURPLE, SKY, BLACK = "#cc79a7", "#56b4e9", "#222222"
# Ten classes need more colours: Paul Tol's muted scheme, and grey.
CLASSES = sns.color_palette(
    [
        *("#332288", "#88ccee", "#44aa99", "#117733", "#999933"),
        *("#ddaa33", "#cc6677", "#882255", "#aa4499", "#777777"),
    ]
)
METHODS = {
    "supervised": Look("supervised", BLUE, "o"),
    "cnn": Look("CNN", BLUE, "o"),
    "rotnet": Look("RotNet, frozen", VERMILLION, "s"),
    "rotnet-finetuned": Look("RotNet, fine-tuned", ORANGE, "X"),
    "random": Look("random, frozen", FAINT, "P"),
    "s4l": Look("S4L", PURPLE, "D"),
    "fixmatch": Look("FixMatch", GREEN, "^"),
    "simclr": Look("SimCLR", VERMILLION, "s"),
    "simclr-probe": Look("SimCLR, linear probe", PURPLE, "D"),
    "simclr-finetuned": Look("SimCLR, fine-tuned", ORANGE, "X"),
    "moco": Look("MoCo", GREEN, "^"),
    "aim": Look("AIM", PURPLE, "D"),
    "mae": Look("MAE", ORANGE, "v"),
    "rotation": Look("rotation", SKY, "X"),
    "vicreg": Look("VICReg", BLACK, "h"),
    "imagenet": Look("ImageNet features", BLUE, "o"),
    "imagenet-head": Look("ImageNet features, linear head", VERMILLION, "s"),
    "scratch": Look("small network from scratch", BLUE, "o"),
    "fusion": Look("fusion", BLACK, "*"),
    "small-cnn": Look("small CNN", BLUE, "o"),
    "features-mlp": Look("frozen features, MLP", VERMILLION, "s"),
    "features-knn": Look("frozen features, kNN", ORANGE, "X"),
    "fine-tuned": Look("one block fine-tuned", GREEN, "^"),
}


def style() -> None:
    """Set the book's look for every figure made afterwards, and make saved files repeatable.

    Nothing that a reader has set for matplotlib counts: not a backend, and not an rc file.
    """
    _shown_in_notebooks()
    matplotlib.rcdefaults()
    sns.set_theme(
        context="paper",
        style="ticks",
        palette=[BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK, FAINT],
        rc={
            "figure.figsize": (WIDTH, 3.2),
            "figure.dpi": 144,
            "figure.constrained_layout.use": True,
            # White, not transparent: dark ink has to be read on the dark page as well.
            "figure.facecolor": "white",
            "axes.facecolor": "white",
            "savefig.facecolor": "white",
            "savefig.bbox": "tight",
            "savefig.pad_inches": 0.1,
            "font.size": 9,
            "axes.labelsize": 9,
            "axes.titlesize": 9,
            "axes.titleweight": "bold",
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.fontsize": 8,
            "legend.title_fontsize": 8,
            "legend.frameon": False,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": FAINT,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e6e6e6",
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.6,
            "lines.markersize": 5,
            "xtick.major.size": 3,
            "ytick.major.size": 3,
            "svg.hashsalt": "fewlabels",
        },
    )
    # Matplotlib takes the date it writes into SVG and PDF files from here.
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")


def look(method: str) -> Look:
    """Label, colour and marker of a method. Raises UserError for one that has none yet."""
    if method not in METHODS:
        raise UserError(
            f"no colour and marker for method {method!r}: add it to "
            f"fewlabels.evidence.figures.METHODS ({', '.join(METHODS)})."
        )
    return METHODS[method]


def _shown_in_notebooks() -> None:
    """A figure is shown as the last value of a cell, also where MPLBACKEND names another backend.

    Where it is shown already, the format that Quarto has chosen stays.
    """
    shell = get_ipython()
    if shell is not None:
        formatters = shell.display_formatter.formatters.values()
        if not any(Figure in formatter.type_printers for formatter in formatters):
            shell.run_line_magic("matplotlib", "inline")
