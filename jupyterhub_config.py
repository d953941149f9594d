"""JupyterHub's configuration file: read the settings, hand them over, then the admin's site files."""

import os
import sys
from pathlib import Path

from spawner.hub.configure import (
    DATA,
    build_workbench,
    configure,
    configure_site,
    start_background_tasks,
)
from spawner.hub.single_instance import acquire_hub_lock
from spawner.model import SettingsError, Unknown
from spawner.settings import Settings

c = get_config()  # noqa: F821 - JupyterHub provides it
try:
    settings = Settings.from_environ(os.environ)
    acquire_hub_lock(DATA)
    workbench = build_workbench(settings, Path(__file__).with_name("catalog.toml"))
    configure(c, settings, workbench, Path(__file__).with_name("docs"))
    configure_site(c, settings, workbench, Path(__file__).with_name("config"))
except (SettingsError, Unknown) as error:
    sys.exit(str(error))
start_background_tasks(workbench)
