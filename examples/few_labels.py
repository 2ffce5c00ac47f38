"""Your own images: pretrain without labels, label a few, see what that gives.

    python examples/few_labels.py [PATH]

PATH is an .npz file or a folder with one folder of images per class; without it scikit-learn's
digits are taken, which need no download. About a minute on two cores.
"""

import sys

import numpy as np

import fewlabels
from fewlabels.data import draw_labels

PER_CLASS, DRAWS = 5, 3


def main(path: str = "digits", epochs: int = 20) -> None:
    images = fewlabels.load(path)
    train, test, truth = images.train, images.test.images, images.test.labels.numpy()
    encoders = {
        "untrained": fewlabels.pretrain(train.images, epochs=0, symmetry="none"),
        "SimCLR": fewlabels.pretrain(train.images, "simclr", epochs=epochs, symmetry="none"),
    }
    predictions = {name: [] for name in encoders}
    for name, encoder in encoders.items():
        own, scored = (fewlabels.features(encoder, each) for each in (train.images, test))
        for draw in range(DRAWS):
            few = draw_labels(train.labels, PER_CLASS, seed=draw)
            model = fewlabels.probe(own[few], train.labels[few].numpy())
            predictions[name].append(model.predict(scored))
    print(f"{images.title}, {PER_CLASS} labels per class, mean class accuracy:")
    table = fewlabels.compare({k: np.stack(v) for k, v in predictions.items()}, truth)
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
