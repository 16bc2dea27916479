#!/usr/bin/env bash
# Tells Ray that this node will be taken away, and waits until it is empty, or for so many seconds.
#
#   cluster/drain.sh 80
#
# Kubernetes calls it before it ends a pod (preStop); on other spot machines call it when the provider gives notice.
# Ray starts nothing more here, and a training moves on from its last checkpoint instead of finding a node dead.
set -euo pipefail

seconds=${1:?give the seconds that are left, as in: drain.sh 80}
ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "the provider takes this node back" \
  --deadline-remaining-seconds "$seconds"
# Once nothing runs on a draining node its raylet ends by itself.
for ((waited = 0; waited < seconds; waited++)); do
  pgrep -x raylet >/dev/null || exit 0
  sleep 1
done
