#!/bin/bash
# Ansible managed
# restore FILE: puts a backup in place. The services have to be stopped; what was there is kept aside by `db restore`.
set -euo pipefail
umask 077
file=$1
work=$(mktemp -d /var/backups/appliance/.work-XXXXXX)
trap 'rm -rf "$work"' EXIT
case $file in
*.age) age --decrypt --identity /run/appliance-backup.key "$file" >"$work/archive" ;;
*) cp "$file" "$work/archive" ;;
esac
mkdir "$work/all"
zstd -q -d -c "$work/archive" | tar --extract --directory "$work/all" --no-same-owner
for one in ledger.db ledger.db.json home secrets; do
    [ -e "$work/all/$one" ] || { echo "$file holds no $one, so it is no backup of an appliance; nothing was changed" >&2; exit 1; }
done
chgrp -R appliance "$work"
chmod 0750 "$work" "$work/all"
chmod 0640 "$work/all/ledger.db" "$work/all/ledger.db.json"
install -d -m 0750 -o appliance -g appliance /var/lib/appliance
cd "$work/all/home"
find . -type f | while read -r name; do
    directory=/var/lib/appliance/$(dirname "$name")
    [ -d "$directory" ] || install -d -m 0750 -o appliance -g appliance "$directory"
    case $name in
    ./appliance.toml) install -m 0640 -o root -g appliance "$name" "/var/lib/appliance/$name" ;;
    *) install -m 0600 -o appliance -g appliance "$name" "/var/lib/appliance/$name" ;;
    esac
done
if [ -d /etc/appliance/secrets ]; then cp -a "$work/all/secrets/." /etc/appliance/secrets/; fi
/usr/local/bin/appliance db restore --force "$work/all/ledger.db"
/usr/local/bin/appliance db check
