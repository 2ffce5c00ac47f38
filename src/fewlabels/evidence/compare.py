"""Several comparisons at once, with one correction over them."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from fewlabels import figures, tables
from fewlabels.evidence.measures import difference
from fewlabels.tables import Table

Pair = tuple[pd.DataFrame, pd.DataFrame]


@dataclass(frozen=True)
class Comparisons:
    """Named paired differences with Holm's correction over those that were run."""

    frame: pd.DataFrame
    """As `fewlabels.tables.compared` makes it."""

    def table(self, label: str, caption: str) -> Table:
        """caption: ``{count}`` in it is the number of comparisons."""
        return tables.comparisons(self.frame, label, caption.format(count=len(self.frame)))

    def figure(self) -> Figure:
        return figures.paired_differences(self.frame)


def versus(pairs: Mapping[str, Pair], metric: str = "accuracy") -> Comparisons:
    """What a comparison is called -> its two sides, the first minus the second."""
    found = {name: difference(a, b, metric) for name, (a, b) in pairs.items()}
    return Comparisons(tables.compared({k: d if d.n else None for k, d in found.items()}))
