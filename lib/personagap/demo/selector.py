"""A simulated in-context learner: it ranks stored responses by a stated rule, so what it should gain is known."""

import re
import zlib

import numpy as np
import pandas as pd
from scipy import stats

from personagap.adaptation import Examples, Study, by_generation, by_selection, reward_models, serve
from personagap.demo.personalllm import score
from personagap.errors import UserError
from personagap.gap.resampling import resample
from personagap.models import load_model
from personagap.responses import ResponseStore

#: What it makes of its examples: likes responses whose rewards are like those of the liked ones and unlike
#: those of the disliked; once it sees any, likes what all reward models like; makes nothing of them.
PLANTED = ("benefit", "generic", "none")
SHOWN = re.compile(r"^(Liked|Disliked) response: (.*?)(?=\n+(?:Disliked response: |User: |Reply to ))", re.M | re.S)


class Selector:
    """Stands where a model stands: ``choose`` reads its prompt's text, and nothing else.

    The log-probability of a response is its bytes × (fit + noise − 9): fit is the mean over reward models of
    its z-scored rewards, times the mean of the examples' ("benefit") or 1 ("generic"); noise, standard
    normal × 0.3, is a hash of prompt and response. ``planted`` is one of `PLANTED`; ``responses`` (n, 8) and
    ``rewards`` (n, 8, n_models), z-scored, are all that it knows.
    """

    revision = None

    def __init__(self, planted: str, responses: np.ndarray, rewards: np.ndarray):
        if planted not in PLANTED:
            raise UserError(f"planted is {planted!r}: choose from {', '.join(PLANTED)}")
        self.id, self.planted = f"simulated ({planted})", planted
        self._rewards = dict(zip(responses.ravel(), rewards.reshape(responses.size, -1), strict=True))

    def describe(self) -> dict:
        return {"model": self.id, "backend": "simulated"}

    def formatted(self, prompt_format: str) -> "Selector":
        return self  # it has no chat template: the prompt is the same

    def render(self, messages: list[dict[str, str]]) -> str:
        return messages[0]["content"]

    def generate(self, chats: list, sampling, seeds: list) -> list:
        raise UserError("model simulated writes nothing: use evaluation='select'")

    def choose(self, chats: list, choices: list[list[str]]) -> list[np.ndarray]:
        return [self._score(self.render(chat), texts) for chat, texts in zip(chats, choices, strict=True)]

    def _score(self, prompt: str, texts: list[str]) -> np.ndarray:
        shown = [(label, text) for label, text in SHOWN.findall(prompt) if text in self._rewards]
        shown = [self._rewards[text] * (1 if label == "Liked" else -1) for label, text in shown]
        taste = {"benefit": np.mean(shown, axis=0) if shown else 0.0, "generic": float(bool(shown)), "none": 0.0}
        fit = (np.array([self._rewards[text] for text in texts]) * taste[self.planted]).mean(axis=1)
        uniform = (np.array([zlib.crc32((prompt + text).encode()) for text in texts]) + 0.5) / 2**32
        return np.array([len(text.encode()) for text in texts]) * (fit + 0.3 * stats.norm.ppf(uniform) - 9)


def open_model(
    model: str, planted: str, study: Study, evaluation: str = "select", data: str = "demo", device: str = "auto"
) -> tuple:
    """Who serves the study's users, and how: the model, and what ``adaptation.serve`` takes as ``respond``.

    Parameters
    ----------
    model : "simulated" (`Selector` with what is ``planted``), or that of ``models.load_model``, whose answers are kept.
    evaluation : "select" among the stored responses, or "generate" and score: with the demo's rewards if ``data`` is
        the demo, else with the reward models.
    """
    for name, value, known in (("planted", planted, PLANTED), ("evaluation", evaluation, ("select", "generate"))):
        if value not in known:
            raise UserError(f"{name} is {value!r}: choose from {', '.join(known)}")
    if model == "simulated":
        lm, store = Selector(planted, study.responses, study.rewards), None
    else:
        lm = load_model(model, device=device)
        store = ResponseStore(lm.id)
    if evaluation == "select":
        return lm, by_selection(study, store)
    return lm, by_generation(study, score if data == "demo" else reward_models(study, device))


def truth(lm: Selector, crowd: Study, arms: dict[str, Examples], paired: pd.DataFrame) -> pd.DataFrame:
    """Planted, true and estimated differences in persona reward between ``arms``, and how good such intervals are.

    True is the mean over endlessly many users of that distribution on these test prompts, with the same training
    prompts, historical users and model. A ``crowd`` gives it up to ``true_se``, the standard error over its users
    within prompts (unknown with one user each). Where what is planted does not depend on whose the examples are, it
    is how the model's noise falls on these prompts. The intervals of ``paired`` resample test prompts as well, so
    they cover that and the planted 0.

    Parameters
    ----------
    crowd : many times the users of ``paired``.
    arms : of the crowd; contrasts of ``paired`` (``adaptation.compare``) with other arms are left out.

    Returns
    -------
    ``quantity shots planted true true_se estimated ci_low ci_high covered coverage``; ``covered`` allows for the error
    of ``true``. ``coverage`` is the share of studies, cut from the crowd and as large as that of ``paired``, whose
    intervals cover the truth.
    """
    rows = paired[(paired["metric"] == "persona_reward") & (paired["template"] == paired["template"].iloc[0])]
    sides = rows["contrast"].str.split(" − ", expand=True)
    known = sides.isin(list(arms)).all(axis=1)
    rows, sides = rows[known].reset_index(drop=True), sides[known]
    shown = {name: arms[name] for name in np.unique(sides)}
    served = serve(lm, crowd, shown, by_selection(crowd, None), rows["shots"].unique(), rows["template"].unique())
    rewards = served.pivot(index=["prompt", "user"], columns=["arm", "shots"], values="persona_reward")
    first, second = (rewards[pd.MultiIndex.from_arrays([side, rows["shots"]])].to_numpy() for _, side in sides.items())
    difference = pd.DataFrame(first - second, rewards.index)
    error = np.sqrt(difference.groupby("prompt").var().mean() / len(difference))
    table = rows[["contrast", "shots"]].rename(columns={"contrast": "quantity"})
    table["planted"] = "follows its examples" if lm.planted == "benefit" else "0"
    table["true"], table["true_se"] = difference.mean(), error
    table[["estimated", "ci_low", "ci_high"]] = rows[["estimate", "ci_low", "ci_high"]]
    reach = np.hypot(table["ci_high"] - table["estimated"], 1.96 * table["true_se"].fillna(0))
    table["covered"] = (table["true"] - table["estimated"]).abs() <= reach
    return table.assign(coverage=_coverage(difference, table["true"].to_numpy(), rows["n_users"].iloc[0]))


def _coverage(difference: pd.DataFrame, true: np.ndarray, n_users: int) -> np.ndarray:
    """Share of the studies of ``n_users`` in ``difference`` (prompt and user × contrast) that cover ``true``."""
    covered = []
    for _, rows in difference.groupby(difference.index.get_level_values("user") // n_users):
        drawn = resample(rows.index, cluster="prompt", n_bootstrap=500)
        low, high = drawn.interval(np.stack([drawn.ratio(each) for each in rows.to_numpy().T], axis=1))
        covered.append((low <= true) & (true <= high))
    return np.mean(covered, axis=0)
