#!/bin/bash
# Ansible managed
# One backup: ledger, settings, policy, keys, accepted licences and own catalogue entries. Models are not in it: they
# are fetched again, or come out of the bundle. It appears under its name only when it is whole.
set -euo pipefail
umask 077
work=$(mktemp -d /var/backups/appliance/.work-XXXXXX)
trap 'rm -rf "$work"' EXIT
# the service's user writes its dump into it
chgrp appliance "$work"
chmod 0770 "$work"
/usr/local/bin/appliance db backup "$work/ledger.db" >/dev/null
install -m 0600 -o root -g root "$work/ledger.db" "$work/ledger.part"
mv -f "$work/ledger.part" "$work/ledger.db"
mkdir "$work/home" "$work/secrets"
cd /var/lib/appliance
for file in appliance.toml policy.toml admin.key egress.key models/licences.json; do
    if [ -f "$file" ]; then install -D -m 0600 "$file" "$work/home/$file"; fi
done
for file in models/*.toml; do
    if [ -f "$file" ]; then install -D -m 0600 "$file" "$work/home/$file"; fi
done
if [ -d /etc/appliance/secrets ]; then cp -a /etc/appliance/secrets/. "$work/secrets/"; fi
readlink /opt/appliance/current >"$work/release" || true
target=/var/backups/appliance/appliance-$(date -u +%Y%m%dT%H%M%SZ).tar.zst.age

tar --create --directory "$work" --sort=name ledger.db ledger.db.json home secrets release | zstd -q -3 \
    | age --encrypt --recipient age1example \
    >"$work/done"
sync "$work/done"
mv "$work/done" "$target"
find /var/backups/appliance -maxdepth 1 -name 'appliance-*.tar.zst*' -mtime +30 -delete
# for Prometheus: the age of the last backup is an alert
if [ -d /var/lib/prometheus/node-exporter ]; then
    printf 'appliance_backup_unix_seconds %s\n' "$(date +%s)" >/var/lib/prometheus/node-exporter/appliance-backup.part
    chmod 0644 /var/lib/prometheus/node-exporter/appliance-backup.part
    mv /var/lib/prometheus/node-exporter/appliance-backup.part /var/lib/prometheus/node-exporter/appliance-backup.prom
fi
echo "$target"
