# Minimum versions of all parts that keep users inside their containers, with the reasons.
#
# scripts/up installs them, scripts/doctor fails below them, and a test compares the locks with the last two.

# Debian 12's kernel: cgroup v2 with all controllers, and still maintained.
least_kernel=6.1
# The first Docker Engine with CDI.
least_engine=25
# The first Compose that lets a file be absent (env_file with required: false).
least_compose=2.24
# Debian 13's package, with the fixes of CVE-2024-25621, CVE-2024-40635 and CVE-2025-64329.
least_containerd=1.7.24
# NVIDIA container toolkit: CVE-2025-23266 and CVE-2025-23359 are fixed before it.
least_toolkit=1.18.2
least_jupyterhub=6.1
least_jupyter_server=2.21

# runc: each hole lets a container reach the host. A series is fixed from the version in fixed_runc on.
# A Debian package is fixed where its changelog names the hole: Debian 12 has no fix, Debian 13's updates have two.
runc_holes="CVE-2025-31133 CVE-2025-52565 CVE-2025-52881"
fixed_runc="1.2.8 1.3.3 1.4.0"
