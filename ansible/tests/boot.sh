#!/bin/sh
# boot.sh TREE CGROUP: systemd as process 1 of TREE, in namespaces of its own (mounts, processes, network, control groups).
# CGROUP is a directory in a cgroup2 file system. Killing the one child of this process ends everything.
# Mounts are shared inside, as systemd makes them on a machine but leaves them to whoever made a container: where they are
# private, LoadCredential= mounts the secret where the unit does not see it, and its user finds an empty directory.
# Memory controllers are the host's to give: where cgroup2 has none, MemoryMax is accepted and not enforced.
set -eu
tree=$1 cgroup=$2
mkdir -p "$cgroup"
echo $$ >"$cgroup/cgroup.procs"
export tree
exec unshare --mount --pid --uts --ipc --net --cgroup --fork sh -eu -c '
mount --make-rprivate /
for name in dev proc sys; do
    while umount -R -l "$tree/$name" 2>/dev/null; do :; done
done
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount -t sysfs sysfs "$tree/sys"
mount -t cgroup2 cgroup2 "$tree/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$tree/run"
mount -t tmpfs -o mode=755 tmpfs "$tree/dev"
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "$tree/dev/${device%:*}" c 1 "${device#*:}"
done
mknod -m 666 "$tree/dev/tty" c 5 0
mkdir "$tree/dev/pts" "$tree/dev/shm" "$tree/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$tree/dev/pts"
mount -t tmpfs tmpfs "$tree/dev/shm"
ln -s pts/ptmx "$tree/dev/ptmx"
ln -s /proc/self/fd "$tree/dev/fd"
cd "$tree"
mkdir -p .old
pivot_root . .old
cd /
exec env -i container=appliance-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    sh -c "umount -l /.old; mount --make-rshared /; exec /lib/systemd/systemd --system --show-status=no" >/dev/null 2>&1
'
