# shellcheck shell=sh
# Login shells, such as a notebook's terminal, start from /etc/profile, which resets the image's PATH.
PATH=${WB_PACKAGES:+$WB_PACKAGES/bin:}/opt/pytorch/commands:/opt/pytorch/bin:/usr/local/bin:/usr/bin:/bin
export PATH
# Each terminal says what this start ignored in the home.
if [ -t 1 ] && [ -s /tmp/workbench-notices ]; then cat /tmp/workbench-notices; fi
