"""What it costs to choose a setting with few validation images."""

import numpy as np

from fewlabels.errors import UserError

ROUNDS = 1000


def regret(right: np.ndarray, budget: int) -> float:
    """Accuracy (0..1) lost on average by choosing on ``budget`` images in place of all.

    right: bool [candidates, images], which validation images each candidate has right. In every
    round other images are drawn, the candidate with most of them right is chosen (one of them at
    random where several have), and scored on the images that were not drawn, beside the one that
    all images choose. Raises UserError unless some images are drawn and some are left.
    """
    images = right.shape[1]
    if not 0 < budget < images:
        raise UserError(f"budget is {budget}; allowed: 1 to {images - 1}, fewer than the images")
    generator = np.random.default_rng(0)
    whole = right.sum(axis=1)
    best, lost = whole.argmax(), []
    for _ in range(ROUNDS):
        seen = right[:, generator.choice(images, budget, replace=False)].sum(axis=1)
        chosen = generator.choice(np.flatnonzero(seen == seen.max()))
        left = (whole - seen) / (images - budget)
        lost.append(left[best] - left[chosen])
    return float(np.mean(lost))
