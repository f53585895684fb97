"""Compute the exact probabilities of all answers that the safety-utility notebooks ask by default.

They are stored by the keys of the response store (``ask.weigh``). Requests that differ (a retrained
model, another wording) have other keys: they are not found, and are computed when asked.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personagap import datasets, demo, models, personas, responses
from personagap.demo import exact
from personagap.safety_utility import defences
from writing import target

#: As in 1_personalization_bias.
INTERSECTIONS = ["christian+republican", "hindu+middle_aged"]
#: As in 2_mitigation and 3_origin.
COMPARED, SAMPLED = ["mmlu", "do_not_answer"], 40


def conditions() -> Iterator[tuple]:
    """Yield model, prompt format, personas, items and defence of each condition."""
    who = personas.select("all")
    crossed = personas.select(["all", *INTERSECTIONS])
    yield "demo", "chat", crossed, datasets.load("all", data="demo"), None
    compared = datasets.load(COMPARED, data="demo")
    yield "demo:base", "base", who, compared, None
    yield "demo:preference", "chat", who, compared, None
    sampled = datasets.load(COMPARED, data="demo", items_per_task=SAMPLED, seed=0)
    for defence in [None, *defences.select("all")["defence"]]:
        yield "demo:instructed", "chat", who, sampled, defence and defences.load_defence(defence)


def write(folder: Path) -> None:
    """Write ``exact.parquet``."""
    with tempfile.TemporaryDirectory() as place:
        responses.RESPONSES, stores = Path(place, "responses"), set()
        for name, prompt_format, who, items, defence in conditions():
            lm = models.load_model(name, device="cpu", prompt_format=prompt_format)
            demo.true_scores(lm, who, items, defence=defence, known=None)
            stores.add(lm.id)
        rows = [row for name in stores for row in responses.ResponseStore(name).rows()]
    by_key = {key: list(json.loads(text).values()) for key, text, *_ in rows}
    keys = np.array([exact.number(key) for key in by_key], dtype=np.uint64)
    columns = {"key": keys, "log_probabilities": pa.array(by_key.values(), pa.list_(pa.float32()))}
    # The settings that give the smallest file.
    options = {"compression": "zstd", "compression_level": 19}
    options |= {"use_dictionary": False, "use_byte_stream_split": True}
    pq.write_table(pa.table(columns).sort_by("key"), folder / "exact.parquet", **options)


if __name__ == "__main__":
    write(target())
