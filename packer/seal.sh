#!/bin/sh
# Seals the machine that an image is built on: what belongs to this machine, and not to those that boot from its disk, goes.
#
#   packer/seal.sh --build-machine
#
# The machine's id (left empty, so that each machine gets its own; see machine-id(5)), farewell's records and kept facts,
# the journal, the random seeds, systemd's secret for credentials, leases, who has logged in, and where cloud-init is there
# its state and the name of the host. The SSH host keys too, but only where the image makes new ones. It is the last thing
# to be done before the machine is shut down: its journal is in memory from here on, and nobody new can log in.
set -eu

fail() {
    echo "seal.sh: $2" >&2
    exit "$1"
}

case ${1:-} in
    --build-machine) ;;
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) fail 64 "it takes this machine's identity away: say --build-machine if that is meant; see $0 --help" ;;
esac
[ "$(id -u)" = 0 ] || fail 77 'only root can seal a machine'

is_live() { [ -d /run/systemd/system ]; }

# none PATH...: what is there goes; patterns that match nothing are none.
none() {
    for path in "$@"; do
        if [ -e "$path" ] || [ -L "$path" ]; then rm -rf "$path"; fi
    done
}

# Not a farewell, which this machine would otherwise say when it is shut down, where it has booted with farewell.
if is_live; then
    mkdir -p /run/farewell
    : >/run/farewell/skip
    find /run/farewell -mindepth 1 ! -name skip -delete
else
    none /run/farewell
fi
none /var/lib/farewell

# Empty and not "uninitialized": that boot would be a first one, which presets all units, and what the build has enabled or
# disabled would be what the presets say.
: >/etc/machine-id
[ -L /var/lib/dbus/machine-id ] || none /var/lib/dbus/machine-id

# Stopped, since it writes a new one when it stops.
if is_live; then systemctl stop systemd-random-seed.service; fi
none /var/lib/systemd/random-seed /boot/loader/random-seed /boot/efi/loader/random-seed /efi/loader/random-seed
none /var/lib/systemd/credential.secret

none /var/lib/dhcp/*.lease* /var/lib/NetworkManager/*.lease /var/lib/NetworkManager/secret_key

# makes_keys: whether something in the image makes SSH host keys where they are missing.
makes_keys() {
    if command -v cloud-init >/dev/null && [ ! -e /etc/cloud/cloud-init.disabled ]; then return 0; fi
    for unit in sshd-keygen.target sshd-keygen.service sshd-keygen@.service sshdgenkeys.service; do
        if systemctl cat "$unit" >/dev/null 2>&1; then return 0; fi
    done
    return 1
}

if makes_keys; then
    none /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
elif [ -e /etc/ssh/sshd_config ]; then
    echo 'seal.sh: the SSH host keys stay, since nothing here would make new ones: each machine of this image has the same' >&2
fi

if command -v cloud-init >/dev/null; then
    # What it has written for this machine elsewhere goes too, where it knows how.
    if cloud-init clean --help | grep -q -- --configs; then
        cloud-init clean --logs --configs all
    else
        cloud-init clean --logs
    fi
    # It names each machine, unless it is told to keep the name.
    grep -rqs '^ *preserve_hostname: *[Tt]rue' /etc/cloud || : >/etc/hostname
fi

for log in /var/log/wtmp /var/log/btmp /var/log/lastlog; do
    if [ -f "$log" ]; then : >"$log"; fi
done
if is_live; then journalctl --relinquish-var; fi
none /var/log/journal/*
# What is deleted is no longer on the disk, where the disk can forget.
if is_live && command -v fstrim >/dev/null; then fstrim -a || :; fi
sync
echo 'this machine is sealed: shut it down, and do not boot it again before its disk is an image'
