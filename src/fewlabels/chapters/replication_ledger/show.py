"""Chapter 8's tables, figures and texts, as the notebook calls them."""

import math

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from scipy import stats

from fewlabels import figures, ledger, notebooks, published, tables, verdicts
from fewlabels.chapters.replication_ledger.planning import NAME, Settings
from fewlabels.errors import UserError
from fewlabels.tables import MINUS, NO_FIGURE, NOT_RUN, Table, number
from fewlabels.verdicts import WORDS

POWER = 0.8
CHAPTER_SECTIONS = {
    "rotnet-mnist": "@sec-rotnet-limits",
    "rotation-equivariance": "@sec-angle-limits",
    "chest-xray-transfer": "@sec-xray-limits",
    "few-data-caltech": "@sec-caltech-limits",
    "ssl-medmnist": "@sec-ssl-limits",
    "fusion": "@sec-fusion-limits",
    "autoencoders-vae": "@sec-ae-limits",
}
SHORT = {
    "rotnet": "RotNet report",
    "rotation": "rotation practical",
    "chest": "chest X-ray report",
    "ssl": "medical self-supervision report",
    "fewdata": "few-data sheet",
}


def load(settings: Settings) -> pd.DataFrame:
    """The rows of results/claims.csv whose source the settings name."""
    table = ledger.read()
    return table[table["source"].isin(settings.sources)].reset_index(drop=True)


def by_claim(table: pd.DataFrame) -> pd.DataFrame:
    """One row per claim, in the order of the sources."""
    return table.drop_duplicates("claim")


def summary(table: pd.DataFrame) -> Markdown:
    """The answer on one page: how many claims hold, and which do not."""
    claims = by_claim(table)
    count = claims["verdict"].value_counts()
    tested = claims[claims["verdict"] != "not tested"]

    def named(word: str) -> str:
        return ", ".join(claims.loc[claims["verdict"] == word, "claim"]) or "none"

    figures_tested = table[table["inside"] != ""]
    inside = (figures_tested["inside"] == "yes").sum()
    deviating = (tested["deviation"] != "").sum()
    lines = [
        "::: {.callout-important}",
        "## In short",
        "",
        f"The five sources make {len(claims)} claims. We tested {len(tested)} of them: "
        f"**{count.get('holds', 0)} hold**, **{count.get('reversed', 0)} are reversed** "
        f"({named('reversed')}), and for {count.get('within noise', 0)} the difference is within "
        f"noise ({named('within noise')}). {count.get('not tested', 0)} are not tested.",
        "",
        f"{deviating} of the {len(tested)} verdicts rest on runs that differ in something from the "
        "source's settings; @tbl-ledger-deviations says in what. Of "
        f"{len(figures_tested)} printed figures that at least three runs could tell, or a count, "
        f"{inside} lie where one further run of ours is expected, or are exact.",
        ":::",
    ]
    return Markdown("\n".join(lines))


def counts_table(table: pd.DataFrame) -> Table:
    """Verdicts by source."""
    claims = by_claim(table)
    counts = pd.crosstab(claims["source"], claims["verdict"]).reindex(columns=WORDS, fill_value=0)
    counts = counts.loc[claims["source"].unique()]
    rows = [
        {"Source": published.sources()[name], "Claims": int(row.sum())} | row.astype(int).to_dict()
        for name, row in counts.iterrows()
    ]
    total = {"Source": "**All**", "Claims": int(counts.to_numpy().sum())}
    rows.append(total | counts.sum().astype(int).to_dict())
    return tables.show(
        pd.DataFrame(rows), "tbl-ledger-counts", "Verdicts by source, in numbers of claims."
    )


def claims_table(table: pd.DataFrame) -> Table:
    """Every claim: what is printed, what we measured, the verdict."""
    everything = published.claims()
    rows = []
    for id, group in table.groupby("claim", sort=False):
        first = group.iloc[0]
        several = len(group) > 1
        printed = [
            f"{_words(row.quantity) if several else ''} {_printed(row)}"
            for row in group.itertuples()
            if row.published
        ]
        rows.append(
            {
                "Claim": f"**{id}** {everything[id].text}",
                "Printed": "; ".join(each.strip() for each in printed) or NO_FIGURE,
                "Ours": first["in_words"],
                "n": str(group["n"].max()),
                "Verdict": first["verdict"],
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ledger-claims",
        "Every claim, what its source prints and what we measured, with 95% intervals; percent or "
        "percentage points where no unit is given. n: runs behind ours. The reasons for the "
        f"verdicts are in @tbl-ledger-reasons, the measurements in the chapters. {_rebuilt(table)}",
    )


def reasons_table(table: pd.DataFrame) -> Table:
    """Why each tested claim got its verdict."""
    claims = by_claim(table)
    tested = claims[claims["verdict"] != "not tested"]
    rows = [
        {"Claim": row.claim, "Verdict": row.verdict, "Protocol": row.protocol, "Reason": row.reason}
        for row in tested.itertuples()
    ]
    return tables.show(
        _or_none(rows),
        "tbl-ledger-reasons",
        "The reason for every verdict, as the rule gives it, and the protocol that the runs "
        f"followed. {_rebuilt(table)}",
    )


def forest(table: pd.DataFrame) -> Figure:
    """Printed figures in percent beside the interval of one further run."""
    shown = _comparable(table)
    shown = shown[shown["unit"].isin(["%", "points"])]
    if shown.empty:
        return figures.empty("no printed figure was measured")
    frame = pd.DataFrame(
        {
            "quantity": [_quantity(row) for row in shown.itertuples()],
            "published": shown["published"].astype(float) / 100,
            "mean": shown["ours"] / 100,
            "low": shown["expected_low"] / 100,
            "high": shown["expected_high"] / 100,
            "n": shown["n"],
        }
    )
    return figures.published_against_ours(frame)


def figures_table(table: pd.DataFrame) -> Table:
    """Every printed figure that was measured, in its own unit."""
    shown = table[(table["published"] != "") & table["ours"].notna()]
    rows = [
        {
            "Figure": _quantity(row),
            "Printed": _printed(row),
            "Ours": _interval(row.ours, row.low, row.high, row.unit),
            "One further run": _span(row),
            "n": row.n,
            "Inside": row.inside or "too few runs",
        }
        for row in shown.itertuples()
    ]
    return tables.show(
        _or_none(rows),
        "tbl-ledger-figures",
        "Every printed figure beside ours: the mean with its 95% interval, and where 95% of single "
        "further runs are expected. A source's figure is one run, so the second interval decides. "
        f"Percent where no unit is given; counts are exact. {_rebuilt(shown)}",
    )


def errata_table(settings: Settings) -> Table:
    """Where a source contradicts itself."""
    rows = [
        {"Claim": claim.id, "Source": SHORT[claim.source], "What is wrong": claim.erratum}
        for claim in published.claims().values()
        if claim.erratum and claim.source in settings.sources
    ]
    return tables.show(
        _or_none(rows),
        "tbl-ledger-errata",
        "Contradictions found inside the sources, by reading and by arithmetic on what they print.",
    )


def deviations_table(table: pd.DataFrame) -> Table:
    """Where our runs of a protocol differ from the source's, as far as it bears on a claim."""
    claims = by_claim(table)
    found = claims[(claims["deviation"] != "") & (claims["verdict"] != "not tested")]
    rows = [
        {
            "Claims": ", ".join(group["claim"]),
            "How our runs differ": text,
            "More": CHAPTER_SECTIONS[group["chapter"].iloc[0]],
        }
        for text, group in found.groupby("deviation", sort=False)
    ]
    return tables.show(
        _or_none(rows),
        "tbl-ledger-deviations",
        "Deviations of our runs from the settings of the sources that bear on a verdict; each "
        "chapter has a full list.",
    )


def untested_table(table: pd.DataFrame) -> Table:
    """What could not be tested, and why."""
    claims = by_claim(table)
    rows = [
        {"Claims": ", ".join(group["claim"]), "Chapter": chapter, "Why": why}
        for (chapter, why), group in claims[claims["verdict"] == "not tested"]
        .assign(reason=lambda found: found["reason"].map(_first_words))
        .groupby(["chapter", "reason"], sort=False)
    ]
    return tables.show(
        _or_none(rows),
        "tbl-ledger-untested",
        "Claims without a verdict. A claim whose runs are missing is not tested, whatever other "
        "runs suggest.",
    )


def detectable(spread: float, alpha: float = verdicts.ALPHA) -> float:
    """The smallest difference that one pair of runs could have shown, two-sided.

    spread: standard deviation of the paired difference between single runs, taken as known.
    """
    return stats.norm.ppf(1 - alpha / 2) * spread


def pairs_needed(difference: float, spread: float, alpha: float = verdicts.ALPHA) -> int:
    """Pairs of runs with which a difference is found with a probability of `POWER`.

    Normal approximation, two-sided; difference and spread in one unit. Raises UserError for a
    difference of zero.
    """
    if difference == 0:
        raise UserError("difference is 0: no number of runs can find it.")
    ends = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(POWER)
    return max(1, math.ceil((ends * spread / difference) ** 2))


def power_table(table: pd.DataFrame) -> Table:
    """Claimed differences beside what one pair of runs could have shown."""
    shown = table[
        (table["unit"] == "points") & table["spread"].notna() & (table["published"] != "")
    ]
    rows = []
    for row in shown.itertuples():
        claimed = float(row.published)
        rows.append(
            {
                "Difference": _quantity(row),
                "Claimed": number(claimed, 2, sign=True),
                "Spread of one pair": number(row.spread, 2),
                "Smallest detectable": number(detectable(row.spread), 2),
                "Pairs needed": pairs_needed(claimed, row.spread),
                "n": row.n,
            }
        )
    return tables.show(
        _or_none(rows),
        "tbl-ledger-power",
        "What a single run of each of two methods could have shown, in percentage points: the "
        "standard deviation of the paired difference over our n runs, the smallest difference that "
        "stands out of it at 5%, and the number of pairs with which the claimed one would be found "
        f"with a probability of {POWER:.0%}.",
    )


def spread_table(table: pd.DataFrame) -> Table:
    """How far single runs of the sources' own protocols lie apart."""
    shown = _comparable(table)
    shown = shown[shown["unit"] == "%"]
    rows = [
        {
            "Figure": _quantity(row),
            "Mean": number(row.ours),
            "Spread": number(row.spread, 2),
            "Two runs differ by up to": number(detectable(row.spread) * math.sqrt(2), 1),
            "n": row.n,
        }
        for row in shown.itertuples()
    ]
    return tables.show(
        _or_none(rows),
        "tbl-ledger-spread",
        "Standard deviation of single runs of the protocols that the sources ran once (percentage "
        "points), over label draws and seeds together, and the difference that two runs of the "
        f"same method stay below in 95% of pairs. {_rebuilt(shown)}",
    )


def yours(table: pd.DataFrame, settings: Settings) -> Table | Markdown:
    """Your verdicts beside the book's, for the chapters that you have run."""
    if not settings.yours:
        return Markdown(
            "To see your own verdicts here, run a chapter and name it: "
            f"`fewlabels run {NAME} -p yours '[rotnet-mnist]' -p profile quick`."
        )
    rows = []
    for name in settings.yours:
        values = notebooks.parameters(name, settings.profile)
        for entry in ledger.entries(name, values):
            book = by_claim(table).set_index("claim")
            id = entry["claim"].id
            rows.append(
                {
                    "Claim": f"**{id}** {entry['claim'].text}",
                    "The book": book["verdict"].get(id, NOT_RUN),
                    "Yours": str(entry["verdict"]),
                    "Your figures": ledger.in_words(entry["ours"]),
                }
            )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ledger-yours",
        f"Your verdicts, profile {settings.profile}, beside the book's. Fewer runs and shorter "
        "training may well give other verdicts.",
    )


def provenance_table(table: pd.DataFrame) -> Table:
    """Command, machine and time behind every chapter's verdicts."""
    chapters = table.drop_duplicates("chapter")
    rows = [
        {
            "Claims": _range(table.loc[table["chapter"] == row.chapter, "claim"].unique()),
            "Command": f"`{row.command}`",
            "Hours": number(row.run_seconds / 3600, 1),
            "Machine": row.devices or NO_FIGURE,
            "Records": f"`{row.records}`",
        }
        for row in chapters.itertuples()
    ]
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ledger-provenance",
        "How to make the verdicts again: the command of their chapter, the time of its runs on one "
        "thread or one GPU each, the machine, and the hash of the records behind them.",
    )


def _or_none(rows: list[dict]) -> pd.DataFrame:
    """Rows of a table that may have none, as for a source without errata."""
    return pd.DataFrame(rows or [{"None": NO_FIGURE}])


def _rebuilt(table: pd.DataFrame) -> str:
    """Which of the measured claims rest on data that are not the official files; for captions."""
    measured = table[(table["n"] > 0) & table["deviation"].str.contains("not the official file")]
    ids = ", ".join(measured["claim"].unique())
    return f"{ids}: on rebuilt data sets, not the official files." if ids else ""


def _comparable(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["expected_low"].notna()]


def _range(ids) -> str:
    return f"{ids[0]} to {ids[-1]}" if len(ids) > 1 else ids[0]


def _words(quantity: str) -> str:
    return quantity.replace("_", " ")


def _quantity(row) -> str:
    return f"{row.claim} {_words(row.quantity)}"


def _printed(row) -> str:
    """A printed figure with its unit, where that is not percent."""
    figure = row.published
    if "to" not in figure:
        figure = f"{float(figure):,.12g}".replace("-", MINUS)
    if row.unit in ("%", "points"):
        return figure
    return f"epoch {figure}" if row.unit == "epoch" else f"{figure} {row.unit}"


def _interval(mean: float, low: float, high: float, unit: str) -> str:
    if unit == ledger.COUNTED:
        return number(mean, 0)
    value = ledger.Interval(mean, low, high, 0, "")
    return number(value, 1, sign=unit == "points")


def _span(row) -> str:
    if pd.isna(row.expected_low):
        return NO_FIGURE
    sign = row.unit == "points"
    return f"{number(row.expected_low, 1, sign)} to {number(row.expected_high, 1, sign)}"


def _first_words(reason: str) -> str:
    """The reason without the details of its parts."""
    return reason.split(". ")[0].rstrip(".")
