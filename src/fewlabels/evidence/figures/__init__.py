"""The book's figures in one style: column width, colour-blind-safe, fit for light and dark pages.

Every function that draws a whole figure returns a closed `Figure`: as the last value of a notebook
cell it is shown once.
Call `style` once per notebook. Vector or bitmap is not decided here: Quarto's ``fig-format`` does
(svg for HTML, pdf for PDF); photographs and dense point clouds are embedded as bitmaps either way.
"""

# ruff: noqa: F401
from fewlabels.evidence.figures.forest import (
    differences_by_panel,
    paired_differences,
    published_against_ours,
)
from fewlabels.evidence.figures.lines import (
    accuracy_against_labels,
    learning_curves,
    log_counts,
    runs_and_mean,
)
from fewlabels.evidence.figures.looks import (
    BLACK,
    BLUE,
    CLASSES,
    DASHES,
    FAINT,
    GREEN,
    INK,
    METHODS,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    WIDTH,
    Look,
    look,
    style,
)
from fewlabels.evidence.figures.parts import (
    Absent,
    empty,
    fitting,
    shown,
)
from fewlabels.evidence.figures.points import (
    confusion,
    confusion_grid,
    embedding,
    image_grid,
    strip,
)
