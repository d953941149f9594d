"""One container of the fake Docker Engine, and how the real one would describe it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NEVER = "0001-01-01T00:00:00Z"
STARTED = "2026-11-23T12:00:00.123456789Z"


@dataclass
class FakeContainer:
    """One container; ``body`` is what was posted."""

    id: str
    name: str
    body: dict[str, Any]
    is_running: bool = False
    started_at: str = NEVER
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    log: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """The Engine's word for where it is in its life."""
        if self.is_running:
            return "running"
        return "created" if self.started_at == NEVER else "exited"

    def inspect(self) -> dict[str, Any]:
        """Return the Engine's view of it."""
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "HostConfig": self.body.get("HostConfig") or {},
            "Config": {**self.body, "Labels": self.body.get("Labels"), "Tty": False},
            "State": {
                "Status": self.state,
                "Running": self.is_running,
                "ExitCode": self.exit_code,
                "OOMKilled": self.oom_killed,
                "Error": self.error,
                "StartedAt": self.started_at,
            },
        }
