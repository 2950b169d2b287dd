#!/bin/sh
# Makes the folder of a cluster and prints its path; once its owner has closed stdin, removes all that the cluster leaves on
# the machine. The kernel closes stdin however the owner ends, and has ended the cluster's processes by then (cluster.ts).
#
# The folder's number is also that of the bridge and the control groups (1ctl100) and of the pods' network (10.100.0.0/24).
set -u
base=/tmp/1ctl-clusters-$(id -u)

remove() { # remove NUMBER : the folder last, since with it the number is free for the next cluster
  for _ in $(seq 100); do
    ip link del "1ctl$1" 2>/dev/null
    find $(cgroups "1ctl$1") -depth -type d -exec rmdir {} + 2>/dev/null
    if [ ! -e "/sys/class/net/1ctl$1" ] && [ -z "$(cgroups "1ctl$1")" ]; then
      rm -rf "${base:?}/$1" 2>/dev/null && return
    fi
    sleep 0.1 # until the kernel has ended the last process
  done
  echo "A cluster of the tests left something behind: $base/$1, 1ctl$1 in 'ip link' or in /sys/fs/cgroup" >&2
}

cgroups() { # cgroups NAME : its folders, one for each hierarchy (v1) or one (v2)
  for group in /sys/fs/cgroup/"$1" /sys/fs/cgroup/*/"$1"; do
    if [ -d "$group" ]; then echo "$group"; fi
  done
}

in_use() { # in_use NUMBER : the machine itself has such a network
  ip -o address 2>/dev/null | grep -q " 10\.$1\."
}

# The owner's Ctrl-C is not ours: there is work left to do then.
trap '' HUP INT TERM
mkdir -p -m 700 "$base"
[ -O "$base" ] || { echo "$base belongs to someone else" >&2; exit 1; }

# Under this lock clusters begin; each one's own tells that its keeper lives.
exec 8>"$base/lock"
flock 8
for old in "$base"/[0-9]*; do
  if [ -d "$old" ] && flock -n "$old" true; then remove "${old##*/}"; fi
done
for try in $(seq 120); do
  # Not always the lowest, so that a number is not used again at once.
  number=$((100 + ($$ + try) % 120))
  if ! in_use "$number" && mkdir "$base/$number" 2>/dev/null; then break; fi
done
exec 9<"$base/$number"
flock -n 9 || { echo "All numbers for clusters are taken; see $base" >&2; exit 1; }
exec 8>&-
echo "$base/$number"

cat >/dev/null
remove "$number"
