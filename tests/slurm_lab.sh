#!/usr/bin/env bash
# A private Slurm on the loopback interface: munged, slurmctld and two slurmd with two pretended GPUs each.
#
#   tests/slurm_lab.sh up DIR PORT      start it; the slurmctld listens on PORT, the slurmd on the next two
#   tests/slurm_lab.sh down DIR         stop it and delete DIR
#
# Everything lies in DIR, which must be short (munge's socket allows 108 characters). Nothing is written to /etc and no system
# service is touched; SLURM_CONF=DIR/etc/slurm.conf leads the commands to it. Only processes that DIR's pid files name, and that
# bear the right program's name, are stopped.
set -euo pipefail
do=${1:?up or down} lab=${2:?a short folder}
export SLURM_CONF=$lab/etc/slurm.conf
nodes="n1 n2" cpus=4 gpus=2

# alive PIDFILE PROGRAM: a zombie does not count, for a container's first process may not reap.
alive() {
    local stat
    [ -s "$1" ] && stat=$(cat "/proc/$(cat "$1" 2>/dev/null)/stat" 2>/dev/null) && [[ $stat =~ ^[0-9]+\ \($2\)\ [^ZX] ]]
}

stop() {
    alive "$1" "$2" || return 0
    kill "$(cat "$1" 2>/dev/null)" 2>/dev/null || true
    for _ in $(seq 100); do alive "$1" "$2" || return 0; sleep 0.1; done
    kill -9 "$(cat "$1" 2>/dev/null)" 2>/dev/null || true
}

down() {
    grep -qsx ClusterName=regionwise-lab "$lab/etc/slurm.conf" || { echo "no Slurm of this script's in $lab"; return 0; }
    if alive "$lab/run/slurmctld.pid" slurmctld; then
        for partition in main high; do timeout 10 scancel --partition=$partition || true; done
        for _ in $(seq 60); do [ -n "$(timeout 5 squeue --noheader 2>/dev/null)" ] || break; sleep 0.5; done
    fi
    for node in $nodes; do stop "$lab/run/slurmd.$node.pid" slurmd; done
    stop "$lab/run/slurmctld.pid" slurmctld
    stop "$lab/run/munged.pid" munged
    rm -rf "$lab"
}

configure() {
    local host user
    host=$(hostname -s) user=$(id -un)
    mkdir -p "$lab"/{etc,log,run,state,dev,munge,spool.n1,spool.n2}
    chmod 755 "$lab"
    chmod 700 "$lab/munge"
    (umask 077 && dd if=/dev/urandom of="$lab/munge/key" bs=1 count=1024 status=none)
    # gres/gpu wants character devices; the digit at the end of the name becomes CUDA_VISIBLE_DEVICES.
    for ((gpu = 0; gpu < gpus; gpu++)); do ln -sfn /dev/null "$lab/dev/nvidia$gpu"; done
    printf 'AutoDetect=off\nNodeName=n[1-2] Name=gpu Type=fake File=%s/dev/nvidia[0-%d]\n' "$lab" $((gpus - 1)) >"$lab/etc/gres.conf"
    cat >"$SLURM_CONF" <<CONF
ClusterName=regionwise-lab
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
SlurmctldPort=$port
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it starts again; less than 5 counts as the default, 120.
AuthInfo=socket=$lab/run/munge.sock,cred_expire=5
StateSaveLocation=$lab/state
SlurmdSpoolDir=$lab/spool.%n
SlurmctldPidFile=$lab/run/slurmctld.pid
SlurmdPidFile=$lab/run/slurmd.%n.pid
SlurmctldLogFile=$lab/log/slurmctld.log
SlurmdLogFile=$lab/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
GresTypes=gpu
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=10
MinJobAge=86400
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=$cpus RealMemory=8000 Gres=gpu:fake:$gpus
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=$cpus RealMemory=8000 Gres=gpu:fake:$gpus
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
}

up() {
    local ready
    [ -z "$(ls -A "$lab" 2>/dev/null)" ] || { echo "$lab is not empty; name a new folder" >&2; return 2; }
    configure
    munged --force --key-file="$lab/munge/key" --socket="$lab/run/munge.sock" --pid-file="$lab/run/munged.pid" \
        --log-file="$lab/log/munged.log" --seed-file="$lab/munge/seed"
    slurmctld -f "$SLURM_CONF"
    for node in $nodes; do slurmd -f "$SLURM_CONF" -N "$node"; done
    for _ in $(seq 120); do
        ready=$(sinfo --noheader --Node --partition=main --format='%t' 2>/dev/null | grep -cx idle) || true
        [ "$ready" = 2 ] && return 0
        sleep 0.5
    done
    sinfo >&2 || true
    tail -n 20 "$lab"/log/*.log >&2
    down
    echo "Slurm did not come up in $lab" >&2
    return 1
}

case $do in
    up) port=${3:?a port} && up ;;
    down) down ;;
    *) echo "up or down, not $do" >&2; exit 2 ;;
esac
