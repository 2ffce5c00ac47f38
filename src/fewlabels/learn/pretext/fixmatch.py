"""FixMatch: pseudo-labels from weak views, taught on strong views (Sohn et al. 2020)."""

from torch import Tensor
from torch.nn import functional as F

SMALLEST_SHARE = 1e-6


def aligned(logits: Tensor, share: Tensor, prior: Tensor, rate: float) -> Tensor:
    """Distribution alignment (Berthelot et al. 2020, section 3.1): a class that is predicted more
    often than it should be is predicted with less trust.

    Args:
        logits: [N, K], of a batch.
        share: [K], the running share of every class in the predictions; it is moved towards this
            batch's.
        prior: [K], how often each class should be predicted, up to a common factor.
        rate: in 0..1, how fast the share follows.

    Returns:
        Logits [N, K].
    """
    share.lerp_(logits.softmax(dim=1).mean(dim=0), rate)
    return logits - share.clamp(min=SMALLEST_SHARE).log() + prior.log()


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
