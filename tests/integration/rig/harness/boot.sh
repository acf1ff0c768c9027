#!/bin/sh
# boot.sh DIR GROUP CONSOLE: boots the machine whose files keep.sh keeps in DIR. It is PID 1 of new mount, pid, uts, ipc and network
# namespaces; it joins the control group, makes it the root of a cgroup namespace, and becomes systemd.
set -eu
dir=$1 group=$2 console=$3
if [ -n "$group" ]; then
    echo 0 >"$group/cgroup.procs"
    exec unshare -C sh "$0" "$dir" '' "$console"
fi
root=$dir/fs/root
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,ro,bind "$root/proc/sys"
# Every boot has an ID of its own.
cat /proc/sys/kernel/random/uuid >"$dir/boot-id"
mount --bind "$dir/boot-id" "$root/proc/sys/kernel/random/boot_id"
[ ! -e "$root/proc/sysrq-trigger" ] || mount --bind /dev/null "$root/proc/sysrq-trigger"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 dev "$root/dev"
mkdir "$root/dev/net"
# Without /dev/autofs systemd takes automount units for unsupported.
for device in null zero full random urandom tty autofs fuse net/tun; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%:*}" "$root/dev/${number#*:}"; done
: >"$root/dev/console"
: >"$root/dev/kmsg"
mount --bind "$console" "$root/dev/console"
mount --bind "$dir/kmsg.pipe" "$root/dev/kmsg"
mount -t tmpfs -o mode=755 run "$root/run"
cd "$root"
pivot_root . .
umount -l .
cd /
# As systemd does where it does not run in a container: what is mounted for a unit is seen by others.
mount --make-rshared /
# What is the whole machine's in truth: its clock, its kernel and its devices.
exec setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-mknod \
    env -i container=rig PATH=/usr/sbin:/usr/bin LANG=C.UTF-8 /usr/lib/systemd/systemd --system
