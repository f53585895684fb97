"""The response store survives kills, full disks and concurrent writers, and repeats no request."""

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from notebook_helpers import wait_for
from servers import counting_server

from personagap import store as on_disk
from personagap.cli import main
from personagap.errors import UserError
from personagap.hashing import digest
from personagap.models import Generation
from personagap.responses import ANSWER_COLUMNS, TEXT_TYPES, ResponseStore, complete
from personagap.store import folder as store_folder


def answers(*keys):
    rows = [(f"text of {key}", "stop", 3, 2, 0.1, "", "answered") for key in keys]
    return pd.DataFrame(rows, columns=ANSWER_COLUMNS, index=pd.Index(keys, name="key"))


def add(store, answers):
    plain = answers[ANSWER_COLUMNS].astype(object)
    store.keep(list(plain.where(plain.notna(), None).itertuples(name=None)))


def shard(folder: Path, *keys: str) -> Path:
    """Answers in the format of earlier versions."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{digest(keys)}.parquet"
    answers(*keys).to_parquet(path)
    return path


def simply(rows, keep):
    for i, row in enumerate(rows):
        keep(i, Generation(f"text {row}", "stop", 3, 2, 0.1))


def test_added_answers_are_visible_to_the_next_reader(tmp_path):
    add(ResponseStore("m", tmp_path), answers("a", "b"))
    store = ResponseStore("m", tmp_path)
    assert store.get(pd.Index(["b", "c"]))["text"].to_dict() == {"b": "text of b"}
    assert len(ResponseStore("another model", tmp_path)) == 0


def test_concurrent_writers_lose_nothing_and_keep_the_first_answer(tmp_path):
    first, second = ResponseStore("m", tmp_path), ResponseStore("m", tmp_path)
    add(first, answers("a", "b"))
    add(second, answers("b", "c").assign(text="another"))
    found = first.get(pd.Index(["a", "b", "c"]))["text"].to_dict()
    assert found == {"a": "text of a", "b": "text of b", "c": "another"}


def test_missing_counts_and_unusual_texts_round_trip(tmp_path):
    odd = pd.DataFrame(
        [
            ("", "stop", None, None, 0.0, "", "empty"),
            ("a\0b\n’😀", "length", None, 1, 0.5, "hm", "truncated"),
        ],
        columns=ANSWER_COLUMNS,
    )
    odd = odd.set_axis(["a", "b"]).rename_axis("key").astype(TEXT_TYPES)
    add(ResponseStore("m", tmp_path), odd)
    pd.testing.assert_frame_equal(
        ResponseStore("m", tmp_path).get(["a", "b"]), odd, check_dtype=False
    )


def test_only_missing_answers_are_generated_in_the_same_batches(tmp_path):
    keys, made = list("abacdef"), []

    def make(rows, keep):
        made.append([keys[row] for row in rows])
        texts = {"c": (None, "error")}
        for i, key in enumerate(made[-1]):
            keep(
                i,
                Generation(*texts.get(key, (f"text of {key}", "stop")), 3, 2, 0.1, "", "answered"),
            )

    add(ResponseStore("m", tmp_path), answers("b"))
    table = complete(ResponseStore("m", tmp_path), keys, make, title="m", batch=2)
    assert made == [["a"], ["c", "d"], ["e", "f"]] and table.attrs["asked"] == 5
    assert sorted(table.index) == list("abcdef")
    assert table.index[table["text"].isna()].tolist() == ["c"]
    made.clear()
    again = complete(ResponseStore("m", tmp_path), keys, make, title="m", batch=2)
    assert made == [["c"]] and again.attrs["asked"] == 1  # a failure is retried


def test_answer_is_stored_before_its_batch_ends(tmp_path):
    seen = []

    def make(rows, keep):
        for i in range(len(rows)):
            keep(i, Generation("text", "stop", 3, 2, 0.1))
            seen.append(len(ResponseStore("m", tmp_path)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        complete(ResponseStore("m", tmp_path), list("abc"), make, title="m")
    assert seen == [1, 2, 3]
    assert (
        complete(ResponseStore("m", tmp_path), list("abcd"), simply, title="m").attrs["asked"] == 1
    )


def test_pending_request_of_another_process_is_awaited_and_repeated_if_it_fails(tmp_path):
    keys, started, go_on = list("abcd"), threading.Event(), threading.Event()
    asked, other = [], []

    def slowly(rows, keep):
        asked.extend(keys[row] for row in rows)
        started.set()
        go_on.wait(60)
        for i, row in enumerate(rows):
            keep(i, Generation("first", "error" if keys[row] == "c" else "stop", 3, 2, 0.1))

    def here(rows, keep):
        other.extend(keys[row] for row in rows)
        go_on.set()
        for i, _ in enumerate(rows):
            keep(i, Generation("second", "stop", 3, 2, 0.1))

    first = threading.Thread(
        target=complete, args=(ResponseStore("m", tmp_path), keys[:3], slowly), kwargs={"title": ""}
    )
    first.start()
    assert started.wait(60)
    table = complete(ResponseStore("m", tmp_path), keys, here, title="m", batch=2)
    first.join()
    assert asked == list("abc") and other == list("dc") and table.attrs["asked"] == 2
    assert table["text"].to_dict() == {"a": "first", "b": "first", "c": "second", "d": "second"}


ASKING = """
import sys
from personagap import ask, models
prompts = [f"question {n}" for n in range(400)]
sys.stdout.write(str(len(ask.texts(models.load_model(sys.argv[1]), prompts, 0.0, 0))))
"""


def asking(url: str, cache: Path) -> subprocess.Popen:
    environment = os.environ | {"PERSONAGAP_CACHE": str(cache)}
    command = [sys.executable, "-c", ASKING, f"openai:m@{url}"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def test_kill_loses_at_most_the_requests_in_flight(tmp_path):
    kills = 6
    with counting_server("question", seconds=0.05) as (url, asked):
        for number in range(kills):
            process = asking(url, tmp_path)
            before = len(asked)
            wait_for(lambda: len(asked) >= before + 50, 120)  # noqa: B023
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
            assert len(asked) > before, number
        last = asking(url, tmp_path)
        assert last.communicate(timeout=120)[0] == b"400"
    assert len(set(asked)) == 400
    assert 400 <= len(asked) <= 400 + 32 * kills


def test_processes_with_shared_requests_repeat_none_even_after_a_kill(tmp_path):
    with counting_server("question", seconds=0.05) as (url, asked):
        several = [asking(url, tmp_path) for _ in range(3)]
        wait_for(lambda: len(asked) >= 100, 120)
        several[0].kill()
        assert several[0].wait() == -signal.SIGKILL
        assert [process.communicate(timeout=120)[0] for process in several][1:] == [b"400", b"400"]
    assert len(set(asked)) == 400
    assert 400 <= len(asked) <= 432


def test_shards_of_earlier_versions_are_read_once_and_unreadable_ones_named(tmp_path):
    folder = ResponseStore("m", tmp_path).folder
    old = shard(folder, "a", "b")
    assert sorted(ResponseStore("m", tmp_path).get(["a", "b", "c"]).index) == ["a", "b"]
    old.write_bytes(b"x" * 10)  # already imported: not read again
    assert len(ResponseStore("m", tmp_path)) == 2
    (folder / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match=r"broken\.parquet: unreadable shard .* delete it"):
        ResponseStore("m", tmp_path)


def test_without_locks_each_writer_has_a_file_that_all_read_and_merge(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "is_shared", lambda folder: True)
    first, second = ResponseStore("m", tmp_path), ResponseStore("m", tmp_path)
    add(first, answers("a"))
    add(second, answers("b"))
    first.keep([("b", "too late", "stop", 3, 2, 0.1, "", "answered")])
    (mine,) = (path for path in first.folder.glob("*.jsonl") if '"a"' in path.read_text())
    with mine.open("a") as file:
        file.write('["torn", "te')  # a write killed in the middle of a line
    assert sorted(ResponseStore("m", tmp_path).get(["a", "b", "torn"]).index) == ["a", "b"]
    ResponseStore("m", tmp_path).merge()
    third = ResponseStore("m", tmp_path)
    add(third, answers("c"))
    assert len(ResponseStore("m", tmp_path)) == 3
    ResponseStore("m", tmp_path).merge()
    assert sorted(ResponseStore("m", tmp_path).get(list("abc")).index) == list("abc")
    monkeypatch.undo()
    assert len(ResponseStore("m", tmp_path)) == 3  # moved to a disk with locks


def test_file_system_without_locks_is_detected(tmp_path, monkeypatch):
    assert not on_disk.is_shared(tmp_path)
    monkeypatch.setattr(
        store_folder.fcntl,
        "flock",
        lambda *_: (_ for _ in ()).throw(OSError(37, "No locks available")),
    )
    assert on_disk.is_shared(tmp_path)


@pytest.mark.parametrize(
    "fault", ["file", "dangling link", "file for the cache", "damaged", "file for a model"]
)
def test_unwritable_store_is_reported_in_one_line(tmp_path, fault):
    root = tmp_path / "cache" / "responses"
    root.mkdir(parents=True)
    if fault == "damaged":
        folder = ResponseStore("m", root).folder
        (folder / store_folder.DATABASE).write_bytes(b"no database" * 1000)
    elif fault == "file for a model":
        folder = ResponseStore("m", root).folder
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.write_text("")
    else:
        root.rmdir()
        if fault == "file":
            root.write_text("")
        elif fault == "dangling link":
            root.symlink_to(tmp_path / "nowhere")
        else:
            root.parent.rmdir()
            root.parent.write_text("")
    with pytest.raises(
        UserError,
        match=r"cache.*: (damaged .*delete|no answers can be kept there .*PERSONAGAP_CACHE)",
    ) as error:
        on_disk.check(root)
        ResponseStore("m", root)
    assert "\n" not in str(error.value)


def test_full_disk_is_a_one_line_error_and_keeps_stored_answers(small_disk):
    store = ResponseStore("m", small_disk)
    add(store, answers("kept"))
    noise = answers(*(digest(number) for number in range(20_000)))
    with pytest.raises(UserError, match=r"full disk|disk is full"):
        add(store, noise)
    assert list(store.get(pd.Index(["kept"])).index) == ["kept"]
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        for _ in itertools.repeat(None):
            file.write(bytes(4096))
    with pytest.raises(UserError, match="the disk is full"):
        on_disk.check(small_disk)
    filler.unlink()
    assert list(ResponseStore("m", small_disk).get(pd.Index(["kept"])).index) == ["kept"]


def test_invalid_utf8_in_the_database_is_damage(tmp_path):
    store = ResponseStore("m", tmp_path)
    add(store, answers("a"))
    file = store.folder / store_folder.DATABASE
    store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.write_bytes(file.read_bytes().replace(b"text of a", b"text \xff\xff a"))
    with pytest.raises(UserError, match=r"damaged .*: delete answers.sqlite"):
        ResponseStore("m", tmp_path).get(pd.Index(["a"]))


def test_store_follows_a_group_writable_umask(tmp_path):
    mask = os.umask(0o002)
    store = ResponseStore("m", tmp_path)
    with store.asking():
        add(store, answers("a"))
        modes = {path.name: path.stat().st_mode & 0o060 for path in store.folder.iterdir()}
    os.umask(mask)
    assert {f"{store_folder.DATABASE}{end}" for end in ("", "-wal", "-shm")} < modes.keys()
    assert len(modes) == 5 and set(modes.values()) == {0o060}, modes


def test_read_only_cache_is_an_error_before_any_request(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(UserError, match=r"no answers can be kept there \(Read-only file system\)"):
        on_disk.check(small_disk / "responses")


def test_answers_can_be_moved_between_caches(tmp_path, monkeypatch):
    def personagap(*arguments, cache, **options):
        monkeypatch.setattr("personagap.cli.RESPONSES", tmp_path / cache)
        return CliRunner().invoke(main, ["store", *map(str, arguments)], **options)

    add(ResponseStore("m", tmp_path / "one"), answers("a", "b"))
    add(ResponseStore("n", tmp_path / "one"), answers("a"))
    shard(tmp_path / "two" / ResponseStore("m", tmp_path / "one").folder.name, "b", "c")
    assert re.findall(r"^ +(\d+) .* (m|n)-", personagap("size", cache="one").stdout, re.M) == [
        ("2", "m"),
        ("1", "n"),
    ]
    exported = tmp_path / "exported.jsonl"
    assert personagap("export", exported, cache="one").stderr == "3 answers\n"
    assert personagap("import", exported, cache="three").output == "3 new answers\n"
    assert (
        personagap("import", "-", cache="three", input=exported.read_text()).output
        == "0 new answers\n"
    )
    assert personagap("merge", tmp_path / "two", cache="three").output == "1 new answers\n"
    assert sorted(ResponseStore("m", tmp_path / "three").get(list("abc")).index) == list("abc")
    for line in (
        "x",
        '{"store": "../x"}',
        "[" * 9999,
        "9" * 5000,
        exported.read_text()[:60],
        '"\\ud800"',
        "\0",
    ):
        result = personagap("import", "-", cache="three", input=line)
        assert result.exit_code == 2 and re.fullmatch(
            r"personagap: line 1 is not of .*\n", result.stderr
        ), result.output
    assert personagap("size", cache="none").exit_code == 2


def test_digest_depends_on_every_part():
    assert digest("a", 1) == digest("a", 1)
    assert len({digest("a", 1), digest("a", 2), digest("b", 1), digest("a1")}) == 4
