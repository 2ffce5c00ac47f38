"""FixMatch: pseudo-labels from weak views, taught on strong views (Sohn et al. 2020)."""

from torch import Tensor
from torch.nn import functional as F


def loss(weak_logits: Tensor, strong_logits: Tensor, threshold: float) -> Tensor:
    """The unlabelled term (equation 4).

    Args:
        weak_logits: [N, K], from the weakly augmented view; no gradient flows through them.
        strong_logits: [N, K], from the strongly augmented view of the same images.
        threshold: confidence in 0..1 that a pseudo-label needs to count.

    Returns:
        The loss, a scalar: cross-entropy over the confident images, divided by all N.
    """
    confidence, pseudo = weak_logits.detach().softmax(dim=1).max(dim=1)
    confident = (confidence >= threshold).float()
    each = F.cross_entropy(strong_logits, pseudo, reduction="none")
    return (each * confident).mean()
