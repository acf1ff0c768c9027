#!/bin/sh
# Makes the minimal Debian in $1 a machine of the lab; mmdebstrap runs this once the packages are there.
set -eu
root=$1

# No file system check: each scenario's disk is a fresh layer over one that was left clean.
echo '/dev/vda / ext4 rw,errors=remount-ro 0 0' >"$root/etc/fstab"
echo lab >"$root/etc/hostname"
# 10.0.2.2 is the loopback of the host, 10.0.2.3 its name server (QEMU's user network).
printf '127.0.0.1 localhost\n127.0.1.1 lab\n10.0.2.2 registry\n' >"$root/etc/hosts"
echo 'nameserver 10.0.2.3' >"$root/etc/resolv.conf"

# Its presence makes the journal persistent.
mkdir -p "$root/var/log/journal"

printf '[Match]\nName=en*\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/80-dhcp.network"
chroot "$root" systemctl --quiet enable systemd-networkd.service systemd-networkd-wait-online.service

# Nobody logs in.
chroot "$root" systemctl --quiet disable getty@tty1.service

# A scenario starts its own NFS server in its own network namespace, and timers would run while it measures.
for unit in nfs-server.service rpcbind.service rpcbind.socket nfs-client.target nfs-blkmap.service; do
    chroot "$root" systemctl --quiet disable "$unit"
done
for timer in "$root"/etc/systemd/system/timers.target.wants/*.timer; do
    chroot "$root" systemctl --quiet disable "$(basename "$timer")"
done

# Debian 12's kexec-tools make every reboot a kexec otherwise; here only `systemctl kexec` is one.
if [ -e "$root/etc/default/kexec" ]; then
    sed -i 's/^LOAD_KEXEC=.*/LOAD_KEXEC=false/' "$root/etc/default/kexec"
fi
