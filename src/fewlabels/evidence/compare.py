"""Several comparisons at once, with one correction over them."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from fewlabels.evidence import figures, tables
from fewlabels.evidence.measures import difference
from fewlabels.evidence.tables import NOT_RUN, Table, percent

Pair = tuple[pd.DataFrame, pd.DataFrame]


@dataclass(frozen=True)
class Comparisons:
    """Named paired differences with Holm's correction over those that were run."""

    frame: pd.DataFrame
    """As `fewlabels.evidence.tables.compared` makes it."""
    missing: tuple[str, ...]
    """What was not run."""

    def table(self, label: str, caption: str) -> Table:
        """caption: ``{count}`` in it is the number of comparisons that were run."""
        missing = self.missing
        if len(missing) > tables.LINES:
            missing = (f"{len(missing)} further comparisons",)
        nothing = [NOT_RUN] * len(missing)
        shown = {
            "Comparison": [*self.frame["comparison"], *missing],
            "n": [*self.frame["n"].astype(str), *("0" for _ in missing)],
            "Difference, points": [
                *(percent(each, sign=True) for each in self.frame["difference"]),
                *nothing,
            ],
            "p (Holm)": [*map(tables.p_value, self.frame["p"]), *nothing],
        }
        return tables.show(pd.DataFrame(shown), label, caption.format(count=len(self.frame)))

    def figure(self) -> Figure:
        """Of those that were run; says so where none was."""
        made = len(self.frame)
        return figures.paired_differences(self.frame) if made else figures.empty(NOT_RUN)


def versus(pairs: Mapping[str, Pair], metric: str = "accuracy") -> Comparisons:
    """What a comparison is called -> its two sides, the first minus the second."""
    found = {name: difference(a, b, metric) for name, (a, b) in pairs.items()}
    made = {name: each for name, each in found.items() if each.n}
    return Comparisons(tables.compared(made), tuple(name for name in found if name not in made))
