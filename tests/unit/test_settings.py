"""Settings: what an admin writes, and the sentence when it cannot be used."""

import os

import pytest

from spawner.model import Quota, SettingsError
from spawner.policy.container import default_cpus
from spawner.settings import Settings


def test_defaults_need_no_environment() -> None:
    settings = Settings.from_environ({"PATH": "/bin"})
    assert settings == Settings()
    assert settings.quota.max_gpus is None
    assert settings.limits.cpus == default_cpus(os.cpu_count() or 1)


def test_values_are_read_with_their_units() -> None:
    settings = Settings.from_environ(
        {
            "WORKBENCH_MAX_GPUS": "2",
            "WORKBENCH_MAX_LEASE_HOURS": "48",
            "WORKBENCH_SHOW_QUEUE_NAMES": "no",
            "WORKBENCH_MEMORY_LIMIT": "1.5G",
            "WORKBENCH_SHM_SIZE": "512m",
            "WORKBENCH_CPU_LIMIT": "1.5",
        }
    )
    assert settings.quota == Quota(max_gpus=2, max_lease_hours=48)
    assert settings.show_queue_names is False
    assert settings.limits.memory_bytes == 1536 * 1024**2
    assert settings.limits.shm_bytes == 512 * 1024**2
    assert settings.limits.cpus == 1.5


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WORKBENCH_MAX_GPU", "2", "did you mean WORKBENCH_MAX_GPUS?"),
        ("WORKBENCH_ZZZ", "2", "see .env.example"),
        ("WORKBENCH_MAX_GPUS", "-1", "a whole number from 0 to 1024"),
        ("WORKBENCH_MAX_GPUS", "two", "a whole number from 0 to 1024"),
        ("WORKBENCH_MAX_GPUS", "٣", "a whole number from 0 to 1024"),
        ("WORKBENCH_MAX_LEASE_HOURS", "0", "a whole number from 1 to 8760"),
        ("WORKBENCH_CLAIM_MINUTES", "0", "a whole number from 1 to 10080"),
        ("WORKBENCH_SHOW_QUEUE_NAMES", "true", "yes or no"),
        ("WORKBENCH_PORT", "70000", "a whole number from 1 to 65535"),
        ("WORKBENCH_MEMORY_LIMIT", "32", "a size such as"),
        ("WORKBENCH_MEMORY_LIMIT", "0G", "a size above zero"),
        ("WORKBENCH_CPU_LIMIT", "nan", "a number of CPUs"),
        ("WORKBENCH_CPU_LIMIT", "0", "a number of CPUs"),
        ("WORKBENCH_INSTANCE", "My Bench", "characters of a-z"),
        ("WORKBENCH_LEDGER_URL", "mysql://x", "sqlite:///PATH or postgresql+psycopg://USER"),
        ("WORKBENCH_LEDGER_URL", "postgresql+psycopg://u:p@ss@host/db", "written as %3A"),
        ("WORKBENCH_LEDGER_URL", "postgresql+psycopg://u:p@host", "written as %3A"),
        ("WORKBENCH_PROFILE", "lab", "team or students"),
        ("WORKBENCH_SHM_SIZE", "64G", "lower the first or raise the second"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_fix(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=r"^[^\n]+$") as error:
        Settings.from_environ({name: value})
    assert name in str(error.value)
    assert said in str(error.value)


HOST_NAME = {"WORKBENCH_PUBLIC_URL": "https://gpu.lab.example"}


def test_a_profile_sets_defaults_and_what_is_set_wins() -> None:
    students = Settings.from_environ({"WORKBENCH_PROFILE": "students", **HOST_NAME})
    assert (students.user_domains, students.egress, students.home_quota_bytes) == (
        True,
        "none",
        20 * 1024**3,
    )
    own = {"WORKBENCH_EGRESS": "open", "WORKBENCH_HOME_QUOTA": "", "WORKBENCH_USER_DOMAINS": "no"}
    chosen = Settings.from_environ({"WORKBENCH_PROFILE": "students", **own})
    assert (chosen.user_domains, chosen.egress, chosen.home_quota_bytes) == (False, "open", None)
    assert Settings.from_environ({"WORKBENCH_PROFILE": "team"}) == Settings()


def test_students_need_a_host_name() -> None:
    with pytest.raises(SettingsError, match="which the profile students sets, needs a host name"):
        Settings.from_environ({"WORKBENCH_PROFILE": "students"})


def test_a_server_has_at_most_the_cpus_of_the_host() -> None:
    assert Settings.from_environ({"WORKBENCH_CPU_LIMIT": "9999"}).limits.cpus == os.cpu_count()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////data/other.sqlite",
        "postgresql+psycopg://workbench:p%40ss@db.example.org/workbench",
        "postgresql+psycopg://workbench:@[::1]:5433/workbench?sslmode=verify-full",
        "postgresql+psycopg://workbench@/workbench?host=/run/postgresql",
    ],
)
def test_the_ledger_is_on_sqlite_or_postgresql(url: str) -> None:
    assert Settings.from_environ({"WORKBENCH_LEDGER_URL": url}).ledger_url == url


@pytest.mark.parametrize("host", ["host", "ho st"])
def test_the_password_of_the_ledger_is_never_shown(host: str) -> None:
    url = f"postgresql+psycopg://workbench:hunter2@{host}/workbench"
    try:
        shown = repr(Settings.from_environ({"WORKBENCH_LEDGER_URL": url}))
    except SettingsError as error:
        shown = str(error)
    assert "hunter2" not in shown


OPENID = {
    "WORKBENCH_AUTHENTICATOR": "generic-oauth",
    "WORKBENCH_ADMIN": "ada",
    "WORKBENCH_OAUTH_ISSUER": "https://login.lab.example/realms/lab/",
    "WORKBENCH_OAUTH_CLIENT_ID": "workbench",
    "WORKBENCH_OAUTH_CLIENT_SECRET_FILE": "/root/secret",
    "WORKBENCH_OAUTH_ALLOWED_GROUPS": "lab, GPU users",
}


def test_an_openid_provider_is_described_by_settings() -> None:
    settings = Settings.from_environ(OPENID)
    assert settings.has_openid
    assert settings.oauth_issuer == "https://login.lab.example/realms/lab"
    assert settings.oauth_allowed_groups == ("lab", "GPU users")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"WORKBENCH_OAUTH_ISSUER": ""}, "needs WORKBENCH_OAUTH_ISSUER"),
        ({"WORKBENCH_OAUTH_ISSUER": "http://login.lab.example"}, "the https URL of an OpenID"),
        ({"WORKBENCH_OAUTH_CLIENT_ID": ""}, "needs WORKBENCH_OAUTH_CLIENT_ID"),
        ({"WORKBENCH_OAUTH_CLIENT_SECRET_FILE": ""}, "needs WORKBENCH_OAUTH_CLIENT_SECRET_FILE"),
        ({"WORKBENCH_OAUTH_ALLOWED_GROUPS": ""}, "No user may log in"),
        ({"WORKBENCH_OAUTH_ALLOWED_USERS": "ada,,bob"}, "names separated by commas"),
        ({"WORKBENCH_OAUTH_SCOPES": "profile"}, "with openid among them"),
        (
            {"WORKBENCH_AUTHENTICATOR": "native"},
            "has no effect with WORKBENCH_AUTHENTICATOR=native",
        ),
        (
            {"WORKBENCH_AUTHENTICATOR": "github"},
            "has no effect with WORKBENCH_AUTHENTICATOR=github",
        ),
        ({"WORKBENCH_ADMIN": " "}, "a lower-case user name"),
    ],
)
def test_a_provider_that_is_described_in_part_is_refused(
    changes: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=r"^[^\n]+$") as error:
        Settings.from_environ({**OPENID, **changes})
    assert said in str(error.value)


def test_the_admin_at_a_provider_is_named() -> None:
    environ = {name: value for name, value in OPENID.items() if name != "WORKBENCH_ADMIN"}
    with pytest.raises(SettingsError, match="set WORKBENCH_ADMIN"):
        Settings.from_environ(environ)


def test_an_authenticator_of_the_site_file_has_its_client_from_the_settings() -> None:
    shared = {name: OPENID[name] for name in OPENID if "CLIENT" in name}
    assert Settings.from_environ({"WORKBENCH_AUTHENTICATOR": "github", **shared}).oauth_client_id


HTTPS = "https://gpu.lab.test"
PAIR = {"TLS": "files", "TLS_CERTIFICATE": "/c.pem", "TLS_KEY": "/k.pem"}


def read(**values: str) -> Settings:
    return Settings.from_environ({f"WORKBENCH_{name}": value for name, value in values.items()})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"TLS": "yes"}, "off, files or acme"),
        ({**PAIR, "PUBLIC_URL": ""}, "begins with https://"),
        ({**PAIR, "PUBLIC_URL": "http://gpu.lab.test"}, "begins with https://"),
        ({"TLS": "files", "PUBLIC_URL": HTTPS}, "needs WORKBENCH_TLS_CERTIFICATE"),
        ({**PAIR, "TLS_KEY": "", "PUBLIC_URL": HTTPS}, "needs WORKBENCH_TLS_KEY"),
        ({**PAIR, "TLS_KEY": "k.pem", "PUBLIC_URL": HTTPS}, "an absolute path"),
        ({**PAIR, "HTTP_PORT": "443", "PUBLIC_URL": HTTPS}, "choose another one"),
        ({"TLS": "acme", "PUBLIC_URL": "https://10.0.0.1"}, "sign no addresses"),
        ({"TLS": "acme", "PUBLIC_URL": HTTPS, "USER_DOMAINS": "yes"}, "use files"),
        ({"TLS": "acme", "PUBLIC_URL": HTTPS, "ACME_EMAIL": "a b"}, "an e-mail address"),
        ({"PUBLIC_URL": f"{HTTPS}/gpu", "USER_DOMAINS": "yes"}, "remove /gpu/ from"),
        ({"PUBLIC_URL": "http://10.0.0.1", "USER_DOMAINS": "yes"}, "needs a host name"),
        ({"PUBLIC_URL": f"{HTTPS}//gpu"}, "a URL such as"),
        ({"PUBLIC_URL": f"{HTTPS}/gpu?x"}, "a URL such as"),
    ],
)
def test_tls_that_contradicts_the_url_is_refused(values: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=r"^WORKBENCH_[^\n]+\.$") as error:
        read(**values)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("url", "origin", "port", "path"),
    [
        ("", "", 443, "/"),
        (HTTPS, HTTPS, 443, "/"),
        (f"{HTTPS}/", HTTPS, 443, "/"),
        (f"{HTTPS}:9443/gpu/", f"{HTTPS}:9443", 9443, "/gpu/"),
        ("http://10.0.0.1/a/b", "http://10.0.0.1", 443, "/a/b/"),
    ],
)
def test_the_public_url_has_an_origin_and_a_path(
    url: str, origin: str, port: int, path: str
) -> None:
    settings = read(PUBLIC_URL=url)
    assert (settings.origin, settings.https_port, settings.base_path) == (origin, port, path)
