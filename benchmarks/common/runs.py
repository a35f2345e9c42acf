"""A results file that grows run by run: what is there is not run again, so a benchmark can be stopped and resumed."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Row", "Runs"]

Row = dict[str, Any]


class Runs:
    """The results file: read, added to under a lock, replaced at once.

    Args:
        output: the JSON file. work: folder of checkpoints and of the lock.
        budget: factor on all training steps; a file holds runs of one budget.
    """

    def __init__(self, output: Path, work: Path, budget: float = 1.0) -> None:
        self.output, self.work, self.budget = output, work, budget
        work.mkdir(parents=True, exist_ok=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        self.lock = work / "results.lock"
        if self.read().get("budget", budget) != budget:
            raise SystemExit(f"{output} holds runs of another budget: give another --output")

    def read(self) -> Row:
        """All that is known."""
        return json.loads(self.output.read_text()) if self.output.exists() else {}

    def run(self, key: str, function: Callable[[], Row]) -> Row:
        """The result of a run: what the file holds, or what the function finds."""
        held = self.read().get("runs", {})
        if key not in held:
            print(f"{time.strftime('%H:%M:%S')} {key}", flush=True)
            start = time.process_time()
            row = function()
            row["cpu_seconds_all"] = round(time.process_time() - start, 1)
            self.change(lambda content: content.setdefault("runs", {}).update({key: row}))
            print(f"{time.strftime('%H:%M:%S')} {key} {json.dumps(row)[:600]}", flush=True)
            return row
        return held[key]

    def change(self, edit: Callable[[Row], Any]) -> None:
        """Edit the content of the file."""
        with self.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            content = self.read() or {"budget": self.budget}
            edit(content)
            content["runs"] = dict(sorted(content.get("runs", {}).items()))
            partial = self.output.with_suffix(f".{os.getpid()}.part")
            partial.write_text(json.dumps(content, indent=1) + "\n")
            os.replace(partial, self.output)
