#!/usr/bin/env bash
# A Slurm cluster of two nodes on this machine, for the tests: as root, on a machine that may be thrown away.
#
#   apt-get install slurm-wlm munge
#   tests/launch/slurm/setup.sh start FOLDER     then: export SLURM_CONF=FOLDER/slurm.conf
#   tests/launch/slurm/setup.sh stop FOLDER
#
# PROCTRACK=linuxproc (default): a signal goes to every process of a task; cgroup, as on most clusters: to its first
# process only. The latter wants control groups of version 1, with the freezer.
#
# The nodes are called n1 and n2; a line in /etc/hosts makes them known, because JAX looks for the first one by its name.
set -euo pipefail
action=${1:-} folder=$(realpath -m "${2:?give a folder}")

configure() {
  mkdir -p "$folder"/{state,n1,n2}
  cat > "$folder/slurm.conf" << CONF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=17100
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/${PROCTRACK:-linuxproc}
TaskPlugin=task/none
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=5,sched_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=10
NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=17101 CPUs=4 RealMemory=1000
NodeName=n2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=17102 CPUs=4 RealMemory=1000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
  cat > "$folder/cgroup.conf" << CONF
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CONF
  grep -q ' n1 n2$' /etc/hosts || echo '127.0.0.1 n1 n2' >> /etc/hosts
}

start() {
  configure
  if ! munge -n > /dev/null 2>&1; then # Debian's package has made the key
    mkdir -p /run/munge && chown munge: /run/munge
    runuser -u munge -- /usr/sbin/munged
  fi
  export SLURM_CONF=$folder/slurm.conf
  slurmctld
  slurmd -N n1
  slurmd -N n2
  for _ in {1..60}; do
    [[ $(sinfo --noheader --format=%T 2> /dev/null) != idle ]] || exit 0
    sleep 0.5
  done
  sinfo >&2
  exit 1
}

stop() {
  local file
  for file in "$folder"/{n1,n2,slurmctld}.pid; do
    [[ ! -f $file ]] || kill "$(< "$file")" 2> /dev/null || true
  done
}

case $action in
  start | stop) "$action" ;;
  *)
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
