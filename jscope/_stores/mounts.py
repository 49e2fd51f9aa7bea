"""Which directories are buckets that a program mounts by FUSE.

There a file is an object, and a directory what the names of objects begin with: renaming one
moves its objects one by one.
"""

import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
# What the kind of a mounted file system, or what is mounted, has in its name.
_PROGRAMS = ["blobfuse", "gcsfuse", "geesefs", "goofys", "mountpoint-s3", "ossfs", "rclone", "s3fs"]
_ESCAPE = re.compile(r"\\([0-7]{3})")


def bucket_mounter(path: Path) -> str | None:
    """The program that mounts a bucket where a path is; None if there is none that is known."""
    try:
        lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return None
    real, longest, found = os.path.realpath(path), -1, ""
    for line in lines:
        place, _, kind = line.partition(" - ")
        at = _ESCAPE.sub(lambda code: chr(int(code[1], 8)), place.split(" ")[4])
        # Of two on one directory the later one is on top.
        if f"{real}/".startswith(f"{at.rstrip('/')}/") and len(at) >= longest:
            longest, found = len(at), kind
    kind, _, source = found.partition(" ")
    # As "fuse.gcsfuse my-bucket", or "fuse mountpoint-s3".
    program = source.partition(" ")[0] if kind == "fuse" else kind.removeprefix("fuse.")
    is_fuse = kind.partition(".")[0] == "fuse"
    return next((name for name in _PROGRAMS if is_fuse and program.startswith(name)), None)
