"""A law that is known is found again, by the method of the papers; what cannot be told is said."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares, minimize_scalar

from journey.errors import JourneyError
from journey.evaluate import scaling
from journey.evaluate.scaling import BESIROGLU, HOFFMANN, KAPLAN, Chinchilla, Kaplan, Training

SIZES = (66e3, 133e3, 279e3, 584e3, 1198e3)
TOKENS = tuple(150e3 * 2.02**i for i in range(5))
TRUE = Chinchilla(1.3, 60.0, 300.0, 0.35, 0.42)


def trained(law, noise=0.0, sizes=SIZES, tokens=TOKENS, seed=0):
    """Trainings whose losses follow a law; a Kaplan's N is the body."""
    rng = np.random.default_rng(seed)
    return [
        Training(N, 0.8 * N, D, 6 * N * D, law.loss(0.8 * N if isinstance(law, Kaplan) else N, D) * error)
        for N in sizes
        for D in tokens
        for error in [math.exp(rng.normal(0, noise))]
    ]


@settings(max_examples=12, deadline=None)
@given(
    E=st.floats(0.5, 2.5),
    parts=st.tuples(st.floats(0.2, 2.0), st.floats(0.2, 2.0)),
    alpha=st.floats(0.2, 0.8),
    beta=st.floats(0.2, 0.8),
)
def test_a_known_law_is_recovered(E, parts, alpha, beta):
    """`parts` are what N and D add to the loss in the middle of the grid."""
    true = Chinchilla(E, parts[0] * 279e3**alpha, parts[1] * 612e3**beta, alpha, beta)
    found = scaling.fit_chinchilla(trained(true), resamples=0)
    assert found.error < 2e-4
    assert found.law.a == pytest.approx(true.a, abs=0.02)
    for N, D in ((66e3, 2.5e6), (1.2e6, 150e3), (600e3, 2e6)):
        assert found.law.loss(N, D) == pytest.approx(true.loss(N, D), rel=1e-3)


def test_the_constants_of_the_paper_come_back_from_its_own_range():
    """70 million to 16 billion parameters, 5 to 500 billion tokens: each constant to a percent."""
    data = trained(HOFFMANN, sizes=np.geomspace(7e7, 1.6e10, 8), tokens=np.geomspace(5e9, 5e11, 8))
    found = scaling.fit_chinchilla(data, resamples=0).law
    for name in ("E", "A", "B", "alpha", "beta"):
        assert getattr(found, name) == pytest.approx(getattr(HOFFMANN, name), rel=0.01)


def test_noise_is_in_the_intervals():
    """With 60 resamples for each of 40 seeds the six intervals held the truth 38 or 39 times (a one-off count)."""
    found = scaling.fit_chinchilla(trained(TRUE, 0.005, seed=1), resamples=40)
    for name in ("E", "A", "B", "alpha", "beta", "a"):
        e = found.estimate(lambda law, name=name: getattr(law, name))
        assert e.low < getattr(TRUE, name) < e.high and e.low < e.value < e.high
    wider = scaling.fit_chinchilla(trained(TRUE, 0.02, seed=1), resamples=20).estimate(lambda law: law.a)
    a = found.estimate(lambda law: law.a)
    assert wider.high - wider.low > 2 * (a.high - a.low)


def test_no_other_optimizer_goes_lower():
    """scipy's trust region minimizes the same sum of Huber losses, begun at the truth; with noise and an outlier."""
    data = trained(TRUE, 0.01)
    data[3] = replace(data[3], loss=1.5 * data[3].loss)
    N, D, loss = (np.array([getattr(t, name) for t in data]) for name in ("parameters", "tokens", "loss"))

    def residuals(p):
        E, A, B, alpha, beta = p
        return np.log(np.exp(E) + np.exp(A) * (N / 3e5) ** -alpha + np.exp(B) * (D / 6e5) ** -beta) - np.log(loss)

    start = [0.3, math.log(TRUE.A * 3e5**-0.35), math.log(TRUE.B * 6e5**-0.42), 0.35, 0.42]
    theirs = least_squares(residuals, start, loss="huber", f_scale=scaling.DELTA, xtol=1e-14, ftol=1e-14, max_nfev=5000)
    found = scaling.fit_chinchilla(data, resamples=0).law
    size = np.abs(np.log([found.loss(n, d) for n, d in zip(N, D, strict=True)]) - np.log(loss))
    ours = np.where(size <= scaling.DELTA, size**2 / 2, scaling.DELTA * (size - scaling.DELTA / 2)).sum()
    assert ours <= theirs.cost * (1 + 1e-3)
    assert found.a == pytest.approx(TRUE.a, abs=0.1)  # the outlier moves it little


@settings(max_examples=50, deadline=None)
@given(C=st.floats(10, 25), law=st.sampled_from([HOFFMANN, BESIROGLU, TRUE]))
def test_the_optimum_is_the_lowest_point_for_its_arithmetic(C, law):
    C = 10**C
    N, D = law.optimum(C)
    assert math.isclose(6 * N * D, C)
    lowest = minimize_scalar(
        lambda x: law.loss(math.exp(x), C / 6 / math.exp(x)),
        bounds=(math.log(N) - 4, math.log(N) + 4),
        method="bounded",
    )
    assert law.loss(N, D) <= lowest.fun + 1e-9


def test_the_published_constants_say_what_their_papers_say():
    """At Gopher's 5.76e23 FLOPs: 40 billion parameters (Hoffmann et al., third approach); about 20 tokens a parameter
    (Besiroglu et al.); and the constants as the paper's text rounds them miss its own optimum by a fifth."""
    N, D = HOFFMANN.optimum(5.76e23)
    assert math.isclose(N, 40.2e9, rel_tol=0.01)
    rounded = Chinchilla(1.69, 406.4, 410.7, 0.34, 0.28).optimum(5.76e23)[0]
    assert rounded == pytest.approx(32e9, rel=0.02)
    N, D = BESIROGLU.optimum(5.76e23)
    assert 17 < D / N < 21 and BESIROGLU.a == pytest.approx(0.51, abs=0.005)
    assert scaling.kaplan_optimum(scaling.PF_DAY) == (1.3e9, pytest.approx(8.64e19 / 6 / 1.3e9))
    assert KAPLAN.loss(1e30, 1e30) < 0.1 and KAPLAN.loss(8.8e13, 1e30) < 1 < KAPLAN.loss(6e13, 1e30)  # L(N_c, ∞) = 1


@pytest.mark.parametrize("true", [Kaplan(5e7, 2e8, 0.15, 0.2), Kaplan(4e8, 3e8, 0.08, 0.3)])
def test_kaplans_form_is_recovered(true):
    found = scaling.fit_kaplan(trained(true), resamples=3)
    assert found.error < 1e-4
    for name in ("N_c", "D_c", "alpha_N", "alpha_D", "a"):
        assert getattr(found.law, name) == pytest.approx(getattr(true, name), rel=0.02)
        assert getattr(found.draws[0], name) == pytest.approx(getattr(true, name), rel=0.05)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ([], "three sizes of the model"),
        (trained(TRUE, sizes=SIZES[:1]), "here is 1"),
        (trained(TRUE, sizes=SIZES[:2]), "three sizes of the model"),
        (trained(TRUE, sizes=(1e5, 1.001e5, 2e5)), "here are 2"),
        (trained(TRUE, tokens=TOKENS[:1]), "three numbers of tokens"),
        ([trained(TRUE)[0]] * 30, "three sizes"),
        ([trained(TRUE)[6 * i] for i in range(5)], "5 points cannot hold its 5 parameters"),
        ([*trained(TRUE), replace(trained(TRUE)[0], loss=math.nan)], "loss of nan"),
        ([*trained(TRUE), replace(trained(TRUE)[0], loss=math.inf)], "loss of inf"),
        ([*trained(TRUE), replace(trained(TRUE)[0], loss=0.0)], "loss of 0"),
        ([*trained(TRUE), replace(trained(TRUE)[0], tokens=0.0)], "numbers above 0"),
    ],
)
def test_what_cannot_be_told_is_said_in_a_line(data, why):
    for fit in (scaling.fit_chinchilla, scaling.fit_kaplan):
        with pytest.raises(JourneyError, match=why) as error:
            fit(data)
        assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_loss_that_depends_on_nothing_gives_intervals_that_say_so():
    """Noise alone: nothing fails, and the exponents' interval is nearly all that there is."""
    rng = np.random.default_rng(0)
    data = [replace(t, loss=3 * math.exp(rng.normal(0, 0.01))) for t in trained(TRUE)]
    found = scaling.fit_chinchilla(data, resamples=10)
    a = found.estimate(lambda law: law.a)
    assert all(math.isfinite(v) for v in (a.low, a.high)) and a.high - a.low > 0.4


def test_isoflop_curves_find_the_optimum_that_lies_between_the_sizes():
    """On exact data a parabola's lowest point is near the law's, and one beyond the sizes is told as such."""
    sizes = np.geomspace(6e4, 1.2e6, 6)
    data = [Training(N, N, C / 6 / N, C, TRUE.loss(N, C / 6 / N)) for C in (1e12, 3e12, 1e13) for N in sizes]
    curves = scaling.isoflops(data)
    assert [curve.flops for curve in curves] == pytest.approx([1e12, 3e12, 1e13])
    for curve in curves:
        assert curve.best == pytest.approx(TRUE.optimum(curve.flops)[0], rel=0.25)
        assert curve.loss(curve.best) <= min(t.loss for t in curve.trainings) + 0.01
    a = scaling.optimum_exponent(data, TRUE, resamples=20)
    assert a.value == pytest.approx(TRUE.a, abs=0.1)
    large = [t for t in data if t.parameters > 3e5]
    assert [c.best for c in scaling.isoflops(large)][:2] == [None, None]
    assert "beyond the smallest" in scaling.isoflops(large)[0].why
    assert scaling.optimum_exponent(large, TRUE) is None
    flat = [replace(t, loss=3 - (math.log(t.parameters) - 12.5) ** 2 / 100) for t in data]
    assert scaling.isoflops(flat)[0].best is None and "no lowest point" in scaling.isoflops(flat)[0].why
    assert scaling.isoflops([t for t in data if t.parameters < 2e5][:2]) == []


def test_three_trainings_a_budget_have_an_interval_too():
    """They lie on their parabola: noise shows only in what the fitted law leaves over. Of 25 seeds, with 60 resamples,
    the interval held the truth for 21 (a one-off count)."""
    held = 0
    for seed in range(6):
        rng, data = np.random.default_rng(seed), []
        for C in (1e12, 3e12, 9e12):
            for N in (TRUE.optimum(C)[0] * by for by in (0.4, 1, 2.5)):
                data.append(Training(N, N, C / 6 / N, C, TRUE.loss(N, C / 6 / N) * math.exp(rng.normal(0, 0.003))))
        found = scaling.optimum_exponent(data, scaling.fit_chinchilla(data, 0).law, resamples=30)
        assert found.high - found.low > 0.01
        held += found.low < TRUE.a < found.high
    assert held >= 4
