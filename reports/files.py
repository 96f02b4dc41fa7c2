"""Writing output files so that a reader never sees half of one.

Every file is written under a temporary name in its own folder and then renamed over the final name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from tilewright.errors import InputError
from tilewright.reports.manifest import MANIFEST, remove_stale, updated_manifest

__all__ = ["check_apart", "check_file", "check_folder", "staged_folder", "write_file"]

_STANDARD_OUTPUT = "-"
READER_S = 10.0  # for which a pipe's reader is waited
_TEMPORARY_PREFIX = ".tilewright-"


def write_file(path: str | Path, content: str | bytes) -> Path:
    """Write ``content`` (text as UTF-8, what is no character escaped) to ``path`` by way of a temporary file beside it.

    The previous file stays whole until the new one is complete. A device or pipe is written directly
    and a symbolic link is followed. Raises InputError when the place cannot be written.
    """
    target = Path(path)
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        if _is_stream(target):
            with _opened(target) as stream:
                stream.write(data)
            return target
        _replace(Path(os.path.realpath(target)), data)
    except OSError as error:
        raise _cannot_write(target, error) from error
    return target


def check_file(path: str | Path, *, what: str) -> None:
    """Refuse at once (InputError) a file that :func:`write_file` could not write later.

    ``what`` names the option that asked for it. Nothing is left behind by the check.
    """
    target = Path(path)
    if not str(path) or "\0" in str(path):
        raise InputError(f"{what}: the name of the file is empty or has a null character in it")
    if str(path) == _STANDARD_OUTPUT:
        raise InputError(f"{what}: cannot go to standard output; given -; allowed the name of a file")
    if target.is_dir():
        raise InputError(f"{what}: {target} is a folder; give the name of a file")
    if not _is_stream(target):
        _check_writable(Path(os.path.realpath(target)).parent, f"{what}: cannot write {target}")


def check_apart(path: str | Path, inputs: Iterable[str | Path | None], *, what: str) -> None:
    """Refuse at once (InputError) an output that would replace one of the files that are read.

    ``inputs``: names as they were given; a file with options behind a colon (``model.onnx:batch=1``) counts, too.
    """
    target = os.path.realpath(path)
    for name in (str(name) for name in inputs if name):
        for read in (name, name.partition(":")[0]):
            if os.path.isfile(read) and os.path.realpath(read) == target:
                raise InputError(f"{what}: {path} is read by this command; allowed another file")


def check_folder(path: str | Path, *, what: str) -> None:
    """Refuse at once (InputError) a folder that :func:`staged_folder` could not fill later."""
    folder = Path(path)
    if not str(path) or "\0" in str(path):
        raise InputError(f"{what}: the name of the folder is empty or has a null character in it")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{what}: {folder} is a file; give the name of a folder")
    real = Path(os.path.realpath(folder))
    _check_writable(real if real.is_dir() else real.parent, f"{what}: cannot write {folder}")


@contextlib.contextmanager
def staged_folder(path: str | Path, *, kind: str = "page") -> Iterator[Path]:
    """A temporary folder whose files appear in ``path`` only when the block ends without an error.

    A new folder is renamed into place in one step; in one that exists, each file is replaced in one step, files that an
    earlier report of the same ``kind`` left there go (see :mod:`tilewright.reports.manifest`), and others are left
    alone. Raises InputError when the place cannot be written.
    """
    folder = Path(os.path.realpath(path))
    try:
        stage = Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX, dir=folder if folder.is_dir() else folder.parent))
        stage.chmod(0o777 & ~_umask())
    except OSError as error:
        raise _cannot_write(Path(path), error) from error
    try:
        yield stage
        try:
            _publish(stage, folder, kind)
        except OSError as error:
            raise _cannot_write(Path(path), error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _publish(stage: Path, folder: Path, kind: str) -> None:
    manifest, stale = updated_manifest(folder, stage, kind)
    write_file(stage / MANIFEST, manifest)
    if not folder.exists():
        stage.rename(folder)
        return
    for source in sorted(p for p in stage.rglob("*") if p.is_file()):
        target = folder / source.relative_to(stage)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    remove_stale(folder, stale)


def _replace(target: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=_TEMPORARY_PREFIX, suffix=".part", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _check_writable(folder: Path, refusal: str) -> None:
    """Make and remove an empty file in ``folder``: asking for permissions is not the same as having them."""
    if not folder.exists():
        raise InputError(f"{refusal}, because the folder {folder} does not exist")
    if not folder.is_dir():
        raise InputError(f"{refusal}, because {folder} is not a folder")
    try:
        handle, name = tempfile.mkstemp(prefix=_TEMPORARY_PREFIX, suffix=".part", dir=folder)
    except OSError as error:
        raise InputError(f"{refusal}: {(error.strerror or str(error)).lower()}") from error
    os.close(handle)
    Path(name).unlink(missing_ok=True)


def _is_stream(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _opened(target: Path) -> BinaryIO:
    """A device or pipe to write to. A named pipe is waited for, not for ever: OSError where nobody reads it."""
    if not target.is_fifo():
        return target.open("wb")
    end = time.monotonic() + READER_S
    while True:
        try:
            handle = os.open(target, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > end:
                raise OSError(errno.ENXIO, f"nobody reads this pipe (waited {READER_S:g} s)") from None
            time.sleep(0.05)
        else:
            os.set_blocking(handle, True)
            return os.fdopen(handle, "wb")


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {path}: {(error.strerror or str(error)).lower()}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
