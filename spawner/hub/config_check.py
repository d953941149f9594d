"""Config check: prepares a hub from the settings and the site files as the hub itself does, and starts nothing.

The hub database and the ledger are empty ones in a temporary folder, so a running hub notices nothing. Run as
``python -m spawner.hub.config_check``: JupyterHub's own changes to the process end with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from traitlets.config import Config

from spawner.hub.configure import CLIENT_SECRET, build_workbench, configure, configure_site
from spawner.hub.servers.extras import evaluate_extras
from spawner.hub.site import list_site_files
from spawner.hub.workbench import Workbench
from spawner.ledger import Ledger
from spawner.model import ExtrasError, SettingsError, Unknown
from spawner.policy.bounds import explain_excess
from spawner.policy.extras import parse_extras
from spawner.settings import Settings

_FOLDER = Path("/etc/workbench")
_MAX_VALUE_CHARACTERS = 80
_SECRET = re.compile(r"secret|token|password|key|credential", re.IGNORECASE)


async def prepare_hub(
    environ: Mapping[str, str], folder: Path, config: Path, scratch: Path
) -> tuple[JupyterHub, dict[str, Any]]:
    """Return a hub that is ready to start, and the traits that the site files of ``config`` set.

    ``folder`` holds the catalog and the docs. Raises SettingsError, Unknown.
    """
    settings = replace(
        Settings.from_environ(environ), ledger_url=f"sqlite:///{scratch}/ledger.sqlite"
    )
    Ledger.open(settings.ledger_url, first_uid=settings.first_uid).close()
    workbench = build_workbench(settings, folder / "catalog.toml")
    c = Config()
    configure(c, settings, workbench, folder / "docs")
    changed = configure_site(c, settings, workbench, config)
    c.JupyterHub.db_url = f"sqlite:///{scratch}/jupyterhub.sqlite"
    c.JupyterHub.cookie_secret_file = str(scratch / "cookie_secret")
    empty = scratch / "empty.py"
    empty.touch()
    c.JupyterHub.config_file = str(empty)
    try:
        hub = JupyterHub(config=c)
        await hub.initialize([])
        await _check_server(hub, workbench)
    except SettingsError:
        raise
    except (Exception, SystemExit) as error:  # any part of the hub may refuse its configuration
        raise SettingsError(
            f"The hub cannot start with the site files: {_explain(error)}"
        ) from error
    finally:
        for task in workbench.background_tasks:
            task.cancel()
    return hub, changed


async def _check_server(hub: JupyterHub, workbench: Workbench) -> None:
    """Build the spawner of a user, so that its traits are validated, and compare those without a function."""
    user = orm.User(name="config-check")
    hub.db.add(user)
    hub.db.commit()
    spawner = hub.users[user].spawners[""]
    spawner.image = next(iter(workbench.offered.releases.values())).image
    try:
        extras = parse_extras(await evaluate_extras(spawner, only_static=True))
    except ExtrasError as error:
        raise SettingsError(f"The site files ask for a server that cannot be: {error}.") from error
    excess = explain_excess(extras, workbench.bounds, workbench.settings.limits)
    if excess is not None:
        raise SettingsError(f"The site files ask for more than bounds.toml allows: {excess}.")
    allowed = spawner.allowed_images
    unknown = set() if callable(allowed) or allowed == "*" else {*(allowed or {}).values()}
    unknown -= {*workbench.offered.releases}
    if unknown:
        raise SettingsError(
            f"c.DockerSpawner.allowed_images names {', '.join(sorted(unknown))}: the releases are "
            f"{', '.join(workbench.offered.releases)}."
        )


def describe(hub: JupyterHub, files: list[str], changed: Mapping[str, Any]) -> str:
    """Return what the hub comes to: the files, the authenticator, and the traits that the files set."""
    lines = [f"Files: {', '.join(files) or 'none'}."]
    authenticator = hub.authenticator
    lines.append(f"Authenticator: {type(authenticator).__name__}.")
    if not authenticator.allow_all and not authenticator.any_allow_config:
        lines.append("Only these admins may log in: the files allow no other user.")
    lines.append(f"Admins: {', '.join(sorted(authenticator.admin_users)) or 'none'}.")
    lines += [f"{name} = {_show(name, value)}" for name, value in sorted(changed.items())]
    return "\n".join(lines)


def _show(name: str, value: object) -> str:
    if _SECRET.search(name.rpartition(".")[2]):
        return "(set, not shown)"
    text = repr(value)
    # a service or a header may carry a token
    if _SECRET.search(text):
        return "(set, not shown)"
    return text if len(text) <= _MAX_VALUE_CHARACTERS else f"{text[:_MAX_VALUE_CHARACTERS]}…"


def _explain(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".") or "no message"
    return f"{type(error).__name__}: {text}."


def main(folder: Path = _FOLDER) -> int:
    """Check the site files of the hub's own folder; return 0, or 1 after one sentence on stderr."""
    # a hub that starts nothing only asks whether they are there
    for name in ("JUPYTERHUB_CRYPT_KEY", "CONFIGPROXY_AUTH_TOKEN", CLIENT_SECRET):
        os.environ.setdefault(name, secrets.token_hex(32))
    logging.disable()  # every error is an exception here
    config = folder / "config"
    files = [str(file.relative_to(config)) for file in list_site_files(config)]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            hub, changed = asyncio.run(prepare_hub(os.environ, folder, config, Path(scratch)))
        except (SettingsError, Unknown) as error:
            sys.stderr.write(f"{error}\n")
            return 1
        sys.stdout.write(describe(hub, files, changed) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
