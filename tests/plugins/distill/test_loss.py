"""The loss of everything that learns from a teacher, against torch's, scipy's and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import log_softmax, softmax
from scipy.stats import pearsonr
from torch import Tensor
from torch.nn import functional as F

from compressit.config import dump, parse
from compressit.contract.classification import Classification, ClassificationConfig
from compressit.errors import CompressitError
from compressit_plugins.distill.loss import loss_of
from compressit_plugins.distill.options import TeacherConfig

LABELS = torch.arange(6) % 5
DEFAULTS = TeacherConfig(teacher="train").model_dump()


def taught_loss(
    outputs: Tensor, labels: Tensor, taught: Tensor, label_smoothing: float = 0.0, **options: Any
) -> Tensor:
    """What a student minimises, with options that a recipe may not combine, too."""
    task = Classification(ClassificationConfig(label_smoothing=label_smoothing))
    config = TeacherConfig.model_construct(**{**DEFAULTS, "temperature": 1.0, **options})
    return loss_of(config, task, labels)(outputs, labels, taught)


def logits(seed: int, rows: int = 6, classes: int = 5, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """The student's, which wants a gradient, and the teacher's."""
    generator = torch.Generator().manual_seed(seed)
    two = [(torch.randn(rows, classes, generator=generator, dtype=torch.float64) * 4) for _ in range(2)]
    return [two[0].to(dtype).requires_grad_(), two[1].to(dtype)]


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of)[0]


@given(st.floats(0.5, 50), st.floats(0, 1), st.floats(0, 0.9), st.integers(0, 2**32))
def test_with_kl_it_is_torchs_kl_div_and_cross_entropy(
    t: float, hard: float, smooth: float, seed: int
) -> None:
    outputs, taught = logits(seed)
    soft = F.kl_div((outputs / t).log_softmax(1), (taught / t).softmax(1), reduction="batchmean")
    expected = (1 - hard) * t * t * soft + hard * F.cross_entropy(outputs, LABELS, label_smoothing=smooth)
    ours = taught_loss(outputs, LABELS, taught, hard=hard, temperature=t, label_smoothing=smooth)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(gradient(ours, outputs), gradient(expected, outputs))


@given(st.floats(0.5, 50), st.floats(0, 1), st.integers(0, 2**32))
def test_it_is_hintons(t: float, hard: float, seed: int) -> None:
    outputs, taught = logits(seed)
    student, teacher = (log_softmax(z.detach().numpy() / t, axis=1) for z in (outputs, taught))
    divergence = (np.exp(teacher) * (teacher - student)).sum(1).mean()
    truth = -log_softmax(outputs.detach().numpy(), axis=1)[np.arange(6), LABELS.numpy()].mean()
    ours = float(taught_loss(outputs.detach(), LABELS, taught, hard=hard, temperature=t))
    assert ours == pytest.approx((1 - hard) * t * t * divergence + hard * truth, rel=1e-9, abs=1e-9)


@given(st.floats(0, 1), st.integers(0, 2**32))
def test_with_logits_it_is_their_mean_squared_error(hard: float, seed: int) -> None:
    """Ba & Caruana 2014."""
    outputs, taught = logits(seed)
    expected = (1 - hard) * (outputs - taught).square().mean() + hard * F.cross_entropy(outputs, LABELS)
    torch.testing.assert_close(taught_loss(outputs, LABELS, taught, hard=hard, loss="logits"), expected)


@pytest.mark.parametrize("loss", ["kl", "logits", "dkd", "dist"])
@pytest.mark.parametrize("t", [0.5, 1.0, 4.0])
def test_a_student_that_is_its_teacher_learns_from_the_labels_alone(loss: Any, t: float) -> None:
    outputs, _ = logits(0)
    ours = taught_loss(outputs, LABELS, outputs.detach(), hard=0.0, loss=loss, temperature=t)
    assert float(ours.detach()) == pytest.approx(0, abs=1e-12)
    assert float(gradient(ours, outputs).abs().max()) < 1e-15
    both = taught_loss(outputs, LABELS, outputs.detach(), hard=0.25, loss=loss, temperature=t)
    labels = 0.25 * gradient(F.cross_entropy(outputs, LABELS), outputs)
    torch.testing.assert_close(gradient(both, outputs), labels)


@given(st.floats(0.5, 20), st.floats(0, 3), st.floats(0, 9), st.integers(0, 2**32))
def test_dkd_is_zhaos(t: float, alpha: float, beta: float, seed: int) -> None:
    """Zhao et al. 2022, equations 5 to 7, with the probabilities of every class written out."""
    outputs, taught = (z.detach().numpy() for z in logits(seed))
    total = 0.0
    for ours, theirs, label in zip(outputs, taught, LABELS.tolist(), strict=True):
        q, p = (np.exp(z / t) / np.exp(z / t).sum() for z in (ours, theirs))
        target = [(p[label], q[label]), (np.delete(p, label).sum(), np.delete(q, label).sum())]
        others = zip(*(np.delete(x, label) / np.delete(x, label).sum() for x in (p, q)), strict=True)
        tckd, nckd = (sum(a * np.log(a / b) for a, b in pairs) for pairs in (target, others))
        total += alpha * tckd + beta * nckd
    given = {"temperature": t, "alpha": alpha, "beta": beta}
    ours = taught_loss(torch.tensor(outputs), LABELS, torch.tensor(taught), hard=0.0, loss="dkd", **given)
    assert float(ours) == pytest.approx(t * t * total / 6, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_dkd_with_the_teachers_doubt_as_beta_is_kl(t: float) -> None:
    """Zhao et al. 2022, equation 4: KL = TCKD + (1 - p(target)) * NCKD, here for one example at a time."""
    outputs, taught = logits(6)
    for row in range(6):
        ours, theirs, label = outputs[row : row + 1], taught[row : row + 1], LABELS[row : row + 1]
        doubt = 1 - float((theirs / t).softmax(1)[0, label])
        given = {"hard": 0.0, "temperature": t}
        decoupled = taught_loss(ours, label, theirs, loss="dkd", alpha=1.0, beta=doubt, **given)
        torch.testing.assert_close(decoupled, taught_loss(ours, label, theirs, **given))


def test_dkd_is_finite_where_a_probability_is_none() -> None:
    outputs = torch.tensor([[200.0, -200.0, 0.0], [-300.0, 300.0, 0.0]], requires_grad=True)
    loss = taught_loss(
        outputs, torch.tensor([0, 0]), outputs.detach().flip(0), hard=0.0, loss="dkd", alpha=1, beta=8
    )
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient(loss, outputs)).all()


@given(st.floats(0.5, 20), st.floats(0, 3), st.floats(0, 3), st.integers(0, 2**32))
def test_dist_is_huangs(t: float, inter: float, intra: float, seed: int) -> None:
    """Huang et al. 2022, equations 6 to 9, with scipy's correlation."""
    outputs, taught = logits(seed)
    ours, theirs = (softmax(z.detach().numpy() / t, axis=1) for z in (outputs, taught))
    rows = [1 - pearsonr(*pair).statistic for pair in zip(ours, theirs, strict=True)]
    columns = [1 - pearsonr(*pair).statistic for pair in zip(ours.T, theirs.T, strict=True)]
    expected = t * t * (inter * np.mean(rows) + intra * np.mean(columns))
    given = {"temperature": t, "inter": inter, "intra": intra}
    found = taught_loss(outputs.detach(), LABELS, taught, hard=0.0, loss="dist", **given)
    assert float(found) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_dist_of_one_example_has_no_correlation_over_the_batch() -> None:
    outputs, taught = logits(7, rows=1)
    loss = taught_loss(outputs, LABELS[:1], taught, hard=0.0, loss="dist", inter=0.0, intra=1.0)
    assert float(loss.detach()) == 1.0
    assert not gradient(loss, outputs).any()


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_the_gradient_is_the_difference_of_the_probabilities(t: float) -> None:
    """Hinton, Vinyals & Dean 2015, equation 2: (q - p) / T for one example; here times T squared, batch mean."""
    outputs, taught = logits(1)
    ours = gradient(taught_loss(outputs, LABELS, taught, hard=0.0, temperature=t), outputs)
    torch.testing.assert_close(ours, t * ((outputs / t).softmax(1) - (taught / t).softmax(1)) / 6)


def test_at_a_high_temperature_probabilities_and_centred_logits_are_matched_alike() -> None:
    """Hinton, Vinyals & Dean 2015, section 2.1: the gradient tends to (z - v) / classes for zero-mean logits."""
    outputs, taught = logits(2, classes=10)
    centred = (outputs - outputs.mean(1, keepdim=True)).detach().requires_grad_()
    taught = taught - taught.mean(1, keepdim=True)
    hot = taught_loss(centred, LABELS, taught, hard=0.0, temperature=1e4)
    matched = taught_loss(centred, LABELS, taught, hard=0.0, loss="logits")
    torch.testing.assert_close(hot, matched / 2, rtol=1e-3, atol=0)
    torch.testing.assert_close(gradient(hot, centred), (centred - taught) / 10 / 6, rtol=2e-3, atol=1e-4)


def test_in_low_precision_it_computes_in_float32(device: str) -> None:
    outputs, taught = (z.to(device) for z in logits(3, dtype=torch.bfloat16))
    labels = LABELS.to(device)
    outputs = outputs.detach()
    ours = taught_loss(outputs, labels, taught.float(), hard=0.1, temperature=4.0)
    assert ours.dtype == torch.float32
    exact = taught_loss(outputs.double(), labels, taught.double(), hard=0.1, temperature=4.0)
    assert float(ours) == pytest.approx(float(exact), rel=1e-5)


def test_what_has_no_weight_is_not_computed() -> None:
    outputs, taught = logits(4)
    nothing = torch.full_like(taught, torch.nan)
    assert torch.isfinite(taught_loss(outputs, LABELS, nothing, hard=1.0))
    wrong = torch.full_like(outputs, -100)  # no label at all: cross-entropy of no example is NaN
    assert torch.isfinite(taught_loss(outputs, wrong[:, 0].long(), taught, hard=0.0))


@pytest.mark.parametrize("classes", [1, 4])
def test_a_teacher_of_other_classes_is_refused(classes: int) -> None:
    outputs, _ = logits(5)
    with pytest.raises(
        CompressitError, match=rf"teacher's outputs have shape \(6, {classes}\), the student's \(6, 5\)"
    ):
        taught_loss(outputs, LABELS, torch.zeros(6, classes), hard=0.1)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"hard": 1, "temperature": 2}, r"temperature\n.*has no effect with `hard: 1`"),
        ({"hard": 1, "loss": "logits"}, r"loss\n.*has no effect with `hard: 1`"),
        ({"loss": "logits", "temperature": 2}, r"temperature\n.*has no effect with `loss: logits`"),
        ({"beta": 2}, r"beta\n.*has no effect with `loss: kl`: it is an option of dkd"),
        ({"loss": "dkd", "inter": 2}, r"inter\n.*has no effect with `loss: dkd`: it is an option of dist"),
        ({"teacher": ["train", "train"]}, r"teacher\n.*names a model twice"),
        ({"teacher": []}, r"teacher"),
    ],
)
def test_an_option_without_effect_is_a_mistake(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TeacherConfig.model_validate({"teacher": "train", **values})


@pytest.mark.parametrize(
    "values", [{"hard": 1}, {"loss": "logits"}, {"hard": 0, "temperature": 2}, {"loss": "dkd", "beta": 2}]
)
def test_written_out_a_default_is_no_mistake(values: dict[str, Any]) -> None:
    options = TeacherConfig.model_validate({"teacher": "train", **values})
    assert parse(TeacherConfig, dump(options)) == options
