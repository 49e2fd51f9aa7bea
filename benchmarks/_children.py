"""Measurements in fresh processes, where nothing is cached yet.

A child is one of the files here, run as a script; it prints its result as one line of JSON.

Imports: standard library only.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def child(script: str | Path, *arguments: object) -> Any:
    """What ``python script arguments...`` prints last, read as JSON.

    Raises:
        subprocess.CalledProcessError: If it fails; its complaint is on stderr.
    """
    command = [sys.executable, str(Path(script).resolve()), *map(str, arguments)]
    # A compilation cache on disk would make the second process's cold start a warm one.
    settings = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(command, env=settings, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])
