"""Is a class missed because it was rare in training, or because the test images are others?"""

import pandas as pd

from fewlabels import evidence as ev
from fewlabels.evidence.statistics import PairedDifference


def causes(plain: pd.DataFrame, weighted: pd.DataFrame, of: str) -> dict[str, PairedDifference]:
    """What lowers the test recall of a class, paired by draw.

    Args:
        plain, weighted: rows of runs without and with class weights, leaving out those that fail
            to learn: they have no recall to lose, and a threshold turns one constant into another.
        of: the class, in the metrics ``recall_...``, ``valid_recall_...`` (on validation images)
            and ``moved_recall_...`` (with a threshold moved on them).

    Returns:
        ``weights``, ``threshold``: what class weights and the moved threshold give back in test;
        ``shift``: what the weighted network, for which the classes are balanced, loses from
        validation to test images; ``surplus``: what the weights give minus that shift.
    """
    test, valid, moved = f"recall_{of}", f"valid_recall_{of}", f"moved_recall_{of}"
    both = weighted[weighted["draw"].isin(plain["draw"])]
    weights = both[test] - both["draw"].map(plain.set_index("draw")[test])
    shift = both[valid] - both[test]
    both = both.assign(weights=weights, shift=shift, surplus=weights - shift)
    found = {key: ev.mean_difference(both, key) for key in ("weights", "shift", "surplus")}
    threshold = plain.assign(threshold=plain[moved] - plain[test])
    return found | {"threshold": ev.mean_difference(threshold, "threshold")}
