"""Settings: reads the ``WORKBENCH_*`` environment variables once, into a frozen value.

An unknown name or an unusable value is an error with a fix. This module is the only source of the defaults.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spawner.model import Quota, SettingsError
from spawner.policy.container import ContainerLimits, default_cpus
from spawner.policy.fair_share import HALF_LIFE_HOURS
from spawner.policy.idle import IdleRules
from spawner.policy.network import (
    Destination,
    Egress,
    build_egress,
    parse_destinations,
    parse_egress,
)
from spawner.policy.options import MAX_HOURS
from spawner.setting_parsers import (
    integer,
    matching,
    one_of,
    optional,
    parse_bytes,
    parse_cpus,
    parse_issuer,
    parse_names,
    parse_networks,
    parse_public_url,
    parse_release_names,
    parse_scopes,
    parse_time_zone,
    parse_yes_or_no,
)

PREFIX = "WORKBENCH_"
PROFILES = Path(__file__).parent / "profiles"
"""One file per profile; the scripts read them too."""
GENERIC_OAUTH = "generic-oauth"
NATIVE = "native"


def _setting(
    default: object,
    parse: Callable[[str], object],
    description: str,
    *,
    is_secret: bool = False,
) -> Any:  # noqa: ANN401
    metadata = {"parse": parse, "description": description, "is_secret": is_secret}
    return field(default=default, repr=not is_secret, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """All settings of the workbench; one field per ``WORKBENCH_*`` variable."""

    instance: str = _setting(
        "workbench",
        matching(r"[a-z][a-z0-9-]{0,18}[a-z0-9]", "2 to 20 characters of a-z, 0-9 and -"),
        "Name of this workbench; the prefix of its containers, volumes and networks.",
    )
    profile: str = _setting(
        "team",
        one_of("team", "students"),
        "Defaults of the other settings: `team`, or `students` for users who do not trust each other.",
    )
    bind: str = _setting(
        "0.0.0.0",  # noqa: S104
        matching(r"[0-9a-fA-F.:]+", "an IP address"),
        "Address on which the proxy listens; use 127.0.0.1 behind a TLS proxy on the same host.",
    )
    port: int = _setting(8000, integer(1, 65535), "Port on which the proxy listens.")
    public_url: str = _setting(
        "",
        parse_public_url,
        "URL of the workbench in browsers, such as `https://gpu.lab.example`; with https, cookies are Secure.",
    )
    tls: str = _setting(
        "off",
        one_of("off", "files", "acme"),
        "Whether the workbench answers https itself: with your certificate (`files`), with one from a public "
        "certificate authority (`acme`), or not (`off`).",
    )
    tls_certificate: str = _setting(
        "",
        matching(r"|/.+", "an absolute path"),
        "File of the certificate and its chain in PEM form, for `WORKBENCH_TLS=files`.",
    )
    tls_key: str = _setting(
        "",
        matching(r"|/.+", "an absolute path"),
        "File of the certificate's private key in PEM form, for `WORKBENCH_TLS=files`.",
    )
    http_port: int = _setting(
        80,
        integer(1, 65535),
        "Port on which the workbench redirects http to https, unless `WORKBENCH_TLS=off`.",
    )
    acme_email: str = _setting(
        "",
        matching(r"|[^\s@\"{}]+@[^\s@\"{}]+", "an e-mail address"),
        "Address that the certificate authority writes to, for `WORKBENCH_TLS=acme`; empty for none.",
    )
    acme_directory: str = _setting(
        "",
        matching(r"|https://[^\s\"{}]+", "an https URL"),
        "URL of your own ACME server, for `WORKBENCH_TLS=acme`; empty for Let's Encrypt.",
    )
    user_domains: bool = _setting(
        False,
        parse_yes_or_no,
        "Whether each user's servers have a host name of their own below the public URL's (`yes` or `no`).",
    )
    authenticator: str = _setting(
        "native",
        matching(r"[A-Za-z_][\w.:-]*", "a JupyterHub authenticator name such as native"),
        "Authenticator: `native` (sign-up with admin approval), `generic-oauth`, "
        "another entry point, or `site` (`site.py` chooses).",
    )
    admin: str = _setting(
        "admin",
        matching(r"[a-z0-9][a-z0-9._@+-]{0,63}", "a lower-case user name of at most 64 characters"),
        "User name of the first admin.",
    )
    max_sign_ups: int = _setting(
        100,
        integer(0, 100000),
        "Sign-ups that may wait for an admin's approval at once; 0 for no sign-ups.",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        parse_networks,
        "Addresses of your own proxies before the workbench, whose `X-Forwarded-For` names the client; empty for none.",
    )
    oauth_issuer: str = _setting(
        "",
        parse_issuer,
        "Issuer of the OpenID provider, such as `https://login.lab.example/realms/lab`; for `generic-oauth`.",
    )
    oauth_client_id: str = _setting(
        "",
        matching(r"\S*", "an id without blanks"),
        "Client id of the workbench at the provider.",
    )
    oauth_client_secret_file: str = _setting(
        "",
        matching(r"|/\S+", "an absolute path without blanks"),
        "File on this host with the client secret; `scripts/up` gives the hub a copy.",
    )
    oauth_allowed_users: tuple[str, ...] = _setting(
        (),
        parse_names,
        "Users of the provider who may log in, separated by commas; `*` for every account of the provider.",
    )
    oauth_allowed_groups: tuple[str, ...] = _setting(
        (),
        parse_names,
        "Groups of the provider whose members may log in, separated by commas.",
    )
    oauth_admin_groups: tuple[str, ...] = _setting(
        (),
        parse_names,
        "Groups of the provider whose members may log in and are admins, separated by commas.",
    )
    oauth_username_claim: str = _setting(
        "preferred_username",
        matching(r"[\w:/.-]+", "the name of a claim"),
        "Claim of the provider that becomes the user name; the provider must keep it unique and unchanged.",
    )
    oauth_groups_claim: str = _setting(
        "groups",
        matching(r"[\w:/-]+(\.[\w:/-]+)*", "the name of a claim"),
        "Claim of the provider that lists a user's groups (`realm_access.roles` for one inside another).",
    )
    oauth_scopes: tuple[str, ...] = _setting(
        ("openid", "profile", "email"),
        parse_scopes,
        "Scopes that the hub asks the provider for, separated by blanks.",
    )
    oauth_service: str = _setting(
        "single sign-on",
        matching(r"[^<>\n]{1,40}", "1 to 40 characters"),
        "Name of the provider on the log-in button.",
    )
    releases: tuple[str, ...] = _setting(
        (),
        parse_release_names,
        "Releases of `images/catalog.toml` to build and offer (`v2.7 v2.15`); empty for the default release.",
    )
    max_gpus: int | None = _setting(
        None,
        optional(integer(0, 1024)),
        "GPUs that one user may hold at once, a MIG instance counting as one; empty for no limit.",
    )
    max_lease_hours: int = _setting(
        24,
        integer(1, MAX_HOURS),
        "Maximum hours of one lease; the server releases its GPUs at the end.",
    )
    named_servers: int = _setting(
        4,
        integer(0, 100),
        "Named servers of one user, in addition to the default server; 0 for none.",
    )
    claim_minutes: int = _setting(
        20,
        integer(1, 10080),
        "Minutes in which a user has to open a granted server; then the next request in the queue gets its GPUs.",
    )
    fair_half_life_hours: int = _setting(
        HALF_LIFE_HOURS,
        integer(1, 87600),
        "Half-life, in hours, of past GPU use in the queue order.",
    )
    show_queue_names: bool = _setting(
        True,
        parse_yes_or_no,
        "Whether all users see the names of users with GPUs or in the queue (`yes` or `no`).",
    )
    sample_period_seconds: int = _setting(
        10, integer(1, 600), "Seconds between two samples of GPU utilization."
    )
    idle_minutes: int = _setting(
        180,
        integer(0, 525600),
        "Minutes of idle GPUs and kernels after which a server releases its GPUs; 0 for never.",
    )
    idle_warning_minutes: int = _setting(
        15, integer(1, 1440), "Minutes before the idle release in which JupyterLab warns the user."
    )
    idle_gpu_percent: int | None = _setting(
        0,
        optional(integer(0, 99)),
        "GPU utilization in percent above which a GPU is not idle; empty to allow unknown utilization (MIG).",
    )
    idle_sees_memory: bool = _setting(
        True,
        parse_yes_or_no,
        "Whether a change in GPU processes or their memory counts as work (`yes` or `no`).",
    )
    idle_sees_kernels: bool = _setting(
        True,
        parse_yes_or_no,
        "Whether a kernel that computes or prints counts as work (`yes` or `no`).",
    )
    idle_sees_terminals: bool = _setting(
        True, parse_yes_or_no, "Whether terminal input or output counts as work (`yes` or `no`)."
    )
    memory_limit_bytes: int = _setting(
        32 * 1024**3,
        parse_bytes,
        "Memory of one server, including /dev/shm and /tmp (8 GiB at most).",
    )
    cpu_limit: float | None = _setting(
        None,
        optional(parse_cpus),
        "CPUs of one server, at most the host's; empty for seven eighths of them, at least 2.",
    )
    pids_limit: int = _setting(4096, integer(64, 4194304), "Processes and threads of one server.")
    shm_size_bytes: int = _setting(
        8 * 1024**3,
        parse_bytes,
        "Size of /dev/shm of one server, which its DataLoader workers share.",
    )
    first_uid: int = _setting(
        20000,
        integer(1000, 2000000),
        "First Linux uid for hub users; the range must not overlap the host's own uids.",
    )
    home_quota_bytes: int | None = _setting(
        None,
        optional(parse_bytes),
        "Size of one home above which its user starts no new server; empty for no quota.",
    )
    time_zone: str = _setting(
        "",
        parse_time_zone,
        "Time zone of users' servers such as Asia/Shanghai; empty for UTC.",
    )
    starts_per_hour: int = _setting(
        60,
        integer(1, 100000),
        "Server starts of one user in an hour; ten of them may follow each other at once.",
    )
    start_timeout_seconds: int = _setting(
        120, integer(10, 3600), "Seconds in which a started server has to answer."
    )
    egress: str = _setting(
        "open",
        parse_egress,
        "Where servers may connect to: `open` (the internet), `none`, or IPv4 networks, each with or without a port.",
    )
    egress_allow: tuple[Destination, ...] = _setting(
        (),
        parse_destinations,
        "Private IPv4 networks that servers may connect to as well (`10.1.2.0/24,10.1.3.4:443`); empty for none.",
    )
    config_dir: str = _setting(
        "config",
        matching(r"[A-Za-z0-9._/-]+", "the path of a folder, such as config or /srv/gpu-workbench"),
        "Folder of `site.py`, `config.d/` and `secrets/`, from the folder of this repository or from `/`.",
    )
    ledger_url: str = _setting(
        "sqlite:////data/ledger.sqlite",
        matching(
            r"sqlite:///.+|postgresql\+psycopg://[^\s:/?#@]+(:[^\s:/?#@]*)?@[^\s/?#@]*/[^\s/?#@]+(\?\S*)?",
            "sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, with : / ? # @ % of a password "
            "written as %3A %2F %3F %23 %40 %25",
        ),
        "Database of leases and accounts: `sqlite:///` and a path, or `postgresql+psycopg://user:password@host/database`.",
        is_secret=True,
    )
    agent_url: str = _setting(
        "http://gpu-agent:9201",
        matching(r"https?://.+", "an http(s) URL"),
        "URL of the gpu-agent.",
    )
    ca_bundle: str = _setting(
        "/etc/ssl/certs/ca-certificates.crt",
        matching(r"/.+", "an absolute path"),
        "CA certificates that image builds trust, for networks with TLS inspection.",
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Return the settings of ``environ``; the SettingsError names the variable and the fix."""
        known = {variable_name(f): f for f in fields(cls)}
        values: dict[str, Any] = {}
        profile = _parse_setting(known[f"{PREFIX}PROFILE"], environ)
        for name, text in {**read_profile(profile), **environ}.items():
            if not name.startswith(PREFIX):
                continue
            if name not in known:
                bare = {known_name.removeprefix(PREFIX): known_name for known_name in known}
                likely = difflib.get_close_matches(name.removeprefix(PREFIX), bare, n=1)
                hint = f"did you mean {bare[likely[0]]}?" if likely else "see .env.example."
                raise SettingsError(f"{name} is not a setting: {hint}")
            values[known[name].name] = _parse_setting(known[name], {name: text})
        settings = cls(**values)
        _check_sign_in(settings, {name for name, text in environ.items() if text.strip()})
        if settings.shm_size_bytes > settings.memory_limit_bytes:
            raise SettingsError(
                "WORKBENCH_SHM_SIZE is larger than WORKBENCH_MEMORY_LIMIT, which includes it: "
                "lower the first or raise the second."
            )
        if settings.user_domains and not settings.has_host_name:
            raise SettingsError(
                "WORKBENCH_USER_DOMAINS=yes, which the profile students sets, needs a host name in "
                "WORKBENCH_PUBLIC_URL, such as https://gpu.lab.example, and a DNS record for *.gpu.lab.example."
            )
        if settings.user_domains and settings.base_path != "/":
            raise SettingsError(
                f"WORKBENCH_USER_DOMAINS=yes needs a host of its own: remove {settings.base_path} from "
                "WORKBENCH_PUBLIC_URL."
            )
        settings._check_tls()
        if not settings.idle.has_criteria:
            raise SettingsError(
                "The WORKBENCH_IDLE_* settings disable every sign of work, so every server would be idle: set "
                "WORKBENCH_IDLE_MINUTES=0, or enable one sign."
            )
        return settings

    def _check_tls(self) -> None:
        """Raise SettingsError where ``WORKBENCH_TLS`` contradicts another setting."""
        if self.tls == "off":
            return
        if not self.is_https:
            raise SettingsError(
                f"WORKBENCH_TLS={self.tls} needs a WORKBENCH_PUBLIC_URL that begins with https://, such as "
                "https://gpu.lab.example."
            )
        if self.tls == "files" and not (self.tls_certificate and self.tls_key):
            missing = "WORKBENCH_TLS_KEY" if self.tls_certificate else "WORKBENCH_TLS_CERTIFICATE"
            raise SettingsError(
                f"WORKBENCH_TLS=files needs {missing}: name the file, or choose acme or off."
            )
        if self.tls == "acme" and not self.has_host_name:
            raise SettingsError(
                "WORKBENCH_TLS=acme needs a host name in WORKBENCH_PUBLIC_URL: authorities sign no addresses."
            )
        if self.tls == "acme" and self.user_domains:
            raise SettingsError(
                "WORKBENCH_TLS=acme cannot get the wildcard certificate that WORKBENCH_USER_DOMAINS=yes needs: use "
                "files, with a certificate from a DNS challenge."
            )
        if self.http_port == self.https_port:
            raise SettingsError(
                f"WORKBENCH_HTTP_PORT={self.http_port} is also the port of WORKBENCH_PUBLIC_URL: choose another one."
            )

    @property
    def origin(self) -> str:
        """The public URL without its path; empty without a public URL."""
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}" if self.public_url else ""

    @property
    def host(self) -> str:
        """The host of the public URL without its port."""
        return urlsplit(self.public_url).hostname or ""

    @property
    def has_host_name(self) -> bool:
        """Whether the public URL has a name, and no address, as its host."""
        return re.search(r"[a-z][a-z0-9-]*$", self.host) is not None

    @property
    def https_port(self) -> int:
        """The port of the public URL."""
        return urlsplit(self.public_url).port or 443

    @property
    def base_path(self) -> str:
        """The path of the public URL, with a slash at both ends."""
        return f"{urlsplit(self.public_url).path}/"

    @property
    def has_openid(self) -> bool:
        """Whether users log in at the OpenID provider that the settings name."""
        return self.authenticator == GENERIC_OAUTH

    @property
    def is_https(self) -> bool:
        """Whether browsers reach the workbench by https."""
        return self.public_url.startswith("https://")

    @property
    def idle(self) -> IdleRules:
        """Rules for the release of idle GPUs."""
        return IdleRules(
            minutes=self.idle_minutes,
            warning_minutes=self.idle_warning_minutes,
            gpu_percent=self.idle_gpu_percent,
            memory=self.idle_sees_memory,
            kernels=self.idle_sees_kernels,
            terminals=self.idle_sees_terminals,
        )

    @property
    def egress_rules(self) -> Egress:
        """Where servers may connect to."""
        return build_egress(self.egress, self.egress_allow)

    @property
    def limits(self) -> ContainerLimits:
        """Limits of one server."""
        # hub and broker run on one host, so both count the same CPUs; Docker refuses more than there are
        host_cpus = os.cpu_count() or 1
        return ContainerLimits(
            memory_bytes=self.memory_limit_bytes,
            cpus=min(self.cpu_limit or default_cpus(host_cpus), host_cpus),
            pids=self.pids_limit,
            shm_bytes=self.shm_size_bytes,
            has_dns=self.egress_rules.has_dns,
        )

    @property
    def quota(self) -> Quota:
        """Quota of a user without a quota row."""
        return Quota(max_gpus=self.max_gpus, max_lease_hours=self.max_lease_hours)


@cache
def read_profile(name: str) -> dict[str, str]:
    """Return the variables that the profile ``name`` sets."""
    text = (PROFILES / f"{name}.env").read_text()
    return dict(re.findall(r"^(WORKBENCH_\w+)=(.*)$", text, re.MULTILINE))


def _parse_setting(setting: Field[Any], environ: Mapping[str, str]) -> Any:  # noqa: ANN401
    """Return the value of ``setting``; raises SettingsError."""
    name = variable_name(setting)
    text = environ.get(name)
    if text is None:
        return setting.default
    try:
        return setting.metadata["parse"](text.strip())
    except ValueError as error:
        shown = name if setting.metadata["is_secret"] else f"{name}={text!r}"
        raise SettingsError(f"{shown} cannot be used: it must be {error}.") from None


def _check_sign_in(settings: Settings, given: set[str]) -> None:
    """Raise SettingsError unless it is explicit where users log in, which users may, and which one is an admin."""
    prefix = f"{PREFIX}OAUTH_"
    # an authenticator of the site file reads both as well
    shared = {f"{prefix}CLIENT_ID", f"{prefix}CLIENT_SECRET_FILE"}
    if not settings.has_openid:
        of_other = {name for name in given if name.startswith(prefix)}
        unused = of_other if settings.authenticator == NATIVE else of_other - shared
        if unused:
            raise SettingsError(
                f"{min(unused)} has no effect with WORKBENCH_AUTHENTICATOR={settings.authenticator}: remove it, "
                f"or set WORKBENCH_AUTHENTICATOR={GENERIC_OAUTH}."
            )
        return
    for name in ("oauth_issuer", "oauth_client_id", "oauth_client_secret_file"):
        if not getattr(settings, name):
            variable = f"{PREFIX}{name.upper()}"
            raise SettingsError(
                f"WORKBENCH_AUTHENTICATOR={GENERIC_OAUTH} needs {variable}: set it as docs/sign-in.md shows."
            )
    if not settings.oauth_allowed_users and not settings.oauth_allowed_groups:
        raise SettingsError(
            f"No user may log in: name users in {prefix}ALLOWED_USERS or groups in {prefix}ALLOWED_GROUPS, "
            f"or set {prefix}ALLOWED_USERS=* for every account of the provider."
        )
    if f"{PREFIX}ADMIN" not in given:
        # at a provider anyone may have the name "admin"
        raise SettingsError(
            "The first admin is not named: set WORKBENCH_ADMIN to the user name that this person has at the provider."
        )


def variable_name(setting: Field[Any]) -> str:
    """Return the environment variable of a Settings field, without the unit of the field name."""
    return PREFIX + re.sub(r"_(bytes|seconds)$", "", setting.name).upper()


if __name__ == "__main__":
    # scripts/up validates the settings before it changes a running workbench
    try:
        Settings.from_environ(os.environ)
    except SettingsError as error:
        sys.exit(f"error: {error}")
