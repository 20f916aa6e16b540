#!/bin/sh
# Ansible managed
# The operators' command: as root it becomes the service's user, so that nothing in its state belongs to root.
export APPLIANCE_HOME=/var/lib/appliance APPLIANCE_RUN=/run/appliance APPLIANCE_PORT=8000
program=/opt/appliance/current/.venv/bin/appliance
if [ "$(id -u)" = 0 ]; then
    install -d -m 0700 -o appliance -g appliance /run/appliance
    # setpriv and not runuser: it stays one process, so signals arrive, and needs no PAM
    export HOME=/var/lib/appliance
    exec setpriv --reuid=appliance --regid=appliance --init-groups -- "$program" "$@"
fi
exec "$program" "$@"
