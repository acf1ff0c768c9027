#!/bin/sh
# prepare.sh ROOT BINARY CHECKOUT WORK LAYER: makes LAYER, a tar of what lies over ROOT in every machine: of the system
# nothing but journald and the bus boots, and farewell is installed by packer/install.sh, in ROOT, as an image build does it.
# In a mount namespace of its own; WORK is an empty directory.
set -eu
root=$1 binary=$2 checkout=$3 work=$4 layer=$5
mount -t tmpfs -o mode=755 rig "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" "$work/root"
cd "$work/root"
units=/usr/lib/systemd/system
generators=usr/lib/systemd/system-generators
cp -a "$generators/systemd-fstab-generator" "$work/generator"
rm -rf etc/systemd/system etc/systemd/*.conf.d $units/*.wants usr/lib/systemd/*.conf.d $generators etc/systemd/user \
    usr/lib/systemd/system-preset usr/lib/systemd/system-environment-generators usr/lib/environment.d \
    etc/farewell usr/lib/farewell var/lib/farewell var/log/journal rig
rm -rf ".$units"/*.wants
mkdir -p etc/systemd/system/multi-user.target.wants etc/systemd/system/sysinit.target.wants \
    etc/systemd/system/sockets.target.wants etc/systemd/system/systemd-journald.service.d \
    "$generators" etc/farewell var/log/journal rig
cp -a "$work/generator" "$generators/systemd-fstab-generator"
ln -s $units/multi-user.target etc/systemd/system/default.target
for unit in systemd-journald.socket systemd-journald-dev-log.socket dbus.socket; do
    ln -s "$units/$unit" etc/systemd/system/sockets.target.wants/
done
for unit in systemd-journald.service systemd-journal-flush.service; do
    ln -s "$units/$unit" etc/systemd/system/sysinit.target.wants/
done
ln -s $units/dbus.service etc/systemd/system/multi-user.target.wants/
printf '[Journal]\nStorage=persistent\nReadKMsg=no\nAudit=no\nRateLimitBurst=0\nSyncIntervalSec=1s\n' >etc/systemd/journald.conf
# The name, which before systemd 249 stood there only if told so.
printf '[Manager]\nShowStatus=no\nStatusUnitFormat=name\n' >etc/systemd/system.conf
# The sandbox of journald wants more than there is in a namespace.
printf '[Service]\nPrivateDevices=no\nProtectClock=no\nWatchdogSec=0\nSystemCallFilter=\nRestrictAddressFamilies=\n' \
    >etc/systemd/system/systemd-journald.service.d/rig.conf
: >etc/fstab
echo lab >etc/hostname
install -m 755 "${0%/*}/app" usr/local/bin/app

mount -t tmpfs run run
mount -t tmpfs tmp tmp
mkdir tmp/checkout
mount --bind "$checkout" tmp/checkout
cp "$binary" tmp/farewell
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /tmp/checkout/packer/install.sh --binary /tmp/farewell
umount tmp/checkout tmp run
printf '[farewell]\nbudget = "60s"\n' >etc/farewell/farewell.toml
cd /
tar -C "$work/upper" --xattrs --xattrs-include=trusted.overlay.opaque -cf "$layer" .
