"""Parameters of the PersonalLLM notebooks: a wrong value gives
one line, whichever cell meets it.
"""

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
EVERYWHERE = [("n_bootstrap", 1), ("seed", -1), ("alpha", 0), ("alpha", None), ("data", "nowhere")]
EVERYWHERE += [("normalization", "z"), ("normalization", "published")]
SERVED = [
    ("users", 1),
    ("users", 2.5),
    ("planted", "much"),
    ("model", "gpt"),
    ("reference", "gpt-5"),
]
WRONG = {
    "1_simulated_users": [
        *(
            ("split", "dev"),
            ("alphas", []),
            ("alphas", [0]),
            ("alphas", 0.05),
            ("n_users", 0),
            ("sizes", []),
        ),
        *(
            ("sizes", [0]),
            ("sizes", 10),
            ("reward_models", []),
            ("reward_models", [0]),
            ("reward_models", [11]),
        ),
        *(
            ("losing", []),
            ("losing", "paper"),
            ("losing", ["worst"]),
            ("ridge", -1),
            ("ridge", None),
        ),
        *(("regression_users", 0), ("semantic", "lexicn"), ("semantic", None)),
    ],
    "2_in_context": [
        *(
            *SERVED,
            ("evaluation", "look"),
            ("evaluation", "generate"),
            ("shots", []),
            ("shots", [0]),
            ("shots", 3),
        ),
        *(
            ("shots", [-1]),
            ("shots", [0, 500]),
            ("templates", []),
            ("templates", "chat"),
            ("templates", ["raw"]),
        ),
    ],
    "3_across_users": [
        *(
            *SERVED,
            ("log", "nowhere"),
            ("database_sizes", []),
            ("database_sizes", 100),
            ("database_sizes", [5]),
        ),
        *(
            ("interactions", 0),
            ("interactions", 500),
            ("own_interactions", 0),
            ("own_interactions", 2),
        ),
        *(
            ("neighbours", 0),
            ("neighbours", 41),
            ("shots", 0),
            ("shots", [3]),
            ("shots", 6),
            ("shots", 3000),
        ),
    ],
}


@pytest.mark.parametrize(
    ("notebook", "name", "value"),
    [(notebook, *pair) for notebook, pairs in WRONG.items() for pair in EVERYWHERE + pairs],
)
def test_a_wrong_value_gives_one_line(tmp_path, isolated_cache, notebook, name, value):
    given = SMALL[notebook] | {name: value}
    with pytest.raises(UserError) as error:
        run_in_process(NOTEBOOKS / "personalllm" / f"{notebook}.ipynb", tmp_path, **given)
    assert "\n" not in str(error.value) and ": " in str(error.value)


def test_examples_are_compared_without_an_arm_that_has_none(tmp_path, isolated_cache):
    given = SMALL["2_in_context"] | {"shots": [3]}
    run_in_process(NOTEBOOKS / "personalllm" / "2_in_context.ipynb", tmp_path, **given)
    assert set(pd.read_csv(tmp_path / "tables" / "paired.csv")["shots"]) == {3}
