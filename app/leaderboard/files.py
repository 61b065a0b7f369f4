"""Files that a command leaves behind."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give the path of a file to write; it becomes `path` where the block ends well, and is removed where it does not.

    So who finds the file finds all of it, and can ask again for what failed. Raises OSError, also where `path` is
    there: it may be the only copy.
    """
    if path.exists():
        raise FileExistsError(errno.EEXIST, "there is one already: name another file, or remove it")
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
