"""Wrong parameter values in the PersonalLLM notebooks give a one-line error."""

import pandas as pd
import pytest
from notebook_helpers import run_in_process

from personagap.errors import UserError
from personagap.paths import NOTEBOOKS

SMALL = {
    "1_simulated_users": {
        "n_bootstrap": 20,
        "n_users": 20,
        "sizes": [10],
        "reward_models": [1, 10],
        "regression_users": 3,
    },
    "2_in_context": {"n_bootstrap": 20, "users": 10, "shots": [0, 1]},
    "3_across_users": {"n_bootstrap": 20, "users": 10, "database_sizes": [40]},
}
INVALID_IN_ALL = [
    ("n_bootstrap", 1),
    ("seed", -1),
    ("alpha", 0),
    ("alpha", None),
    ("data", "nowhere"),
]
INVALID_IN_ALL += [("normalization", "z"), ("normalization", "published")]
INVALID_FOR_MODELS = [
    ("users", 1),
    ("users", 2.5),
    ("planted", "much"),
    ("model", "gpt"),
    ("reference", "gpt-5"),
]
INVALID = {
    "1_simulated_users": [
        *(("split", "dev"), ("alphas", []), ("alphas", [0]), ("alphas", 0.05)),
        *(("n_users", 0), ("sizes", []), ("sizes", [0]), ("sizes", 10)),
        *(("reward_models", []), ("reward_models", [0]), ("reward_models", [11])),
        *(("losing", []), ("losing", "paper"), ("losing", ["worst"])),
        *(("ridge", -1), ("ridge", None), ("regression_users", 0)),
        *(("semantic", "lexicn"), ("semantic", None)),
    ],
    "2_in_context": [
        *(*INVALID_FOR_MODELS, ("evaluation", "look"), ("evaluation", "generate")),
        *(("shots", []), ("shots", [0]), ("shots", 3), ("shots", [-1]), ("shots", [0, 500])),
        *(("templates", []), ("templates", "chat"), ("templates", ["raw"])),
    ],
    "3_across_users": [
        *(*INVALID_FOR_MODELS, ("log", "nowhere")),
        *(("database_sizes", []), ("database_sizes", 100), ("database_sizes", [5])),
        *(("interactions", 0), ("interactions", 500)),
        *(("own_interactions", 0), ("own_interactions", 2)),
        *(("neighbours", 0), ("neighbours", 41)),
        *(("shots", 0), ("shots", [3]), ("shots", 6), ("shots", 3000)),
    ],
}


@pytest.mark.parametrize(
    ("notebook", "name", "value"),
    [(notebook, *pair) for notebook, pairs in INVALID.items() for pair in INVALID_IN_ALL + pairs],
)
def test_invalid_parameter_value_is_a_one_line_error(
    tmp_path, isolated_cache, notebook, name, value
):
    given = SMALL[notebook] | {name: value}
    with pytest.raises(UserError) as error:
        run_in_process(NOTEBOOKS / "personalllm" / f"{notebook}.ipynb", tmp_path, **given)
    assert "\n" not in str(error.value) and ": " in str(error.value)


def test_examples_are_compared_without_the_zero_shot_arm(tmp_path, isolated_cache):
    given = SMALL["2_in_context"] | {"shots": [3]}
    run_in_process(NOTEBOOKS / "personalllm" / "2_in_context.ipynb", tmp_path, **given)
    assert set(pd.read_csv(tmp_path / "tables" / "paired.csv")["shots"]) == {3}
