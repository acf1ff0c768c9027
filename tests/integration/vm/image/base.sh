#!/bin/sh
# Makes $2/base.qcow2, the disk that Packer begins with: the lab's root file system in $1, and what a cloud image has
# beside it. Runs in a mount namespace of its own; nothing in $1 is written to.
#
# It is a machine that has been somebody: what must not get into an image is planted in it.
set -eu
root=$1 dir=$2 guest=$3

mkdir "$dir/upper" "$dir/work" "$dir/tree"
tree=$dir/tree
mount -t overlay -o "lowerdir=$root,upperdir=$dir/upper,workdir=$dir/work" none "$tree"

# This machine's way to the packages.
mount --bind /etc/apt/apt.conf.d "$tree/etc/apt/apt.conf.d"
mv "$tree/etc/resolv.conf" "$tree/etc/resolv.conf.lab"
cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
chmod 755 "$tree/usr/sbin/policy-rc.d"
mount -t proc proc "$tree/proc"
export DEBIAN_FRONTEND=noninteractive
chroot "$tree" apt-get -qq update
chroot "$tree" apt-get -qq install -y --no-install-recommends cloud-init openssh-server sudo >"$dir/apt.log" 2>&1 ||
    { cat "$dir/apt.log" >&2 && exit 1; }
umount "$tree/proc" "$tree/etc/apt/apt.conf.d"
rm -rf "$tree"/var/lib/apt/lists/* "$tree/usr/sbin/policy-rc.d"
find "$tree/var/cache/apt" -type f -delete
mv "$tree/etc/resolv.conf.lab" "$tree/etc/resolv.conf"

# Nothing but the seed on a second disk, and none of what a machine that lives for a minute has no use for.
cat >"$tree/etc/cloud/cloud.cfg.d/90-lab.cfg" <<'END'
datasource_list: [NoCloud]
ssh_genkeytypes: [ed25519]
cloud_init_modules: [seed_random, write_files, set_hostname, users_groups, ssh]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts_user]
END

mkdir -p "$tree/usr/lib/lab"
cp "$guest/shell" "$tree/usr/lib/lab/shell"
cp "$guest/shell.service" "$tree/etc/systemd/system/shell.service"
chroot "$tree" systemctl --quiet enable shell.service

# What the build machine was.
echo 00000000000000000000000000000bad >"$tree/etc/machine-id"
echo build-machine >"$tree/etc/hostname"
sed -i 's/^127.0.1.1 .*/127.0.1.1 build-machine/' "$tree/etc/hosts"
head -c 512 /dev/zero >"$tree/var/lib/systemd/random-seed"
mkdir -p "$tree/var/lib/farewell/runs"
echo build-machine >"$tree/var/lib/farewell/runs/20200101T000000.000Z-0bad.jsonl"
mkdir -p "$tree/var/log/journal/00000000000000000000000000000bad" "$tree/etc/credstore"
for file in root/.bash_history etc/credstore/token var/log/it.log.1; do echo build-machine >"$tree/$file"; done
[ -s "$tree/etc/ssh/ssh_host_ed25519_key" ] || chroot "$tree" ssh-keygen -q -A

ln -sf "$(cd "$tree/boot" && ls vmlinuz-*)" "$tree/boot/vmlinuz"
ln -sf "$(cd "$tree/boot" && ls initrd.img-*)" "$tree/boot/initrd.img"
cat >"$tree/boot/extlinux.conf" <<'END'
DEFAULT lab
TIMEOUT 1
SERIAL 0 115200
LABEL lab
KERNEL /boot/vmlinuz
INITRD /boot/initrd.img
APPEND root=/dev/vda rw console=ttyS0 loglevel=3 SYSTEMD_COLORS=0 systemd.getty_auto=no mitigations=off
END

# extlinux knows no newer ext4 than this.
mke2fs -q -t ext4 -F -O ^64bit,^metadata_csum -E lazy_itable_init=0,lazy_journal_init=0 -d "$tree" "$dir/base.raw" 1500M
umount "$tree"
mkdir "$dir/disk"
mount -o loop "$dir/base.raw" "$dir/disk"
extlinux --install "$dir/disk/boot" >"$dir/extlinux.log" 2>&1 || { cat "$dir/extlinux.log" >&2 && exit 1; }
umount "$dir/disk"
qemu-img convert -f raw -O qcow2 "$dir/base.raw" "$dir/base.qcow2"
rm -rf "$dir/base.raw" "$dir/upper" "$dir/work" "$dir/tree" "$dir/disk"
