#!/bin/sh
# Seals the machine that an image is built on: what belongs to this machine, and not to those that boot from its disk, goes.
#
#   packer/seal.sh --build-machine
#
# The machine's id (left empty, so that each machine gets its own; see machine-id(5)), farewell's records and kept facts,
# the journal and all logs, core dumps, the random seeds, systemd's secret for credentials and the credentials in /etc/credstore
# and /etc/credstore.encrypted, leases, who has logged in, the histories of shells and other programs, what package managers
# have fetched, and where cloud-init is there its state and the name of the host. The SSH host keys too, but only where the
# image makes new ones. Each path is listed: "removed", or "emptied" where the file itself stays, with its owner and mode.
#
# Credentials come to a machine at its boot and not with its image, whose disk everybody has who has the image.
#
# It is the last thing to be done before the machine is shut down: its journal is in memory from here on, and nobody new can
# log in. A shell in which it is called by hand writes its history when it ends: `unset HISTFILE` comes first there.
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
        if [ -e "$path" ] || [ -L "$path" ]; then
            rm -rf "$path"
            echo "removed $path"
        fi
    done
}

# nothing_in DIRECTORY [NAME...]: what is in it goes, but for these names; a link is not followed.
nothing_in() {
    directory=$1
    shift
    if [ -L "$directory" ] || [ ! -d "$directory" ]; then return 0; fi
    for entry in "$directory"/* "$directory"/.[!.]* "$directory"/..?*; do
        case " $* " in
            *" ${entry##*/} "*) ;;
            *) none "$entry" ;;
        esac
    done
}

# empty FILE...: what is there and not empty is made so; programs that have it open may go on.
empty() {
    for path in "$@"; do
        if [ -f "$path" ] && [ ! -L "$path" ] && [ -s "$path" ]; then
            : >"$path"
            echo "emptied $path"
        fi
    done
}

# Not a farewell, which this machine would otherwise say when it is shut down, where it has booted with farewell.
if is_live; then
    mkdir -p /run/farewell
    : >/run/farewell/skip
    nothing_in /run/farewell skip
else
    none /run/farewell
fi
none /var/lib/farewell

# Empty and not "uninitialized": that boot would be a first one, which presets all units, and what the build has enabled or
# disabled would be what the presets say.
empty /etc/machine-id
: >>/etc/machine-id
[ -L /var/lib/dbus/machine-id ] || none /var/lib/dbus/machine-id

# Stopped, since it writes a new one when it stops.
if is_live; then systemctl stop systemd-random-seed.service; fi
none /var/lib/systemd/random-seed /boot/loader/random-seed /boot/efi/loader/random-seed /efi/loader/random-seed

# Those that are encrypted are for this machine's secret, which goes too.
none /var/lib/systemd/credential.secret
nothing_in /etc/credstore
nothing_in /etc/credstore.encrypted

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
    echo "removed cloud-init's state and logs"
    # It names each machine, unless it is told to keep the name.
    grep -rqs '^ *preserve_hostname: *[Tt]rue' /etc/cloud || {
        empty /etc/hostname
        : >>/etc/hostname
    }
fi

# What was typed, and what programs keep of it, in every home.
homes() {
    getent passwd | cut -d: -f6
    for home in /root /home/*; do echo "$home"; done
}
homes | sort -u | while read -r home; do
    case $home in
        /?*) if [ ! -d "$home" ]; then continue; fi ;;
        *) continue ;;
    esac
    none "$home"/.*_history "$home"/.*_history-*.tmp "$home"/.*hist "$home"/.histfile "$home"/.lesshst "$home"/.viminfo \
        "$home"/.wget-hsts "$home"/.local/share/fish/fish_history "$home"/.local/share/nano/search_history \
        "$home"/.local/state/bash/history "$home"/.local/state/less/history "$home"/.local/state/zsh/history
done

# What package managers have fetched. apt wants its directories.
nothing_in /var/cache/apt archives
nothing_in /var/cache/apt/archives partial lock
nothing_in /var/cache/apt/archives/partial
nothing_in /var/lib/apt/lists partial lock
nothing_in /var/lib/apt/lists/partial
for cache in dnf libdnf5 yum zypp PackageKit pacman/pkg; do nothing_in "/var/cache/$cache"; done

# Core dumps are what was in the memory of a program.
for dumps in /var/lib/systemd/coredump /var/lib/systemd/pstore /var/crash; do nothing_in "$dumps"; done

if is_live; then journalctl --relinquish-var; fi
nothing_in /var/log/journal
# Of the other logs those that have been put away go, and those that are written to are emptied. Directories stay: a program
# that finds none does not log.
find /var/log -xdev -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.bz2' -o -name '*.zst' -o -name '*.old' -o -name '*.[0-9]' \
    -o -name '*.[0-9][0-9]' -o -name '*-20[0-9][0-9][0-9][0-9][0-9][0-9]' \) -exec sh -c '
    for log; do rm -f "$log" && echo "removed $log" || exit 1; done' sh {} +
find /var/log -xdev -type f -size +0 -exec sh -c '
    for log; do : >"$log" && echo "emptied $log" || exit 1; done' sh {} +
# What is deleted is no longer on the disk, where the disk can forget.
if is_live && command -v fstrim >/dev/null; then fstrim -a || :; fi
sync
echo 'this machine is sealed: shut it down, and do not boot it again before its disk is an image'
