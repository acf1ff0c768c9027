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

# What takes its time at each boot, for nothing here; and Debian 12's kexec-tools would make every reboot a kexec.
chroot "$root" systemctl --quiet disable e2scrub_reap.service
chroot "$root" systemctl --quiet mask kexec.service kexec-load.service

# An emulated processor unpacks what the disk needs in a second, and what any machine may need in ten.
echo MODULES=list >"$root/etc/initramfs-tools/conf.d/lab"
printf '%s\n' virtio_pci virtio_blk ext4 >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u
