"""Several comparisons at once, with one correction over them."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from fewlabels.evidence import figures, tables
from fewlabels.evidence.measures import difference
from fewlabels.evidence.tables import Table, percent

Pair = tuple[pd.DataFrame, pd.DataFrame]


@dataclass(frozen=True)
class Comparisons:
    """Named paired differences with Holm's correction over those that were run."""

    frame: pd.DataFrame
    """As `fewlabels.evidence.tables.compared` makes it."""
    missing: tuple[str, ...]
    """What was not run."""

    def table(self, label: str, caption: str) -> Table:
        """caption: ``{count}`` in it is the number of comparisons that have a p value."""
        shown = {
            "Comparison": self.frame["comparison"],
            "n": self.frame["n"].astype(str),
            "Difference, points": [percent(each, sign=True) for each in self.frame["difference"]],
            "p (Holm)": [*map(tables.p_value, self.frame["p"])],
        }
        caption = caption.format(count=self.frame["p"].notna().sum())
        return tables.show(pd.DataFrame(shown), label, caption, missing=self._keys())

    def figure(self) -> Figure | figures.Absent:
        """Of those that were run; where none was, a sentence that names them."""
        if len(self.frame):
            return figures.paired_differences(self.frame)
        return figures.empty(f"Not run: {tables.named(self._keys())}")

    def _keys(self) -> list[tuple[str, ...]]:
        """What was not run, by what stands before the last colon and after it."""
        return [tuple(name.rsplit(": ", 1)) for name in self.missing]


def versus(pairs: Mapping[str, Pair], metric: str = "accuracy") -> Comparisons:
    """What a comparison is called -> its two sides, the first minus the second."""
    found = {name: difference(a, b, metric) for name, (a, b) in pairs.items()}
    made = {name: each for name, each in found.items() if each.n}
    return Comparisons(tables.compared(made), tuple(name for name in found if name not in made))
