from fewlabels.evidence import provenance


def test_commands_are_the_usual_ones_and_the_chapters_own():
    found = provenance.commands("toy", **{"More epochs": "-p epochs 40"})
    assert list(found.values()) == [
        "make rerun CHAPTER=toy",
        "fewlabels run toy --profile full -p store cache",
        "fewlabels run toy -p epochs 40",
    ]
    assert (
        "- More epochs: `fewlabels run toy -p epochs 40`"
        in provenance.rerun_box("toy", [], found).data
    )
