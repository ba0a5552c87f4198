"""Files that are complete or absent, and locks that one process holds."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepdft import locks
from deepdft.files import atomic_write, exclusive_lock, read_json, write_json, write_text
from tests.cli.processes import running

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "ε")
    assert (tmp_path / "a.txt").read_bytes() == "ε".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_write_that_fails_leaves_the_file_before(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "before")

    def write_half() -> None:
        with atomic_write(file) as beside:
            beside.write_text("after")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_one_line_with_the_name(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from deepdft.files import write_text\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_text('a.txt', 'x' * 2000)\n"
        "except OSError as error: print(error)"
    )
    (tmp_path / "a.txt").write_text("before")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "a.txt: not written, file too large; what was there before is unchanged\n", done.stderr
    assert (tmp_path / "a.txt").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path: Path) -> None:
    code = (
        "import os, signal; from deepdft.files import atomic_write\n"
        "with atomic_write('a.txt') as beside:\n    beside.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with atomic_write(tmp_path / "a.txt") as mine:
        mine.write_text("mine")
        write_text(tmp_path / "a.txt", "of another thread")  # does not take the first for abandoned
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "mine"


def test_a_symbolic_link_stays_one_and_permissions_stay(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk/a.txt")
    write_text(tmp_path / "link", "one")
    (tmp_path / "disk/a.txt").chmod(0o640)
    write_text(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk/a.txt").read_text() == "two"
    assert (tmp_path / "disk/a.txt").stat().st_mode & 0o777 == 0o640


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(ValueError, match="expected the name of a file"):
            write_text(tmp_path / name, "text")
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "nowhere" / "a.txt", "text")


def test_a_name_may_be_as_long_as_names_are(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 255), "text")
    assert [path.name for path in tmp_path.iterdir()] == ["x" * 255]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1', "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[]", "expected an object, got a list"),
        (b"null", "expected an object, got null"),
        (b"{}", "no entry 'a'"),
        (b'{"a": "1"}', "entry 'a' is text, expected a whole number"),
        (b'{"a": true}', "entry 'a' is true or false, expected a whole number"),
        (b'{"a": [1]}', "entry 'a' is a list, expected a whole number"),
    ],
)
def test_damaged_json_is_named_in_one_line(tmp_path: Path, text: bytes, message: str) -> None:
    file = tmp_path / "index.json"
    file.write_bytes(text)
    with pytest.raises(ValueError, match=re.escape(str(file)) + ": damaged") as error:
        read_json(file, keys={"a": int})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1, "b": [None, "ρ"]})
    assert read_json(tmp_path / "a.json", keys={"a": (int, float), "b": list}) == {"a": 1, "b": [None, "ρ"]}
    write_json(tmp_path / "a.json", [1])
    assert read_json(tmp_path / "a.json", kind=list) == [1]


HOLD = (
    "import sys, time; from deepdft.files import exclusive_lock\n"
    "with exclusive_lock(sys.argv[1], 'training'):\n    print('held', flush=True); time.sleep(300)"
)


def holding(path: Path):
    """Another process that holds the lock of a path."""
    return running([sys.executable, "-c", HOLD, str(path)], ROOT, ENVIRONMENT)


def wait_until_held(process: subprocess.Popen) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n", process.communicate()


def test_a_second_process_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        wait_until_held(process)
        with pytest.raises(ValueError, match="training is under way there") as error, exclusive_lock(tmp_path, "x"):
            pass
        assert f"process {process.pid} on {os.uname().nodename}, since 20" in str(error.value)
        with exclusive_lock(tmp_path / "a.cube", "prediction"):
            pass  # another file in the same folder
        process.send_signal(signal.SIGINT)
        process.wait()
    assert list(tmp_path.iterdir()) == [], "a lock that ends leaves nothing"


@pytest.mark.parametrize("name", ["", "x.cube"], ids=["folder", "file"])
def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path, name: str) -> None:
    with holding(tmp_path / name) as process:
        wait_until_held(process)
        process.kill()
        process.wait()
    assert list(tmp_path.iterdir()) != []
    with exclusive_lock(tmp_path / name, "training") as lock:
        assert lock.is_held
    assert list(tmp_path.iterdir()) == []


def lock_file(folder: Path, **changes: object) -> Path:
    """The lock of a process that is gone or elsewhere: that of this one with some facts changed."""
    with exclusive_lock(folder, "training") as lock:
        content = json.loads(lock.file.read_text())
    lock.file.write_text(json.dumps(content | changes))
    return lock.file


def is_free(folder: Path) -> bool:
    try:
        with exclusive_lock(folder, "training"):
            return True
    except ValueError:
        return False


def test_another_process_with_the_same_id_does_not_hold_the_lock(tmp_path: Path) -> None:
    lock_file(tmp_path, started="1")
    assert is_free(tmp_path)


def test_the_lock_of_a_machine_that_was_restarted_is_free(tmp_path: Path) -> None:
    lock_file(tmp_path, boot="another")
    assert is_free(tmp_path)


@pytest.mark.parametrize("elsewhere", [{"host": "node7"}, {"namespace": "pid:[1]"}])
def test_the_lock_of_another_machine_is_free_without_signs_of_life(tmp_path: Path, elsewhere: dict) -> None:
    file = lock_file(tmp_path, **elsewhere)
    with pytest.raises(ValueError, match=f"if that process is gone, remove {file}"), exclusive_lock(tmp_path, "x"):
        pass
    long_ago = time.time() - locks.STALE_SECONDS - 1.0
    os.utime(file, (long_ago, long_ago))
    assert is_free(tmp_path)


def test_a_holder_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.01)
    with exclusive_lock(tmp_path, "training") as lock:
        os.utime(lock.file, (0.0, 0.0))
        deadline = time.monotonic() + 60.0
        while lock.file.stat().st_mtime == 0.0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_requeued_job_takes_the_lock_of_its_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    lock_file(tmp_path, host="node7")
    assert not is_free(tmp_path), "two steps of one job are two writers"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert is_free(tmp_path)


def test_a_lock_that_was_being_written_when_the_machine_stopped_is_named(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    file.write_text("")
    os.utime(file, (time.time() - 60.0,) * 2)
    with (
        pytest.raises(ValueError, match=f"locked by an unknown process; .* remove {file}"),
        exclusive_lock(tmp_path, "x"),
    ):
        pass
    os.utime(file, (0.0, 0.0))
    assert is_free(tmp_path)


def test_a_lock_that_another_has_taken_is_left_to_it(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path, "training") as lock:
        other = json.loads(lock.file.read_text()) | {"token": "other"}
        lock.file.write_text(json.dumps(other))
        assert not lock.is_held
    assert lock.file.exists()


def test_a_newer_lock_than_the_stale_one_is_put_back(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path, "training") as lock:
        stale = locks._Holder.here("training")
        locks._take_away(lock.file, stale)
        assert lock.is_held
    assert list(tmp_path.iterdir()) == []


def test_one_process_does_not_take_a_lock_twice(tmp_path: Path) -> None:
    with (
        exclusive_lock(tmp_path, "training"),
        pytest.raises(ValueError, match="training is under way there, by this process"),
        exclusive_lock(tmp_path, "training"),
    ):
        pass


def test_of_many_that_find_a_stale_lock_one_takes_it(tmp_path: Path) -> None:
    code = (
        "import sys, time; from deepdft.files import exclusive_lock\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n"
        "    with exclusive_lock('.', 'training'):\n        print('held', flush=True); sys.stdin.readline()\n"
        "except ValueError: print('refused', flush=True); sys.stdin.readline()"
    )
    options = {"cwd": tmp_path, "env": ENVIRONMENT, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code], **options) for _ in range(8)]
    assert {process.stdout.readline() for process in processes} == {"ready\n"}
    lock_file(tmp_path, started="1")
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    reported = [process.stdout.readline() for process in processes]
    for process in processes:
        process.communicate("\n")
    assert sorted(reported) == ["held\n"] + ["refused\n"] * 7


def test_locks_hold_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with exclusive_lock(tmp_path, "training"):
        assert not is_free(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["ENOLCK", "ENOSYS"])
def test_locks_hold_on_a_file_system_without_flock(tmp_path: Path, number: str) -> None:
    source = (
        "#include <errno.h>\nint flock(int fd, int op) { errno = %s; return -1; }\n"
        "int lockf(int fd, int cmd, long len) { errno = %s; return -1; }\n"
    )
    (tmp_path / "shim.c").write_text(source % (number, number))
    build = ["cc", "-shared", "-fPIC", "-o", str(tmp_path / "shim.so"), str(tmp_path / "shim.c")]
    try:
        subprocess.run(build, check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("needs a C compiler")
    (tmp_path / "run").mkdir()
    shim = ENVIRONMENT | {"LD_PRELOAD": str(tmp_path / "shim.so")}
    with running([sys.executable, "-c", HOLD, str(tmp_path / "run")], ROOT, shim) as process:
        wait_until_held(process)
        assert not is_free(tmp_path / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=r"\.lock"), exclusive_lock(tmp_path, "training"):
        pass
