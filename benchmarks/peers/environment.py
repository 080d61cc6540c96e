"""The peers' own virtual environment: made when it is not there, brought up to date when their requirements change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.database import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
DIRECTORY = PROJECT / ".venv-bench"


def peers_python(tell: Callable[[str], None]) -> Path:
    """The Python that has what the peers need.

    Raises:
        CalledProcessError: when pip cannot install it; it has said why.
    """
    python = DIRECTORY / "bin" / "python"
    installed = DIRECTORY / "installed.txt"
    wanted = REQUIREMENTS.read_text()
    if not installed.exists() or installed.read_text() != wanted:
        tell(f"Installing the peers into {DIRECTORY.name} ...")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(DIRECTORY)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
        installed.write_text(wanted)
    return python
