"""An example of a site file; docs/configuration.md explains it. Copy it to `site.py` and run scripts/up.

It needs the bounds of `bounds.example.toml`.
"""

# JupyterHub and its tools bring `c`, as in every jupyterhub_config.py.
c = get_config()  # noqa: F821


# One line at the top of every page.
c.JupyterHub.template_vars = {"announcement": "Maintenance on Friday from 18:00."}


def volumes_of_groups(spawner):
    """Return a volume for each group of the user: members share its files."""
    return {f"team-{group.name}": f"/data/{group.name}" for group in spawner.user.groups}


c.DockerSpawner.volumes = volumes_of_groups
c.DockerSpawner.environment = {"TEAM_USER": lambda spawner: spawner.user.name}


def memory_of_user(spawner):
    """Give admins more."""
    return "64G" if spawner.user.admin else "32G"


c.DockerSpawner.mem_limit = memory_of_user
c.DockerSpawner.extra_host_config = {"shm_size": "4g"}
