"""The gate's distance against scikit-learn's, and its file."""

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from engine.errors import ModelUnavailable
from engine.findings.answers import View
from engine.inference.gate import FeatureGate
from training.phantom_gate import neighbourhood


@pytest.fixture
def clouds():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(12, 12))
    return (rng.normal(size=(n, 12)) @ mix for n in (400, 2000))


def test_distance_is_mahalanobis(clouds):
    training, validation = clouds
    place = neighbourhood(training, validation, 0.01)
    ours = place.distance(torch.from_numpy(validation)).numpy() ** 2
    assert np.allclose(ours, LedoitWolf().fit(training).mahalanobis(validation), rtol=1e-3)
    assert (np.sqrt(ours) > place.threshold).mean() == pytest.approx(0.01, abs=0.001)


def test_the_file_keeps_the_decision(clouds, tmp_path):
    training, validation = clouds
    gate = FeatureGate({View.HAND: neighbourhood(training, validation, 0.01)})
    gate.save(tmp_path)
    features = torch.from_numpy(np.concatenate([validation[:50], validation[:50] * 4]))
    before, after = gate.excess(View.HAND, features), FeatureGate.load(tmp_path).excess(View.HAND, features)
    assert torch.allclose(before, after, rtol=0.01)
    assert (after[50:] > 1).all() or (after[50:] > after[:50]).all()


def test_a_model_without_its_gate_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable, match="phantom_gate"):
        FeatureGate.load(tmp_path)
