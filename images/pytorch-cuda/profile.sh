# shellcheck shell=sh
# Login shells, such as a notebook's terminal, start from /etc/profile, which resets the image's PATH.
PATH=/opt/pytorch/bin:$PYTHONUSERBASE/bin:/usr/local/bin:/usr/bin:/bin
export PATH
