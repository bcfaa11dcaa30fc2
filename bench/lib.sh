# Shared by the scripts of this folder: . "$(dirname "$0")/lib.sh"
# Launching ranks on shared memory or on an emulated network of hosts, one network namespace each.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${here%/*}/build/release
hosts=8
how="1 thread a rank, not bound, yielding when idle" # a bench that starts otherwise says so
host=spbench subnet=10.77.3 subnet6=fd77: # names of namespaces: spbench1, spbench2, ...; the switch is spbench0
shopt -s nullglob

# OpenBLAS picks its kernels and block sizes by itself; ranks that wait leave the core to others and are bound to none.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
export OMP_NUM_THREADS=1 OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_pml=ob1
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi

usage_error() {
  echo "$(basename "$0"): $1" >&2
  exit 64
}

# settle KEY=VALUE...: the last value of each key, in $settled; the program refuses keys that are set twice.
settle() {
  local word
  declare -A last=()
  for word in "$@"; do last[${word%%=*}]=$word; done
  settled=("${last[@]}")
}

need_program() {
  [ -x "$build/bench_sp" ] || usage_error "$build/bench_sp is missing: cmake --preset release && cmake --build --preset release"
}

# Where figures come from.
print_machine() {
  echo "processor    $(grep -m 1 '^model name' /proc/cpuinfo | sed 's/.*: //'), $(getconf _NPROCESSORS_ONLN) cores, $(awk '/MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo) GiB"
  echo "system       Linux $(uname -r), $(mpirun --version | head -n 1)"
  echo "products     $(OMPI_MCA_btl=self,vader mpirun -n 1 "$build/bench_sp" machine </dev/null)"
  echo "             OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE unset; $how"
  echo "load         $(cut -d ' ' -f 1-3 /proc/loadavg) before the first row"
  echo "commit       $(git -C "$here" describe --always --dirty 2>/dev/null || echo unknown)"
}

# ---- the network -------------------------------------------------------------------------------

# Why there is no emulated network here; nothing when there can be one.
no_network() {
  if [ "$(id -u)" != 0 ]; then
    echo 'it takes root'
  elif ! command -v ip >/dev/null || ! command -v tc >/dev/null; then
    echo 'ip and tc (iproute2) are missing'
  elif [ "$1" = rate ] && [ ! -e /proc/net/if_inet6 ]; then
    echo 'IPv6 is off'
  elif ! ip netns add "${host}test" 2>/dev/null; then
    echo 'network namespaces cannot be made here'
  else
    ip netns del "${host}test"
    [ "$1" = rate ] || [ -c /dev/net/tun ] || echo '/dev/net/tun is missing'
  fi
}

switch_pid=
network_down() {
  local i
  if [ -n "$switch_pid" ]; then kill "$switch_pid" && wait "$switch_pid" || true; fi
  switch_pid=
  for i in $(seq 0 "$hosts"); do ip netns del "$host$i" 2>/dev/null || true; done
}

# limit NAMESPACE DEVICE: 1 Gbit/s out of this end of a veth pair. Every packet costs a timer and a softirq on the cores that train, which no
# network card would: packets are as large as the kernel lets them be, 512 KiB, over IPv6 (over IPv4 they end at 64 KiB).
limit() {
  ip -n "$1" link set "$2" gso_max_size 524280
  tc -n "$1" qdisc add dev "$2" root tbf rate 1gbit burst 600kb latency 100ms
}

# A full-duplex link of 1 Gbit/s for each host: two hosts are joined by one veth pair, more by a bridge.
rate_up() {
  local i
  if [ "$hosts" = 2 ]; then
    ip link add e0 mtu 9000 netns "${host}1" type veth peer name e0 mtu 9000 netns "${host}2"
  else
    ip netns add "${host}0"
    ip -n "${host}0" link add br0 type bridge
    ip -n "${host}0" link set br0 up
  fi
  for i in $(seq "$hosts"); do
    if [ "$hosts" != 2 ]; then
      ip link add e0 mtu 9000 netns "$host$i" type veth peer name "p$i" mtu 9000 netns "${host}0"
      ip -n "${host}0" link set "p$i" master br0 up
      limit "${host}0" "p$i"
    fi
    limit "$host$i" e0
    ip -n "$host$i" addr add "$subnet6:$i/64" dev e0 nodad
    ip netns exec "$host$i" sysctl -qw net.ipv4.tcp_wmem='4096 16384 33554432' # a bucket and more
  done
  data=(--mca btl_tcp_if_include e0 --mca btl_tcp_disable_family 4)
}

# The same with a delay of $delay_us each way. Not every kernel has netem: a program forwards the frames.
delay_us=500
delay_up() {
  data=(--mca btl_tcp_if_include "$subnet.0/24")
  local names=() i
  for i in $(seq "$hosts"); do names+=("$host$i"); done
  exec 9< <(exec "$build/bench_tapnet" "$delay_us" 1000 "${names[@]}")
  switch_pid=$!
  read -r -u 9 -t 10 _ || usage_error 'the TAP switch did not start'
}

far_up() {
  delay_us=5000
  delay_up
}

# network_up rate|delay|far
network_up() {
  local i
  ! ip netns list | grep -q "^${host}1\b" || usage_error "there are namespaces ${host}N already: is another benchmark running? If not: bench/sp --down"
  trap network_down EXIT
  trap 'exit 130' INT TERM
  for i in $(seq "$hosts"); do ip netns add "$host$i"; done
  "$1_up"
  for i in $(seq "$hosts"); do
    ip -n "$host$i" addr add "$subnet.$i/24" dev e0
    ip -n "$host$i" link set e0 up
    ip -n "$host$i" link set lo up
  done
}

# ---- launching ---------------------------------------------------------------------------------

# launch WHERE RANKS WORDS...: bench_sp with these words; WHERE is memory or what network_up has set up.
launch() {
  local where=$1 ranks=$2 list='' i
  shift 2
  if [ "$where" = memory ]; then
    OMPI_MCA_btl=self,vader timeout -k 5 1200 mpirun -n "$ranks" "$build/bench_sp" "$@" </dev/null
    return
  fi
  for i in $(seq "$ranks"); do list+=",$host$i:1"; done
  timeout -k 5 1200 ip netns exec "${host}1" unshare --uts sh -c 'hostname "$1"; shift; exec "$@"' sh "${host}1" \
    mpirun --mca plm rsh --mca plm_rsh_agent "$here/agent.sh" --mca ras ^slurm --mca btl self,vader,tcp \
    "${data[@]}" --mca oob_tcp_if_include "$subnet.0/24" \
    --host "${list#,}" -n "$ranks" "$build/bench_sp" "$@" </dev/null
}
