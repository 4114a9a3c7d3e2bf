"""`python -m benchmarks [--scale small|full] [names…] [--json FILE]`: one JSON document on standard output.

Lives here: the command line and the document around the results. Must not live here: what is measured (`suite.py`).
Exit codes: 0 all targets met, 1 a benchmark failed, 2 wrong use, 3 a target was missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.suite import BENCHMARKS, LARGE, Bench
from core import telemetry
from orchestration.publish import git_commit


def main() -> int:
    arguments = _arguments()
    telemetry.switch_off()
    names = arguments.names or [name for name in BENCHMARKS if arguments.scale == "full" or name not in LARGE]
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        _say(f"there is no benchmark called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
        return 2
    results: dict[str, Any] = {}
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "machine": measure.machine(),
        "results": results,
    }
    with tempfile.TemporaryDirectory(
        prefix="tenure-bench-", dir=arguments.folder, ignore_cleanup_errors=True
    ) as folder:
        bench = Bench(Path(folder), say=_say, accounts=arguments.accounts, months=arguments.months)
        for name in names:
            _say(f"— {name}")
            try:
                results[name] = BENCHMARKS[name](bench)
            except measure.Failed as failure:
                _say(str(failure))
                results[name] = {"failed": str(failure)}
    text = json.dumps(document, indent=2, default=str)
    sys.stdout.write(text + "\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    if any("failed" in result for result in results.values()):
        return 1
    return 0 if all(target["met"] for result in results.values() for target in result["targets"]) else 3


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Tenure; print JSON.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)} (default: by scale)")
    parser.add_argument(
        "--scale",
        choices=("small", "full"),
        default="small",
        help="full: also those of 100 million events (default: small)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the document to FILE as well")
    parser.add_argument("--folder", type=Path, help="where the temporary folder goes (default: the system's)")
    parser.add_argument("--accounts", type=int, default=20_000, help="accounts of the company (default: 20000)")
    parser.add_argument("--months", type=int, default=12, help="months of the company's history (default: 12)")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
