#!/bin/sh
# keep.sh DIR GROUP ROOT LAYER: keeps the files of one machine over its boots, in a mount namespace of its own, until its
# standard input ends: with the test, however that ends. Then it ends every process of the machine, and removes its control
# group and DIR.
set -eu
dir=$1 group=$2 root=$3 layer=$4
trap '' INT TERM HUP

remove() {
    set +e
    # Kernels before 5.14 have no cgroup.kill; with PID 1 everything in its namespace ends.
    echo 1 >"$group/cgroup.kill" || kill -KILL $(cat "$group/init.scope/cgroup.procs" "$group/cgroup.procs")
    left=600
    while [ -d "$group" ] && [ $left -gt 0 ]; do
        find "$group" -depth -type d -exec rmdir {} +
        left=$((left - 1))
        [ ! -d "$group" ] || sleep 0.1
    done
    cd /
    # It ignores TERM, as this shell does.
    kill -KILL "$kmsg"
    umount -l "$dir/fs/root" "$dir/fs"
    rm -rf "$dir"
}
kmsg=''
trap 'remove 2>/dev/null' EXIT

mkdir "$group" "$dir/fs"
mount -t tmpfs -o size=2g,mode=755 rig "$dir/fs"
mkdir "$dir/fs/upper" "$dir/fs/work" "$dir/fs/root"
tar -C "$dir/fs/upper" --xattrs --xattrs-include=trusted.overlay.opaque -xf "$layer"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$dir/fs/upper,workdir=$dir/fs/work" "$dir/fs/root"
cp -a "$dir/files/." "$dir/fs/root/"
# A pipe, since everybody who opens a file writes from its beginning.
mkfifo "$dir/kmsg.pipe"
cat <>"$dir/kmsg.pipe" >>"$dir/kmsg" &
kmsg=$!
: >"$dir/kept"
read -r _ || :
