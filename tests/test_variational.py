import math

import numpy as np
import pytest
import torch
from scipy import stats

from fewlabels.errors import UserError
from fewlabels.nets.variational import (
    active_units,
    decoder_variance,
    gaussian_elbo,
    importance_bound,
    kl_divergence,
    knee,
    log_normal,
    reparameterised,
)


def test_kl_of_the_prior_itself_is_zero_and_of_a_shift_half_its_square():
    zero = torch.zeros(1, 3)
    assert kl_divergence(zero, zero).item() == 0
    assert kl_divergence(torch.tensor([[2.0, 0, 0]]), zero).item() == pytest.approx(2)


def test_kl_in_closed_form_agrees_with_monte_carlo():
    torch.manual_seed(0)
    mean, log_variance = torch.tensor([[0.7, -1.2]]), torch.tensor([[-0.5, 0.4]])
    copies = [t.expand(200_000, 2) for t in (mean, log_variance)]
    z = reparameterised(*copies)
    ratio = log_normal(z, *copies) - log_normal(z)
    error = 5 * ratio.std().item() / math.sqrt(len(z))
    assert kl_divergence(mean, log_variance).item() == pytest.approx(ratio.mean().item(), abs=error)


def test_log_normal_as_scipy_has_it():
    x, mean, variance = np.array([0.3, -2.0]), np.array([1.0, 0.5]), np.array([0.5, 2.0])
    theirs = stats.norm.logpdf(x, mean, np.sqrt(variance)).sum()
    ours = log_normal(*(torch.tensor(t) for t in (x, mean, np.log(variance))))
    assert ours.item() == pytest.approx(theirs)


def test_gradient_through_the_draw_agrees_with_finite_differences():
    def expectation(mean, log_variance):
        torch.manual_seed(1)
        z = reparameterised(mean.expand(1000, 2), log_variance.expand(1000, 2))
        return (z.sin() + z.square()).mean()

    start = torch.tensor([0.3, -0.8, 0.2, -1.0], dtype=torch.float64)
    tensor = start.clone().requires_grad_()
    expectation(tensor[:2], tensor[2:]).backward()
    for i in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[i] = 1e-5
        up, down = (expectation(t[:2], t[2:]).item() for t in (start + step, start - step))
        assert tensor.grad[i].item() == pytest.approx((up - down) / 2e-5, rel=1e-5)


def linear_gaussian(samples: int, posterior_spread: float):
    """log p(x) of z ~ N(0, 1), x | z ~ N(z, 1), and log weights under a posterior that is exact
    for a spread of 1 and too narrow below."""
    torch.manual_seed(2)
    x = torch.tensor([[0.5], [-1.0], [2.0]])
    mean = (x / 2).expand(samples, 3, 1)
    log_variance = torch.full_like(mean, math.log(0.5 * posterior_spread**2))
    z = reparameterised(mean, log_variance)
    log_weights = log_normal(z) + log_normal(x.expand_as(z), z) - log_normal(z, mean, log_variance)
    exact = torch.tensor(stats.norm.logpdf(x[:, 0], 0, math.sqrt(2)))
    return log_weights, exact


def test_importance_bound_is_exact_under_the_true_posterior():
    log_weights, exact = linear_gaussian(7, 1.0)
    assert torch.allclose(importance_bound(log_weights).double(), exact, atol=1e-5)


def test_importance_bound_lies_between_elbo_and_likelihood_and_tightens():
    log_weights, exact = linear_gaussian(40_000, 0.7)
    means = {}
    for k in (1, 10, 100):
        parts = log_weights.view(k, -1, 3)
        means[k] = importance_bound(parts).mean(dim=0).double()
    assert (means[1] < means[10]).all() and (means[10] < means[100]).all()
    assert (means[100] <= exact + 0.01).all()
    assert torch.allclose(means[1], log_weights.mean(dim=0).double(), atol=1e-5)


def test_active_units_are_those_whose_means_move():
    torch.manual_seed(0)
    means = torch.randn(500, 3) * torch.tensor([1.0, 0.2, 0.05])
    assert active_units(means) == 2
    assert active_units(torch.zeros(500, 2)) == 0


def test_weight_in_nats_by_hand():
    # MSE + w KL, divided by w, is the negative Gaussian ELBO up to its constant.
    weight, pixels, mse, kl = 0.01, 784, 0.04, 5.0
    variance = decoder_variance(weight, pixels)
    assert variance == pytest.approx(3.92)
    constant = -0.5 * pixels * math.log(2 * math.pi * variance)
    expected = constant - (mse + weight * kl) / weight
    assert gaussian_elbo(mse, kl, variance, pixels) == pytest.approx(expected)


def test_the_best_variance_of_the_decoder_is_its_error():
    at = {v: gaussian_elbo(0.04, 5, v, 784) for v in (0.03, 0.04, 0.05)}
    assert max(at, key=at.get) == 0.04


def test_knee_of_a_hyperbola_is_its_middle_and_scale_does_not_matter():
    x = np.array([1, 2, 4, 8, 16.0])
    assert knee(x, 1 / x) == 2
    assert knee(100 * x, 5 + 1 / x) == 2


@pytest.mark.parametrize(("rate", "distortion"), [([1, 2], [2, 1]), ([1, 1, 1], [3, 2, 1])])
def test_a_knee_needs_a_curve(rate, distortion):
    with pytest.raises(UserError, match="three points"):
        knee(rate, distortion)
