"""``python -m spawner.tls``: checks the certificate and prints the configuration of the TLS service.

``scripts/up`` runs it before it changes a running workbench.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from spawner.model import SettingsError
from spawner.settings import Settings
from spawner.tls.caddyfile import CERTIFICATE, KEY, build_caddyfile, hosts
from spawner.tls.certificate import WARNING_DAYS, check_certificate


def main() -> None:
    """Print the configuration; end with one sentence and code 2 where the certificate cannot be used."""
    try:
        settings = Settings.from_environ(os.environ)
        if settings.tls == "files":
            pair = [Path(file).read_bytes() for file in (CERTIFICATE, KEY)]
            days = check_certificate(pair[0], pair[1], hosts(settings), datetime.now(UTC))
            if days < WARNING_DAYS:
                sys.stderr.write(
                    f"The certificate of WORKBENCH_TLS_CERTIFICATE ends in {days} days.\n"
                )
    except SettingsError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    sys.stdout.write(build_caddyfile(settings))


if __name__ == "__main__":
    main()
