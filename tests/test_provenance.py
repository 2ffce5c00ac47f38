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


def test_a_caption_names_data_and_weights_in_short_and_refers_to_the_box():
    assert provenance.short("MNIST") == "MNIST"
    assert provenance.short("BloodMNIST at 28 px (a rebuild, not the official file)") == (
        "BloodMNIST at 28 px\N{DAGGER}"
    )
    assert provenance.short("resnet18, weights trained on ImageNet (`x.pth.xz`)") == (
        "resnet18\N{DAGGER}"
    )
    assert "X-rays" in provenance.data_box([], ["X-rays."]).data


def test_an_answer_can_be_found_by_its_id():
    assert provenance.answer("toy", "Yes.").data.splitlines() == [
        *("::: {#answer-toy .answer}", "Yes.", ":::")
    ]
