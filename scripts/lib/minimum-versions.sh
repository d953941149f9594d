# Minimum versions of everything that keeps users inside their containers, each with its reason.
# scripts/up installs them, scripts/doctor fails below them, and a test compares the locks with the last two.

least_kernel=6.1           # Debian 12's: cgroup v2 with all controllers, still maintained
least_engine=25            # the first Docker Engine with CDI
least_compose=2.24         # env_file with required: false
least_containerd=1.7.24    # Debian 13's, with the fixes of CVE-2024-25621, CVE-2024-40635 and CVE-2025-64329
least_toolkit=1.18.2       # NVIDIA container toolkit: CVE-2025-23266 and CVE-2025-23359 are fixed before it
least_jupyterhub=6.1
least_jupyter_server=2.21

# runc: each of these lets a container reach the host. They are fixed from these versions of each series on, and where
# the changelog of Debian's package names them: Debian 12 has none, Debian 13's security updates have the first two.
runc_holes="CVE-2025-31133 CVE-2025-52565 CVE-2025-52881"
fixed_runc="1.2.8 1.3.3 1.4.0"
