"""Chapter 8's tables, figures and texts, as the notebook calls them."""

import math

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from scipy import stats

from fewlabels import figures, ledger, notebooks, published, tables
from fewlabels.chapters.replication_ledger.planning import NAME, Settings
from fewlabels.statistics import ALPHA, POWER, detectable, holm, runs_needed
from fewlabels.tables import MINUS, NO_FIGURE, NOT_RUN, Table, number
from fewlabels.verdicts import ANSWERS, DIFFERENCE_WORDS, FIGURE_WORDS, FORMER, OPEN

TWO_RUNS = float(stats.norm.ppf(1 - ALPHA / 2)) * math.sqrt(2)
"""Standard deviations that two runs of one method differ by in 5% of pairs."""
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


GROUPS = {
    "printed figures and counts": (("figure", "count", "time"), FIGURE_WORDS),
    "differences, orders and limits": (("difference", "order", "limit"), DIFFERENCE_WORDS),
    "questions": (("question",), ANSWERS),
}
"""What verdicts are about -> kinds of claims, and the words for them."""


def _verdicts(claims: pd.DataFrame, group: str) -> dict[str, list[str]]:
    """Word -> claims of one group; words without a claim are left out."""
    kinds, words = GROUPS[group]
    own = claims[claims["kind"].isin(kinds)]
    found = {word: own.loc[own["verdict"] == word, "claim"].tolist() for word in words}
    return {word: ids for word, ids in found.items() if ids}


def summary(table: pd.DataFrame) -> Markdown:
    """The answer on one page: how many claims hold, and which do not."""
    claims = by_claim(table)
    asked = (claims["kind"] == "question").sum()
    lines = [
        "::: {.callout-important}",
        "## In short",
        "",
        f"The five sources make {len(claims) - asked} claims and ask {asked} questions.",
        "",
    ]
    for group in GROUPS:
        counted = [
            f"{word} **{len(ids)}**" + (f" ({', '.join(ids)})" if word != "not tested" else "")
            for word, ids in _verdicts(claims, group).items()
        ]
        if counted:
            lines.append(f"- {group[:1].upper()}{group[1:]}: {', '.join(counted)}.")
    figures = distinct(table)
    words = figures["figure"].value_counts()
    counted = ", ".join(f"{word} {words[word]}" for word in FIGURE_WORDS if word in words)
    deviating = claims[(claims["deviation"] != "") & ~claims["verdict"].isin(OPEN)]
    lines += [
        f"- Figure by figure, {len(figures)} that our runs measure: {counted}.",
        "",
        f"{len(deviating)} of {(~claims['verdict'].isin(OPEN)).sum()} verdicts rest on runs that "
        "differ in something from the source's settings; @tbl-ledger-deviations says in what. "
        f"{multiplicity(table)}",
        ":::",
    ]
    return Markdown("\n".join(lines))


def multiplicity(table: pd.DataFrame) -> str:
    """What is left of the decided differences when all of them are tested at once."""
    claims, (kinds, _) = by_claim(table), GROUPS["differences, orders and limits"]
    own = claims[claims["kind"].isin(kinds) & claims["p"].notna()]
    decided = own["verdict"].isin(["holds", "opposite"])
    if not decided.any():
        return ""
    kept = (holm(own["p"]) <= ALPHA) & decided
    return (
        f"Each claim is tested on its own: with Holm's correction over all {len(own)} tested "
        f"differences, {kept.sum()} of the {decided.sum()} that are decided remain so."
    )


def distinct(table: pd.DataFrame) -> pd.DataFrame:
    """Printed figures that were measured, each once: some claims repeat another one's."""
    found = table[(table["published"] != "") & (table["figure"] != "") & (table["n"] > 0)]
    return found.drop_duplicates(["source", "published", "ours", "low", "high"])


def counts_table(table: pd.DataFrame) -> Table:
    """Verdicts by what they are about, questions apart."""
    claims = by_claim(table)
    rows = [
        {"Of": group, "Verdict": word, "Number": len(ids), "Which": ", ".join(ids)}
        for group in GROUPS
        for word, ids in _verdicts(claims, group).items()
    ]
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ledger-counts",
        "Verdicts by what they are about. Questions get answers, which are counted apart.",
    )


def changed_table(table: pd.DataFrame) -> Table:
    """Where the rules of 2026-11-27 give another verdict than those before them."""
    claims = by_claim(table).set_index("claim")
    former = published.former_verdicts()
    former = former[former["claim"].isin(claims.index)]
    rows = [
        {
            "Claim": row.claim,
            "Before": row.verdict,
            "Now": claims.loc[row.claim, "verdict"],
            "Why": row.why or "New runs.",
        }
        for row in former.itertuples()
        if claims.loc[row.claim, "verdict"] not in FORMER[row.verdict]
    ]
    same = len(former) - len(rows)
    return tables.show(
        _or_none(rows),
        "tbl-ledger-changed",
        f"Verdicts that changed with the rules. The other {same} say the same as before, some in "
        "other words: what *held* agrees, holds, or is answered with yes; what was *reversed* is "
        "contradicted, opposite, or answered with no; what was *within noise* cannot be told, is "
        "undecided, or has no difference above the margin.",
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
                "n": str(first["claim_n"]),
                "Verdict": _verdict(first),
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ledger-claims",
        "Every claim, what its source prints and what we measured, with 95% intervals; percent or "
        "percentage points where no unit is given. n: units of luck that the verdict rests on. The "
        "reasons for the verdicts are in @tbl-ledger-reasons, the measurements in the chapters. "
        f"{_rebuilt(table)}",
    )


def reasons_table(table: pd.DataFrame) -> Table:
    """Why each tested claim got its verdict."""
    claims = by_claim(table)
    tested = claims[claims["verdict"] != "not tested"]
    rows = [
        {
            "Claim": row["claim"],
            "Verdict": _verdict(row),
            "p": tables.p_value(row["p"]),
            "Protocol": row["protocol"],
            "Reason": row["reason"],
        }
        for _, row in tested.iterrows()
    ]
    return tables.show(
        _or_none(rows),
        "tbl-ledger-reasons",
        "The reason for every verdict, as the rules give it, the p value of the test that decides, "
        f"and the protocol that the runs followed. {_rebuilt(table)}",
    )


def forest(table: pd.DataFrame) -> Figure:
    """Printed figures in percent beside those that our runs would not contradict."""
    shown = distinct(table)
    shown = shown[shown["unit"].isin(["%", "points"]) & shown["beyond"].notna()]
    if shown.empty:
        return figures.empty("no printed figure was measured")
    low, high = shown["ours"] - shown["beyond"], shown["ours"] + shown["beyond"]
    # A percentage lies within 0 and 100; a difference may have either sign, and kappa too.
    within = (shown["unit"] == "%") & (shown["quantity"] != "cohen_kappa")
    frame = pd.DataFrame(
        {
            "quantity": [_quantity(row) for row in shown.itertuples()],
            "published": shown["published"].astype(float) / 100,
            "mean": shown["ours"] / 100,
            "low": low.where(~within, low.clip(lower=0)) / 100,
            "high": high.where(~within, high.clip(upper=100)) / 100,
            "n": shown["n"],
        }
    )
    return figures.published_against_ours(frame, "figures not contradicted")


def figures_table(table: pd.DataFrame) -> Table:
    """Every printed figure that was measured, in its own unit."""
    shown = distinct(table)
    rows = [
        {
            "Figure": _quantity(row),
            "Printed": _printed(row),
            "Ours": _interval(row.ours, row.low, row.high, row.n, row.unit),
            "n": row.n,
            "Contradicted from": NO_FIGURE if math.isnan(row.beyond) else number(row.beyond),
            "Margin": NO_FIGURE if math.isnan(row.margin) else f"{row.margin:g}",
            "Verdict": row.figure,
        }
        for row in shown.itertuples()
    ]
    return tables.show(
        _or_none(rows),
        "tbl-ledger-figures",
        "Every printed figure beside our mean with its 95% interval over n units of luck, once "
        "where several claims print it. A source's figure is one run: *contradicted from* is the "
        "distance from our mean beyond which it would have been contradicted, as one of its "
        "claim's figures; it agrees where it is shown to lie within the margin. Percent or points "
        f"where no unit is given; counts are exact. {_rebuilt(shown)}",
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
    found = claims[(claims["deviation"] != "") & ~claims["verdict"].isin(OPEN)]
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
        for (chapter, why), group in claims[claims["verdict"].isin(OPEN)]
        .assign(reason=lambda found: found["reason"].map(_first_words))
        .groupby(["chapter", "reason"], sort=False)
    ]
    return tables.show(
        _or_none(rows),
        "tbl-ledger-untested",
        "Claims without a verdict: not tested, or not identifiable. A claim whose runs are missing "
        "is not tested, whatever other runs suggest.",
    )


def power_table(table: pd.DataFrame) -> Table:
    """Claimed differences beside what our runs could have shown, and how many they need."""
    everything = published.claims()
    split = [id for id, claim in everything.items() if claim.luck == "split"]
    shown = table[(table["unit"] == "points") & table["low"].notna() & ~table["claim"].isin(split)]
    shown = shown[(shown["published"] != "") | (shown["verdict"] == "undecided")]
    rows = []
    for row in shown.itertuples():
        claimed = float(row.published or "nan")
        margin = everything[row.claim].margin_of("difference")
        half = float(stats.t.ppf(1 - ALPHA / 2, row.n - 1))
        error = (row.high - row.low) / 2 / half
        spread = error * math.sqrt(row.n)
        rows.append(
            {
                "Difference": _quantity(row),
                "Claimed": number(claimed, 2, sign=True) if row.published else NO_FIGURE,
                "Spread": number(spread, 2),
                "n": row.n,
                "Found with our n": number(detectable(error, row.n - 1), 1),
                "To find it": f"{runs_needed(claimed, spread):,}" if row.published else NO_FIGURE,
                "To find the margin": f"{runs_needed(margin, spread):,} ({margin:g})",
            }
        )
    return tables.show(
        _or_none(rows),
        "tbl-ledger-power",
        "What our runs could have shown of the claimed differences, in percentage points. Spread: "
        "standard deviation of the difference between units of luck. Found with our n: the "
        f"difference that a t test at 5% finds with a probability of {POWER:.0%}. To find it, to "
        "find the margin: units that give the same for the claimed difference and for the smallest "
        "that counts (in brackets); about as many show that there is none that counts. Chapter 4 "
        "is left out: more splits of the same photographs would not tell more.",
    )


def spread_table(table: pd.DataFrame) -> Table:
    """How far single runs of the sources' own protocols lie apart."""
    shown = distinct(table)
    shown = shown[(shown["unit"] == "%") & shown["spread"].notna()]
    rows = [
        {
            "Figure": _quantity(row),
            "Mean": number(row.ours),
            "Spread": number(row.spread, 2),
            "Two runs differ by up to": number(TWO_RUNS * row.spread, 1),
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


def _verdict(row: pd.Series) -> str:
    return f"{row['verdict']} above {row['above']}" if row["above"] else row["verdict"]


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


def _interval(mean: float, low: float, high: float, n: int, unit: str) -> str:
    if unit == ledger.COUNTED:
        return number(mean, 0)
    return number(ledger.Interval(mean, low, high, n, ""), 1, sign=unit == "points")


def _first_words(reason: str) -> str:
    """The reason without the details of its parts."""
    return reason.split(". ")[0].rstrip(".")
