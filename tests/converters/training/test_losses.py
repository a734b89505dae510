"""Losses: autograd equals the gradients that theory gives, words outside the draft's vocabulary count."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="needs the extra 'train'")

import jax.numpy as jnp  # noqa: E402

from edgesdk.errors import UnsupportedOption  # noqa: E402
from edgesdk_converters.training.losses import LOSSES, SAMPLES, Judged, acceptance, find_loss  # noqa: E402

N, W = 7, 12  # positions, words of the draft
V = 20


@pytest.fixture(autouse=True)
def _float64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def judged():
    """Logits of a draft, and of a target whose words are the first 12 of 20."""
    random = np.random.default_rng(3)
    target = random.standard_normal((N, V)) * 2
    log_q = target - np.log(np.exp(target).sum(axis=-1, keepdims=True))
    return Judged(
        jnp.asarray(random.standard_normal((N, W)) * 2),
        jnp.asarray(log_q[:, :W]),
        jnp.asarray([0, 3, -1, 5, 11, 2, -1]),
        jax.random.key(1),
        jnp.asarray(0.5),
    )


def with_draft(judged, draft):
    return Judged(draft, judged.target, judged.next_word, judged.key, judged.progress)


def gradient(name, judged):
    return np.asarray(jax.grad(lambda draft: LOSSES[name](with_draft(judged, draft)).sum())(judged.draft))


def distributions(judged):
    p = np.exp(np.asarray(judged.draft))
    return p / p.sum(axis=-1, keepdims=True), np.exp(np.asarray(judged.target))


def test_gradient_of_kld(judged):
    p, q = distributions(judged)
    analytic = p * q.sum(axis=-1, keepdims=True) - q
    np.testing.assert_allclose(gradient("kld", judged), analytic, atol=1e-12)


def test_gradient_of_tvd(judged):
    p, q = distributions(judged)
    reward = (q > p).astype(float)
    analytic = p * ((p * reward).sum(axis=-1, keepdims=True) - reward)
    np.testing.assert_allclose(gradient("tvd", judged), analytic, atol=1e-12)


def test_gradient_of_tvd_plus_is_that_of_tvd_over_the_deviation_of_each_position(judged):
    p, q = distributions(judged)
    mean = (p * (q > p)).sum(axis=-1, keepdims=True)
    expected = gradient("tvd", judged) / np.sqrt(mean * (1 - mean))
    np.testing.assert_allclose(gradient("tvd++", judged), expected, atol=1e-10)


def test_gradient_of_cross_entropy(judged):
    p, _ = distributions(judged)
    words = np.asarray(judged.next_word)
    analytic = np.where(words[:, None] >= 0, p - np.eye(W)[words], 0)
    np.testing.assert_allclose(gradient("ce", judged), analytic, atol=1e-12)


def test_gradient_of_drawn_words(judged):
    """The estimate itself: the mean over drawn words of their advantage times p less the word drawn."""
    p, q = distributions(judged)
    words = np.asarray(jax.random.categorical(judged.key, judged.draft, shape=(SAMPLES, N)))
    reward = np.take_along_axis((q > p).astype(float), words.T, axis=1)
    deviation = np.maximum(reward.std(axis=1, keepdims=True), 1e-3)
    advantage = (reward - reward.mean(axis=1, keepdims=True)) / deviation
    analytic = (advantage[..., None] * (p[:, None] - np.eye(W)[words.T])).mean(axis=1)
    np.testing.assert_allclose(gradient("tvd++sampled", judged), analytic, atol=1e-12)


def test_drawn_words_give_the_exact_expectation_in_the_mean(judged):
    def drawn(key):
        moved = Judged(judged.draft, judged.target, judged.next_word, key, judged.progress)
        return jax.grad(lambda draft: LOSSES["tvd++sampled"](with_draft(moved, draft)).sum())(judged.draft)

    draws = np.asarray(jax.jit(jax.vmap(drawn))(jax.random.split(judged.key, 400)))
    mean, error = draws.mean(axis=0), draws.std(axis=0) / 20
    exact = gradient("tvd++", judged)
    # Mean and deviation of 16 draws are not those of p: a bias of a tenth is theirs.
    assert np.abs(mean - exact).max() < 0.12 * np.abs(exact).max() + 5 * error.max()


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 0.0), (0.25, 0.0), (0.5, 0.5), (0.75, 1.0), (1.0, 1.0)]
)
def test_a_schedule_moves_from_one_loss_to_the_other(judged, progress, share):
    moved = Judged(judged.draft, judged.target, judged.next_word, judged.key, jnp.asarray(progress))
    expected = (1 - share) * LOSSES["kld"](judged) + share * LOSSES["tvd"](judged)
    np.testing.assert_allclose(LOSSES["kld-tvd"](moved), expected, atol=1e-12)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_gradient_is_its_finite_difference(judged, name):
    """But for those that are policy gradients: their value is none whose difference they are."""
    if "++" in name:
        pytest.skip("a policy gradient")
    found, step = gradient(name, judged), 1e-6
    for position, word in ((0, 0), (2, 5), (6, 11)):
        moved = [
            float(LOSSES[name](with_draft(judged, judged.draft.at[position, word].add(sign * step))).sum())
            for sign in (1, -1)
        ]
        assert found[position, word] == pytest.approx((moved[0] - moved[1]) / (2 * step), abs=1e-5)


def test_what_the_target_says_outside_is_lost(judged):
    p, q = distributions(judged)
    kept = np.minimum(p, q).sum(axis=-1)
    np.testing.assert_allclose(acceptance(judged), kept, atol=1e-12)
    np.testing.assert_allclose(LOSSES["tvd"](judged), 1 - kept, atol=1e-12)


def test_a_perfect_draft_loses_what_lies_outside_and_no_more(judged):
    q = np.exp(np.asarray(judged.target))
    perfect = with_draft(judged, judged.target)
    np.testing.assert_allclose(LOSSES["tvd"](perfect), 1 - q.sum(axis=-1), atol=1e-12)
    assert np.abs(gradient("kld", perfect)).max() < 1e-12


def test_words_of_no_probability_are_no_trouble(judged):
    gone = Judged(
        judged.draft.at[:, 0].set(-1e4),
        judged.target.at[:, 1].set(-jnp.inf),
        judged.next_word,
        judged.key,
        judged.progress,
    )
    for name in LOSSES:
        assert np.isfinite(LOSSES[name](gone)).all(), name
        assert np.isfinite(gradient(name, gone)).all(), name


def test_an_unknown_loss_is_named():
    with pytest.raises(UnsupportedOption, match="'kl', expected one of kld, tvd"):
        find_loss("kl")
