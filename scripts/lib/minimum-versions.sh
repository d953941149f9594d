# Minimum versions of everything that keeps users inside their containers, each with its reason.
# scripts/up installs them, scripts/doctor fails below them, and a test compares the locks with the last two.

least_kernel=6.1           # Debian 12's: cgroup v2 with all controllers, still maintained
least_engine=25            # the first Docker Engine with CDI
least_compose=2.24         # env_file with required: false
least_containerd=1.7.24    # Debian 13's, with the fixes of CVE-2024-25621, CVE-2024-40635 and CVE-2025-64329
least_runc=1.1.15          # CVE-2024-21626 and CVE-2024-45310 let a container reach the host's files
least_toolkit=1.18.2       # NVIDIA container toolkit: CVE-2025-23266 and CVE-2025-23359 are fixed before it
least_jupyterhub=6.1
least_jupyter_server=2.21

# The first runc of each series with the fixes of CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881.
# Debian 13's changelog of runc 1.1.15 does not name them, so doctor notes what is missing.
fixed_runc="1.2.8 1.3.3 1.4.0"
