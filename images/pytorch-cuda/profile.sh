# shellcheck shell=sh
# Login shells (a notebook's terminal is one) start from /etc/profile, which forgets the image's PATH.
PATH=/opt/pytorch/bin:$PYTHONUSERBASE/bin:/usr/local/bin:/usr/bin:/bin
export PATH
