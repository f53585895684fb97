"""The response store: append-only shards that survive kills, concurrent writers and full disks."""

import os
import signal
import subprocess
import sys

import pandas as pd
import pytest
from notebooks_for_tests import wait_for

from personagap.errors import UserError
from personagap.models import Generation
from personagap.responses import ANSWER_COLUMNS, ResponseStore, complete, digest


def answers(*keys):
    rows = [(f"text of {key}", "stop", 3, 2, 0.1) for key in keys]
    return pd.DataFrame(rows, columns=ANSWER_COLUMNS, index=pd.Index(keys, name="key"))


def test_what_was_added_is_there_for_the_next_reader(tmp_path):
    ResponseStore("m", tmp_path).add(answers("a", "b"))
    store = ResponseStore("m", tmp_path)
    assert store.get(pd.Index(["b", "c"]))["text"].to_dict() == {"b": "text of b"}
    assert len(ResponseStore("another model", tmp_path)) == 0


def test_compaction_leaves_one_shard_and_every_answer(tmp_path):
    store = ResponseStore("m", tmp_path)
    for key in "abc":
        store.add(answers(key))
    store.compact()
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    pd.testing.assert_frame_equal(ResponseStore("m", tmp_path).get(pd.Index(list("abc"))), answers(*"abc"))


def test_two_writers_at_once_lose_nothing_and_a_repeated_key_is_read_once(tmp_path):
    first, second = ResponseStore("m", tmp_path), ResponseStore("m", tmp_path)
    first.add(answers("a", "b"))
    second.add(answers("b", "c"))
    first.compact()
    second.compact()
    assert sorted(ResponseStore("m", tmp_path).get(pd.Index(["a", "b", "c"])).index) == ["a", "b", "c"]


def test_a_killed_writer_leaves_only_whole_shards(tmp_path):
    code = (
        "import pandas as pd, itertools\n"
        "from personagap.responses import ANSWER_COLUMNS, ResponseStore\n"
        f"store = ResponseStore('m', {str(tmp_path)!r})\n"
        "for i in itertools.count():\n"
        "    rows = [('x' * 200, 'stop', 1, 1, 0.0)] * 500\n"
        "    store.add(pd.DataFrame(rows, columns=ANSWER_COLUMNS, index=[f'{i}-{j}' for j in range(500)]))\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code])
    wait_for(lambda: len(list(tmp_path.rglob("*.parquet"))) >= 5, 60)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    store = ResponseStore("m", tmp_path)
    assert len(store) >= 2500 and len(store) % 500 == 0


def test_only_what_is_missing_is_made_in_the_batches_of_an_undisturbed_run(tmp_path):
    keys, made = list("abacdef"), []

    def make(rows):
        made.append([keys[row] for row in rows])
        texts = {"c": (None, "error")}
        return [Generation(*texts.get(key, (f"text of {key}", "stop")), 3, 2, 0.1) for key in made[-1]]

    ResponseStore("m", tmp_path).add(answers("b"))
    table = complete(ResponseStore("m", tmp_path), keys, make, title="m", batch=2)
    assert made == [["a"], ["c", "d"], ["e", "f"]] and table.attrs["asked"] == 5
    assert sorted(table.index) == list("abcdef") and table.index[table["text"].isna()].tolist() == ["c"]
    assert len(list(tmp_path.rglob("*.parquet"))) == 2  # one of each run
    made.clear()
    again = complete(ResponseStore("m", tmp_path), keys, make, title="m", batch=2)
    assert made == [["c"]] and again.attrs["asked"] == 1  # a failure is made again
    pd.testing.assert_frame_equal(complete(None, ["a", "b"], make, title="m"), answers("a", "b"), check_names=False)


def test_an_unreadable_shard_is_named(tmp_path):
    store = ResponseStore("m", tmp_path)
    store.add(answers("a"))
    (store.folder / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match=r"broken\.parquet: unreadable shard .* delete it"):
        ResponseStore("m", tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system: run as root")
def test_a_full_disk_is_one_clear_line_and_keeps_what_is_stored(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], capture_output=True)
    if mount.returncode:
        pytest.skip("mounts a small file system, which this container forbids: allow mounts (CAP_SYS_ADMIN)")
    try:
        store = ResponseStore("m", small)
        store.add(answers("kept"))
        noise = answers(*(digest(number) for number in range(20_000)))
        noise["text"] = [digest(number, "text") for number in range(20_000)]
        with pytest.raises(UserError, match="the disk is full"):
            store.add(noise)
        assert list(ResponseStore("m", small).get(pd.Index(["kept"])).index) == ["kept"]
        assert not list(small.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", small], check=True)


def test_digest_depends_on_every_part():
    assert digest("a", 1) == digest("a", 1)
    assert len({digest("a", 1), digest("a", 2), digest("b", 1), digest("a1")}) == 4
