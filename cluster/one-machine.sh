#!/usr/bin/env bash
# A Ray cluster of several nodes on one machine, to try what a cluster does before there is one.
#
#   cluster/one-machine.sh up [NODES]      a head and NODES workers (2), each with an address of its own
#   cluster/one-machine.sh run COMMAND …   a command on the head's node, with RAY_ADDRESS and the token set
#   cluster/one-machine.sh status          the nodes, their addresses and how many processes each has
#   cluster/one-machine.sh lose N          kills all of node N at once, as a power cut would
#   cluster/one-machine.sh add             brings up another node
#   cluster/one-machine.sh down            ends all of it, and nothing else
#
# As root with iproute2, every node is a network namespace with an address 10.77.0.x, joined by a bridge that has a
# namespace of its own too, so that nothing of the machine's network is touched. Otherwise nodes have addresses
# 127.0.0.x. Strangers are kept out by Ray's token, which lies in DIR/token (0600).
#
# From the environment: DIR (/tmp/rcxr-<user id>; short, since paths of sockets may have 107 characters), CPUS (2) and
# GPUS (0) that each worker says it has, HEAD_CPUS (1), STORE_MIB (200), NAMESPACES (yes or no; by default what is
# possible), RAY (ray).
set -euo pipefail

DIR=${DIR:-/tmp/rcxr-$(id -u)}
CPUS=${CPUS:-2}
GPUS=${GPUS:-0}
HEAD_CPUS=${HEAD_CPUS:-1}
STORE_MIB=${STORE_MIB:-200}
RAY=${RAY:-ray}
PORT=6379
WAIT_S=300

say() { echo "$*" >&2; }
fail() {
  say "one-machine.sh: $*"
  exit 2
}

namespaces_possible() {
  [ "$(id -u)" = 0 ] && command -v ip >/dev/null && ip netns add "rcxr-try-$$" 2>/dev/null && ip netns del "rcxr-try-$$"
}

in_namespaces() { [ -e "$DIR/namespaces" ]; }

namespace() { echo "rcxr-$(basename "$DIR")-$1"; } # of node N, or of the bridge

address() { # of node N: the head is node 0
  if in_namespaces; then echo "10.77.0.$((10 + $1))"; else echo "127.0.0.$((10 + $1))"; fi
}

on_node() { # on_node N COMMAND …
  local node=$1
  shift
  if in_namespaces; then ip netns exec "$(namespace "$node")" "$@"; else "$@"; fi
}

pids_of() { # pids_of N: every process of a node carries the node's mark in its environment
  grep -lzFx "RAY_CXR_NODE=$DIR/node-$1" /proc/[0-9]*/environ 2>/dev/null | tr -dc '0-9\n' || true
}

nodes() { # numbers of the nodes that were brought up, the head first
  local folder
  for folder in "$DIR"/node-*; do
    [ -d "$folder" ] && echo "${folder##*-}"
  done | sort -n
}

environment() {
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$DIR/token RAY_ADDRESS
  RAY_ADDRESS="$(address 0):$PORT"
  # A node that died is known to be dead after some 5 s, not 30; a busy machine may take its time to start one.
  export RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=2000 RAY_health_check_failure_threshold=3
  export RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S=60
  export RAY_raylet_start_wait_time_s=$WAIT_S RAY_agent_register_timeout_ms=${WAIT_S}000 RAY_USAGE_STATS_ENABLED=0
  # Sockets of the nodes stand in the common file system; the head's is the one to join.
  export RAY_TMPDIR=$DIR/node-0
}

lay_bridge() {
  local bridge
  bridge=$(namespace bridge)
  ip netns add "$bridge"
  ip -n "$bridge" link add rcxr0 type bridge
  ip -n "$bridge" address add 10.77.0.1/24 dev rcxr0
  ip -n "$bridge" link set rcxr0 up
}

lay_cable() { # lay_cable N: a namespace for the node, joined to the bridge; the bridge forwards nothing further
  local node=$1 place bridge
  place=$(namespace "$node") bridge=$(namespace bridge)
  ip netns add "$place"
  ip -n "$bridge" link add "node$node" type veth peer name eth0 netns "$place"
  ip -n "$bridge" link set "node$node" master rcxr0 up
  ip -n "$place" link set lo up
  ip -n "$place" address add "$(address "$node")/24" dev eth0
  ip -n "$place" link set eth0 up
  # Ray finds its own address by the route that it would take to the internet.
  ip -n "$place" route add default via 10.77.0.1
  # Names of all nodes, in place of /etc/hosts there: torch asks for them, and a name server cannot be reached.
  mkdir -p "/etc/netns/$place"
  {
    echo "127.0.0.1 localhost"
    echo "$(address "$1") $(hostname)"
    for ((node = 0; node < 90; node++)); do echo "10.77.0.$((10 + node)) node-$node"; done
  } >"/etc/netns/$place/hosts"
  echo "options timeout:1 attempts:1" >"/etc/netns/$place/resolv.conf"
}

cut_cable() { # cut_cable N: of a node, or of the bridge
  local place
  place=$(namespace "$1")
  ip netns del "$place" 2>/dev/null || true
  rm -rf "/etc/netns/$place"
}

start_node() { # start_node N OPTION …
  local node=$1 folder=$DIR/node-$1
  shift
  mkdir -p "$folder"
  if in_namespaces; then lay_cable "$node"; fi
  RAY_CXR_NODE=$folder RAY_TMPDIR=$folder on_node "$node" setsid "$RAY" start --block \
    --node-ip-address="$(address "$node")" --object-store-memory=$((STORE_MIB * 1048576)) \
    --temp-dir="$folder" --disable-usage-stats --metrics-export-port=$((20080 + node)) \
    --dashboard-agent-listen-port=$((20280 + node)) --dashboard-agent-grpc-port=$((20480 + node)) \
    --runtime-env-agent-port=$((20680 + node)) "$@" >"$folder/log" 2>&1 </dev/null &
  disown
}

start_worker() { start_node "$1" --address="$RAY_ADDRESS" --num-cpus="$CPUS" --num-gpus="$GPUS"; }

started() { grep -q "Ray runtime started" "$DIR/node-$1/log" 2>/dev/null; }

wait_for() { # wait_for NODE: until it has started
  local begun=$SECONDS
  until started "$1"; do
    if ((SECONDS - begun > WAIT_S)) || { ((SECONDS - begun > 3)) && [ -z "$(pids_of "$1")" ]; }; then
      say "node $1 has not started; its log is $DIR/node-$1/log, and ends:"
      tail -n 3 "$DIR/node-$1/log" >&2
      exit 1
    fi
    sleep 0.5
  done
}

up() {
  local workers=${1:-2} node
  [ "${#DIR}" -le 30 ] || fail "DIR: $DIR is too long for the sockets below it; give one of at most 30 characters"
  [ -z "$(nodes)" ] || fail "DIR: $DIR has a cluster; end it with: $0 down"
  command -v "$RAY" >/dev/null || fail "RAY: no command $RAY; activate the environment that has Ray"
  mkdir -p "$DIR" && chmod 700 "$DIR"
  if [ "${NAMESPACES:-}" = yes ] || { [ -z "${NAMESPACES:-}" ] && namespaces_possible; }; then
    touch "$DIR/namespaces"
    lay_bridge
  fi
  (umask 077 && od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$DIR/token")
  environment
  start_node 0 --head --port="$PORT" --num-cpus="$HEAD_CPUS" --dashboard-host=127.0.0.1 --include-dashboard=true
  wait_for 0
  for ((node = 1; node <= workers; node++)); do
    start_worker "$node"
    wait_for "$node"
  done
  status
}

add() {
  local node
  node=$(($(nodes | tail -n 1) + 1))
  environment
  start_worker "$node"
  wait_for "$node"
  status
}

lose() { # lose N
  local pids
  [ "${1:-0}" != 0 ] || fail "lose: give the number of a worker node"
  mapfile -t pids < <(pids_of "$1")
  [ "${#pids[@]}" -gt 0 ] || fail "lose: node $1 has no process"
  kill -KILL "${pids[@]}" 2>/dev/null || true
  if in_namespaces; then cut_cable "$1"; fi
  say "node $1 is lost: ${#pids[@]} processes killed"
}

status() {
  local node
  for node in $(nodes); do
    echo "node $node  $(address "$node")  $(pids_of "$node" | wc -l) processes"
  done
  echo "RAY_ADDRESS=$(address 0):$PORT"
}

run() {
  [ -e "$DIR/node-0" ] || fail "run: $DIR has no cluster; bring one up with: $0 up"
  environment
  on_node 0 "$@"
}

signal_all() { # signal_all SIGNAL: to every process of every node; false where there is none
  local pids node
  mapfile -t pids < <(for node in $(nodes); do pids_of "$node"; done)
  [ "${#pids[@]}" -gt 0 ] || return 1
  kill -"$1" "${pids[@]}" 2>/dev/null || true
}

down() {
  local node tries
  signal_all TERM || true
  for ((tries = 0; tries < 20; tries++)); do
    signal_all 0 || break
    sleep 0.25
  done
  while signal_all KILL; do sleep 0.1; done
  if in_namespaces; then
    for node in $(nodes) bridge; do cut_cable "$node"; done
  fi
  rm -rf "${DIR:?}"
}

case "${1:-}" in
  up | add | lose | status | run | down) "$@" ;;
  *)
    sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
