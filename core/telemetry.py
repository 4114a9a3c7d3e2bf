"""Nothing phones home: the switches of every tool that would.

Lives here: the environment variables that turn telemetry off, set before any of the tools is imported. Must not live here:
anything else about those tools. Dagster has no such variable; its instance file (`orchestration/instance.py`) says no.
"""

from __future__ import annotations

import os

SWITCHES = {
    "DO_NOT_TRACK": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "DBT_VERSION_CHECK": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
}


def switch_off() -> None:
    """Turn the telemetry of dbt, Great Expectations, MLflow and dlt off, for this process and its children."""
    os.environ.update(SWITCHES)
