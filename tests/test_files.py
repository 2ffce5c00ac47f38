import errno
import os
import subprocess
import sys
import time
from uuid import uuid4

import pytest

from fewlabels import files, paths
from fewlabels.errors import DiskError


def test_a_file_is_the_new_one_or_the_old_one(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    with files.whole(path) as stream:
        stream.write(b"first")
    with pytest.raises(ZeroDivisionError), files.whole(path) as stream:
        stream.write(b"sec")
        stream.flush()
        assert path.read_bytes() == b"first"
        raise ZeroDivisionError
    assert [each.name for each in path.parent.iterdir()] == ["table.csv"]
    assert path.read_bytes() == b"first"


def test_what_killed_writes_have_left_is_cleared_and_no_other(tmp_path):
    old, new = (tmp_path / f"{name}.{uuid4().hex}.tmp" for name in "ab")
    readers = tmp_path / "thesis-draft.tmp"
    for each in (old, new, readers):
        each.touch()
        if each != new:
            os.utime(each, (time.time() - 2 * files.ABANDONED,) * 2)
    files._clear.cache_clear()
    with files.whole(tmp_path / "x.json") as stream:
        stream.write(b"x")
    assert {*tmp_path.iterdir()} == {new, readers, tmp_path / "x.json"}


LIMITED = """
import resource, sys, torch
from pathlib import Path
from fewlabels import cached, files
from fewlabels.errors import DiskError
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
path = Path(sys.argv[1])
def text():
    with files.whole(path) as stream:
        stream.write(b"x" * 100_000)
for write in (text, lambda: cached.save(torch.zeros(100_000), path)):
    try:
        write()
    except DiskError as error:
        print(error)
"""


def test_a_limit_on_the_size_of_files_is_told_and_the_old_file_stays(tmp_path):
    path = tmp_path / "summary.csv"
    path.write_text("old")
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = done.stdout.splitlines()
    assert len(told) == 2
    for line in told:
        assert line.startswith(f"{path} cannot be used: file too large.") and "ulimit -f" in line
    assert [each.read_text() for each in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("number", "place", "remedy"),
    [
        (errno.ENOSPC, "x", "Free some space there, or name another place;"),
        (errno.EROFS, "x", "Make it writable for you, or name another place."),
        (errno.EROFS, paths.ROOT / "_runs" / "x.html", "or name another place with --output."),
        (
            errno.ENOSPC,
            paths.cache() / "weights" / "x",
            "name another folder in FEWLABELS_CACHE; wh",
        ),
        (errno.ENOENT, "x", "Name a file that is there."),
        (errno.EISDIR, "x", "Name a file, not a folder."),
        (errno.EDQUOT, paths.RESULTS / "x", "Free some space there, or keep your runs elsewhere"),
        (errno.EACCES, paths.RESULTS / "x", "-p store cache"),
        (errno.EROFS, paths.cache() / "x", "FEWLABELS_CACHE"),
    ],
)
def test_a_refusal_names_the_file_the_reason_and_the_remedy(number, place, remedy):
    with pytest.raises(DiskError) as told, files.refusals(place):
        raise OSError(number, os.strerror(number))
    message = str(told.value)
    assert message.startswith(f"{place} cannot be used: {os.strerror(number).lower()}.")
    assert remedy in message and "\n" not in message


def test_a_file_in_the_place_of_a_folder_and_a_folder_that_is_read_only(tmp_path, monkeypatch):
    (tmp_path / "cache").touch()
    for place in (tmp_path / "cache", tmp_path / "cache" / "deep"):
        with pytest.raises(DiskError, match=f"{place} cannot be used: (file exists|not a dir)"):
            files.folder(place)
    # Root may write to what is read-only, and may run these tests.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DiskError, match="permission denied"):
        files.folder(tmp_path)


def test_a_lock_of_another_user_is_named_with_the_variable(tmp_path, monkeypatch):
    """Two users, one cache, umask 022: the second may not open what the first has made."""
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path))
    lock, real = tmp_path / "locks" / "run.lock", os.open

    def refused(path, *how, **more):
        if str(path).endswith(".lock"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *how, **more)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(DiskError) as told, files.locked(lock):
        pass
    assert str(told.value) == (
        f"{lock} cannot be used: permission denied. Make it writable for you, or name another "
        "folder in FEWLABELS_CACHE."
    )


def test_other_errors_pass(tmp_path):
    with pytest.raises(RuntimeError, match=r"^no file$"), files.refusals(tmp_path):
        try:
            raise OSError
        except OSError:
            raise RuntimeError("no file") from None


def test_a_folder_is_replaced_whole(tmp_path, monkeypatch):
    made, target = tmp_path / "made", tmp_path / "target"
    for place, name in ((made, "new"), (target, "old")):
        place.mkdir()
        (place / name).touch()
    with monkeypatch.context() as patch:

        def stop(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(files.shutil, "copytree", stop)
        with pytest.raises(DiskError, match="Free some space"):
            files.whole_folder(made, target)
    assert [each.name for each in target.iterdir()] == ["old"]
    files.whole_folder(made, target)
    assert [each.name for each in target.iterdir()] == ["new"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["made", "target"]


def test_a_checksum_follows_the_content(tmp_path):
    path = tmp_path / "x"
    path.write_text("a")
    first = files.sha256(path)
    path.write_text("bb")
    assert files.sha256(path) != first
