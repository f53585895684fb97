"""Speed comparisons: both sides do the same work."""

import pytest
import torch
from fakes import FakeModel

from personagap import models
from personagap.errors import UserError
from personagap.performance import peers


def test_served_model_is_refused(monkeypatch):
    monkeypatch.setattr(models, "load_model", lambda *_, **__: FakeModel("served", str.upper))
    with pytest.raises(UserError, match="is on a server: its peers need it too"):
        peers.load("openai:served@http://x/v1", "cpu", "auto", repeats=1, batch_size=1)


def test_peers_get_the_same_model_and_questions(tmp_path):
    small = {"hidden_size": 64, "layers": 1, "seed": 0}
    subject = peers.load("random", "cpu", "float32", repeats=2, batch_size=2, **small)
    ours, theirs = subject.lm.model.state_dict(), subject.plain.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    (table,), same = peers.texts(subject, items_per_task=1, continuous=False)
    assert len(same) == 5 and same.mean() >= 0.6  # near ties may fall either way
    assert (table["n"].item(), table["amount"].item()) == (2, "tokens/s")
    assert (table["ci_low"] <= table["estimate"]).all() and 0 < table["share_of_limit"].item() < 1
