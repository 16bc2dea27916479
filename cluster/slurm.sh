#!/usr/bin/env bash
# A training on Slurm: a Ray cluster over the nodes of the allocation for the length of the job.
#
#   sbatch cluster/slurm.sh train jobs/nih-resnet34.yaml dataset=/scratch/nih-256 out=/scratch/runs/nih train.workers=4
#
# What is given behind the script's name goes to ray-cxr. Films, `out` and this folder must lie where all nodes see
# them. Two minutes before the time is up the job is put back into the queue, and goes on from its last checkpoint.
#SBATCH --job-name=ray-cxr
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=ray-cxr-%j.log
set -euo pipefail

[ "$#" -gt 0 ] || { echo "slurm.sh: give a command of ray-cxr, as in: sbatch slurm.sh train JOB" >&2; exit 2; }
# shellcheck source=/dev/null
[ -z "${RAY_CXR_VENV:-}" ] || . "$RAY_CXR_VENV/bin/activate"

# Several jobs may share a node, so that each takes ports, folders and a token of its own.
port=$((20000 + SLURM_JOB_ID % 20000))
shared=${SLURM_SUBMIT_DIR:-$PWD}/.ray-cxr-$SLURM_JOB_ID
mkdir -p "$shared" && chmod 700 "$shared"
(umask 077 && od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$shared/token")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$shared/token RAY_USAGE_STATS_ENABLED=0
export RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=60
# Ray opens its folder to all users of a node, so it lies in one that is closed; short: paths of sockets may have 107 characters.
closed=/tmp/rcxr-$SLURM_JOB_ID
export RAY_TMPDIR=$closed/ray

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
on() { srun --nodes=1 --ntasks=1 --overlap --nodelist="$1" "${@:2}"; }
head_address=$(on "$head" hostname --ip-address | awk '{ for (i = 1; i <= NF; i++) if ($i !~ /:/) { print $i; exit } }')

gpus=${SLURM_GPUS_ON_NODE:-0}
started=()
start() { # start NODE OPTION …: Ray on a node, in the background, ended with its srun
  # shellcheck disable=SC2016  # the node's shell expands it
  on "$1" bash -c 'mkdir -p "$0" && chmod 700 "$0" && exec "$@"' "$closed" \
    ray start --block --temp-dir="$RAY_TMPDIR" --disable-usage-stats --num-cpus="${SLURM_CPUS_PER_TASK:-1}" \
    --num-gpus="$gpus" "${@:2}" >>"$shared/$1.log" 2>&1 &
  started+=($!)
}

# shellcheck disable=SC2317,SC2329  # the trap calls it
finish() {
  trap - EXIT
  kill "${started[@]}" 2>/dev/null || true
  wait || true
  rm -rf "$shared"
}
trap finish EXIT

wait_for() { # wait_for NODE: until Ray runs there
  local tries
  for ((tries = 0; tries < ${RAY_CXR_START_S:-300}; tries++)); do
    ! grep -qs "Ray runtime started" "$shared/$1.log" || return 0
    sleep 1
  done
  echo "slurm.sh: Ray has not started on $1; its log ends:" >&2
  tail -n 5 "$shared/$1.log" >&2
  exit 1
}

start "$head" --head --node-ip-address="$head_address" --port="$port" --dashboard-host=127.0.0.1
wait_for "$head"
for node in "${nodes[@]:1}"; do start "$node" --address="$head_address:$port"; done
for node in "${nodes[@]:1}"; do wait_for "$node"; done

on "$head" env RAY_ADDRESS="$head_address:$port" ray-cxr "$@" &
command=$!
# shellcheck disable=SC2317,SC2329  # the trap calls it
requeue() {
  echo "slurm.sh: the time is nearly up; the job goes back into the queue" >&2
  kill -INT "$command" 2>/dev/null || true
  scontrol requeue "$SLURM_JOB_ID"
}
trap requeue USR1
code=0
wait "$command" || code=$?
# A trapped signal ends `wait` early, though the command still runs.
while kill -0 "$command" 2>/dev/null; do
  code=0
  wait "$command" || code=$?
done
exit "$code"
