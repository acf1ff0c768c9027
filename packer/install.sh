#!/bin/sh
# Installs farewell on this machine or, with DESTDIR, in the root file system below that directory.
#
#   packer/install.sh [--binary FILE] [--config FILE] [--conf-dir DIR]
#   packer/install.sh --uninstall
#
#   --binary FILE    the program; default: `farewell` beside this script's folder (a release), or target/release/farewell
#   --config FILE    becomes /etc/farewell/farewell.toml; default: the sample, and only where there is no configuration
#   --conf-dir DIR   its *.toml become drop-ins, /etc/farewell/conf.d/*.toml
#   --stage          for packages: nothing is enabled and the configuration is not checked
#   --uninstall      removes what was installed, except the configuration and the records
#
# It enables the units and starts none: an image build must not become a member that leaves. Files that are up to date
# are not touched, so that running it again changes nothing. It ends with `farewell check --image`, and its exit code:
# 0, or 78 if the configuration is wrong.
#
# Directories come from systemd-path(1) unless set in the environment: unitdir, generatordir, presetdir, catalogdir;
# also prefix (/usr) and zshdir.
set -eu

# Everybody may read what is installed, whatever root's umask is.
umask 022
root=${DESTDIR:-}
root=${root%/}
source=$(CDPATH='' cd "$(dirname "$0")/.." && pwd)
program='' config='' conf_dir='' stage='' uninstall=''

fail() {
    echo "install.sh: $2" >&2
    exit "$1"
}

while [ $# -gt 0 ]; do
    case $1 in
        --binary | --config | --conf-dir)
            [ $# -ge 2 ] || fail 64 "$1 needs a value"
            case $1 in
                --binary) program=$2 ;;
                --config) config=$2 ;;
                --conf-dir) conf_dir=$2 ;;
            esac
            shift
            ;;
        --stage) stage=1 ;;
        --uninstall) uninstall=1 ;;
        -h | --help)
            sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *) fail 64 "unknown argument '$1'; see $0 --help" ;;
    esac
    shift
done

# asked NAME: the directory that systemd-path(1) has for this name.
asked() {
    systemd-path "$1" 2>/dev/null || fail 69 "systemd-path does not know $1: farewell needs systemd 247 or later"
}

prefix=${prefix:-/usr}
unitdir=${unitdir:-$(asked systemd-system-unit)}
generatordir=${generatordir:-$(asked systemd-system-generator)}
presetdir=${presetdir:-$(asked systemd-system-preset)}
catalogdir=${catalogdir:-$(asked catalog)}
if [ -z "${zshdir:-}" ]; then
    zshdir=$prefix/share/zsh/site-functions
    [ ! -e "$root/etc/debian_version" ] || zshdir=$prefix/share/zsh/vendor-completions
fi
etc=/etc/farewell
enabled='farewell.service farewell-arm.service'

# Whether the running systemd uses the files that are changed here.
is_live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# README.md with links to what is installed beside it.
readme=$source/README.md rendered=''
if [ -f "$readme" ]; then
    rendered=$(mktemp)
    readme=$rendered
    trap 'rm -f "$rendered"' EXIT
    sed -e 's,](units/manual/,](manual/,g' -e 's,\[\([^]]*\)](\(units\|packer\)/[^)]*),\1,g' -e 's,\[\([^]]*\)](SECURITY.md),\1,g' \
        "$source/README.md" >"$readme"
fi

# every DO: calls DO with mode, source and destination of each file except the configuration.
every() {
    "$1" 755 "$program" "$prefix/bin/farewell"
    each "$1" "$unitdir" "$source"/units/*.service "$source"/units/*.timer
    each "$1" "$presetdir" "$source"/units/*.preset
    each "$1" "$catalogdir" "$source"/units/*.catalog
    each "$1" "$prefix/share/dbus-1/system.d" "$source"/units/org.farewell.*.conf
    each "$1" "$prefix/share/doc/farewell" "$source/units/strict.conf" "$source/CHANGELOG.md"
    "$1" 644 "$readme" "$prefix/share/doc/farewell/README.md"
    each "$1" "$prefix/share/doc/farewell/manual" "$source"/units/manual/*.md
    each "$1" "$prefix/share/man/man5" "$source"/units/manual/*.5
    each "$1" "$prefix/share/man/man8" "$source"/units/manual/*.8
    each "$1" "$prefix/share/farewell" "$source"/units/*.schema.json
    "$1" 644 "$source/units/completions/farewell.bash" "$prefix/share/bash-completion/completions/farewell"
    each "$1" "$zshdir" "$source/units/completions/_farewell"
    each "$1" "$prefix/share/fish/vendor_completions.d" "$source/units/completions/farewell.fish"
    "$1" 644 "$source/LICENSE" "$prefix/share/doc/farewell/copyright"
    # packer/packages/release puts the licences of what is linked into the program beside it.
    licenses=$(dirname "$program")/third-party-licenses.txt
    do=$1
    [ -f "$licenses" ] || do=take
    "$do" 644 "$licenses" "$prefix/share/doc/farewell/third-party-licenses.txt"
}

each() {
    do=$1 to=$2
    shift 2
    for file in "$@"; do "$do" 644 "$file" "$to/${file##*/}"; done
}

changed=''
changes() {
    changed=1
    echo "$1"
}

# mode_of FILE: the mode for a configuration that replaces FILE: readable for no more users than before.
mode_of() {
    case $(stat -L -c %a "$1") in
    *00) echo 600 ;;
    *0) echo 640 ;;
    *) echo 644 ;;
    esac
}

# put MODE FROM TO: installs a file atomically.
put() {
    [ -f "$2" ] || fail 66 "$2 is missing"
    if cmp -s "$2" "$root$3" && [ "$(stat -c %a "$root$3")" = "$1" ]; then return; fi
    mkdir -p "$root${3%/*}"
    cp "$2" "$root$3.new"
    chmod "$1" "$root$3.new"
    mv -f "$root$3.new" "$root$3"
    changes "installed $3"
}

# take MODE FROM TO: removes an installed file.
take() {
    [ -e "$root$3" ] || [ -L "$root$3" ] || return 0
    rm -f "$root$3"
    changes "removed $3"
}

link() {
    [ "$(readlink "$root$2" 2>/dev/null)" != "$1" ] || return 0
    mkdir -p "$root${2%/*}"
    ln -sfn "$1" "$root$2"
    changes "installed $2"
}

systemctl_there() {
    if [ -z "$root" ]; then systemctl --quiet "$@"; else systemctl --quiet --root="$root" "$@"; fi
}

# Reloads what the machine caches of changed files.
reread() {
    [ -n "$changed" ] && [ -z "$stage" ] || return 0
    if [ -z "$root" ]; then journalctl --update-catalog; else journalctl --root="$root" --update-catalog; fi
    if is_live; then systemctl daemon-reload; fi
}

# Stops the units without a farewell, unless the whole machine is going down.
forget() {
    skip=/run/farewell/skip
    if [ ! -e "$skip" ] && [ "$(systemctl is-system-running || :)" != stopping ]; then
        mkdir -p "${skip%/*}"
        : >"$skip"
        trap 'rm -f "$skip" "$rendered"' EXIT
    fi
    # Waits for a run in progress.
    for unit in $enabled farewell-rehearse.timer; do
        if systemctl --quiet is-active "$unit"; then systemctl stop "$unit"; fi
    done
}

remove() {
    if is_live; then forget; fi
    if [ -e "$root$unitdir/farewell.service" ]; then
        # shellcheck disable=SC2086
        systemctl_there disable $enabled farewell-rehearse.timer
    fi
    every take
    take - - "$generatordir/farewell-generator"
    for folder in doc/farewell/manual doc/farewell farewell; do
        rmdir "$root$prefix/share/$folder" 2>/dev/null || :
    done
    reread
    echo "farewell is removed; $root$etc and $root/var/lib/farewell are kept"
}

# Checks before any change.
look() {
    [ -f "$program" ] || fail 66 "$program is missing: it is the farewell binary, which cargo build --release makes, or --binary names"
    [ -z "$config" ] || [ -f "$config" ] || fail 66 "$config is missing: it is to become $etc/farewell.toml"
    [ -n "$conf_dir" ] || return 0
    for file in "$conf_dir"/*.toml; do
        [ -f "$file" ] || fail 66 "$file is missing: --conf-dir names a folder of drop-ins"
    done
}

install_all() {
    look
    every put
    link "$prefix/bin/farewell" "$generatordir/farewell-generator"
    if [ -n "$config" ]; then
        put "$(mode_of "$config")" "$config" "$etc/farewell.toml"
    elif [ ! -e "$root$etc/farewell.toml" ]; then
        put 644 "$source/units/farewell.toml" "$etc/farewell.toml"
    fi
    if [ -n "$conf_dir" ]; then
        for file in "$conf_dir"/*.toml; do put "$(mode_of "$file")" "$file" "$etc/conf.d/${file##*/}"; done
    fi
    [ -z "$stage" ] || return 0
    for unit in $enabled; do
        systemctl_there is-enabled "$unit" >/dev/null 2>&1 && continue
        systemctl_there enable "$unit"
        changes "enabled $unit"
    done
    reread
    [ -n "$changed" ] || echo 'everything is up to date: nothing was changed'
    if is_live && ! systemctl --quiet is-active farewell.service; then
        echo 'it is active from the next boot on; on this boot: systemctl start farewell'
    fi
    if [ -z "$root" ]; then
        "$prefix/bin/farewell" check --image
    else
        chroot "$root" "$prefix/bin/farewell" check --image
    fi
}

if [ -n "$uninstall" ]; then
    remove
else
    if [ -z "$program" ]; then
        program=$source/farewell
        [ -e "$program" ] || program=$source/target/release/farewell
    fi
    install_all
fi
