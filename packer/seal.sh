#!/bin/sh
# Seals the machine that an image is built on: removes everything specific to this machine.
#
#   packer/seal.sh --build-machine
#
# The machine's id (left empty, so that each machine gets its own; see machine-id(5)), farewell's records and kept
# facts, the journal and all logs, core dumps, the random seeds, systemd's secret for credentials and the credentials in
# /etc/credstore and /etc/credstore.encrypted, leases, login records, histories of shells and other programs, package
# caches, and with cloud-init its state and the host name. The SSH host keys, too, but only if the image creates new
# ones. Each path is listed: "removed", or "emptied" if the file itself stays, with its owner and mode.
#
# Provide credentials at boot, not in the image, which everybody with access to it can read.
#
# Run it last, before the machine is shut down: from here on its journal is in memory, and no new login is possible. An
# interactive shell writes its history when it ends: run `unset HISTFILE` in it first.
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
    *) fail 64 "this removes this machine's identity: pass --build-machine to confirm; see $0 --help" ;;
esac
[ "$(id -u)" = 0 ] || fail 77 'only root can seal a machine'

is_live() { [ -d /run/systemd/system ]; }

# none PATH...: removes what exists; patterns that match nothing are ignored.
none() {
    for path in "$@"; do
        if [ -e "$path" ] || [ -L "$path" ]; then
            rm -rf "$path"
            echo "removed $path"
        fi
    done
}

# nothing_in DIRECTORY [NAME...]: removes its content except these names; does not follow a link.
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

# empty FILE...: truncates what exists and is not empty; programs that have it open can continue.
empty() {
    for path in "$@"; do
        if [ -f "$path" ] && [ ! -L "$path" ] && [ -s "$path" ]; then
            : >"$path"
            echo "emptied $path"
        fi
    done
}

# No farewell, which would otherwise run at the shutdown of a build machine that has booted with farewell.
if is_live; then
    mkdir -p /run/farewell
    : >/run/farewell/skip
    nothing_in /run/farewell skip
else
    none /run/farewell
fi
none /var/lib/farewell

# Empty, not "uninitialized": that would make the next boot a first one, which presets all units and so overrides what
# the build has enabled or disabled.
empty /etc/machine-id
: >>/etc/machine-id
[ -L /var/lib/dbus/machine-id ] || none /var/lib/dbus/machine-id

# Stopped first, since it writes a new one when it stops.
if is_live; then systemctl stop systemd-random-seed.service; fi
none /var/lib/systemd/random-seed /boot/loader/random-seed /boot/efi/loader/random-seed /efi/loader/random-seed

# Encrypted ones depend on this machine's secret, which is removed, too.
none /var/lib/systemd/credential.secret
nothing_in /etc/credstore
nothing_in /etc/credstore.encrypted

none /var/lib/dhcp/*.lease* /var/lib/NetworkManager/*.lease /var/lib/NetworkManager/secret_key

# makes_keys: whether something in the image creates missing SSH host keys.
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
    echo 'seal.sh: the SSH host keys stay, since nothing here would create new ones: all machines of this image have the same' >&2
fi

if command -v cloud-init >/dev/null; then
    # Also removes what it has written elsewhere for this machine, if this version can.
    if cloud-init clean --help | grep -q -- --configs; then
        cloud-init clean --logs --configs all
    else
        cloud-init clean --logs
    fi
    echo "removed cloud-init's state and logs"
    # It sets each machine's name, unless configured to keep it.
    grep -rqs '^ *preserve_hostname: *[Tt]rue' /etc/cloud || {
        empty /etc/hostname
        : >>/etc/hostname
    }
fi

# Histories of shells and programs, in every home.
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

# Package caches. apt needs its directories.
nothing_in /var/cache/apt archives
nothing_in /var/cache/apt/archives partial lock
nothing_in /var/cache/apt/archives/partial
nothing_in /var/lib/apt/lists partial lock
nothing_in /var/lib/apt/lists/partial
for cache in dnf libdnf5 yum zypp PackageKit pacman/pkg; do nothing_in "/var/cache/$cache"; done

# Core dumps contain the memory of a program.
for dumps in /var/lib/systemd/coredump /var/lib/systemd/pstore /var/crash; do nothing_in "$dumps"; done

if is_live; then journalctl --relinquish-var; fi
nothing_in /var/log/journal
# Rotated logs are removed, and current ones truncated. Directories stay: some programs do not log without them.
find /var/log -xdev -type f \( -name '*.gz' -o -name '*.xz' -o -name '*.bz2' -o -name '*.zst' -o -name '*.old' -o -name '*.[0-9]' \
    -o -name '*.[0-9][0-9]' -o -name '*-20[0-9][0-9][0-9][0-9][0-9][0-9]' \) -exec sh -c '
    for log; do rm -f "$log" && echo "removed $log" || exit 1; done' sh {} +
find /var/log -xdev -type f -size +0 -exec sh -c '
    for log; do : >"$log" && echo "emptied $log" || exit 1; done' sh {} +
# Discards deleted blocks, if the disk supports that.
if is_live && command -v fstrim >/dev/null; then fstrim -a || :; fi
sync
echo 'this machine is sealed: shut it down, and do not boot it again before its disk is an image'
