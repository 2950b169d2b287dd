#!/bin/sh
# The node of a cluster: containerd and the kubelet, as process 1 of namespaces of their own. When it ends, by itself or by the
# kernel's hand, every container and every mount goes with it.
#
#   unshare --mount --propagation private --pid --fork --kill-child --mount-proc node.sh DIR KUBE ADDRESS
set -eu
dir=$1 kube=$2 address=$3

# What containerd, CNI and the kubelet write outside of their folders, whatever they are told.
mount --make-rshared /
for folder in /run /var/lib /var/log; do mount -t tmpfs none "$folder"; done

# The kubelet sets these for the whole machine; here it sets a copy.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys \
  kernel/keys/root_maxbytes; do
  [ -e "/proc/sys/$setting" ] || continue
  copy=$dir/sysctl/$setting
  mkdir -p "${copy%/*}"
  cat "/proc/sys/$setting" >"$copy"
  mount --bind "$copy" "/proc/sys/$setting"
done

containerd -c "$dir/containerd.toml" >"$dir/containerd.log" 2>&1 &
until [ -S "$dir/containerd.sock" ]; do sleep 0.05; done
"$kube" kubelet --config "$dir/kubelet.yaml" --kubeconfig "$dir/kubeconfig" --root-dir "$dir/kubelet" \
  --cert-dir "$dir/certs/kubelet" --hostname-override localhost --node-ip "$address" &
wait $!
