"""Draw docs/demo.svg from a real run of the demo: ``python -m tests.support.demo_picture``."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parents[2] / "docs" / "demo.svg"
COLUMNS = 92
PROGRESS_LINES = 9


def main() -> None:
    """Run the demo without a terminal and draw what it prints, with some of its progress lines."""
    ran = subprocess.run([sys.executable, "-m", "swarm", "demo"], capture_output=True, text=True, check=True)
    progress = [line for line in ran.stderr.splitlines() if "%" in line]
    step = max(1, len(progress) // PROGRESS_LINES)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text("$ make demo", style="bold green"))
    for line in progress[::step]:
        console.print(Text(line, style="dim"))
    for line in ran.stdout.splitlines():
        console.print(Text(line, style="bold" if line.startswith(("from", "every")) else ""))
    drawn = console.export_svg(title="swarm demo: one seeder, four leechers that know only the seeder")
    # The fonts would be fetched from elsewhere; any monospaced one will do.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
