#!/usr/bin/env bash
# A real Apache RocketMQ for tests: a name server and a broker as plain JVM processes on 127.0.0.1, everything they
# write below one folder.
#
#   rmq.sh up DIR [options]        start, wait until ready, write DIR/env.sh
#   rmq.sh down DIR                kill what `up` started
#   rmq.sh kill DIR NODE [SIGNAL]  signal one process: namesrv, broker or broker0... (default KILL)
#   rmq.sh restart DIR NODE        start one process again as it was, wait until it answers
#   touch DIR/run/disk-full        the disk is full, as brokers see it (after a minute, each 10 s), until the file is gone
#   rmq.sh leader DIR              the broker of a dledger group that leads now; fails if there is none
#   rmq.sh status DIR              one line per process: name, pid, state, memory
#   rmq.sh java DIR CLASS ARGS...  run a client of java/ (NAME_SERVER in ARGS: see DIR/env.sh)
#
# Options of `up`:
#   --version V     5.3.3 (default), 4.9.7, or defibus: a broker of 4.4.0 that stands in for DeFiBus' (see fetch.sh)
#   --mode M        single (default): one broker, the node "broker"; masters: two, broker0 and broker1; dledger: a group of
#                   three, broker0 to broker2
#   --tls DIR       brokers take TLS only, and name servers both, with DIR/server.pem and DIR/server.key (PKCS#8)
#   --acl           require access key rmqtest with secret key rmqtest-secret
#   --set K=V       any line of broker.conf; may repeat, wins over the defaults
#   --owner PID     take everything down when process PID is gone
#   --timeout S     seconds to wait for readiness (default 120)
#
# Only processes that this script started, by the pids in DIR/run, are ever signalled.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${RMQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weft-rocketmq}
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
host=127.0.0.1

die() { printf 'rmq: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,/^set -euo/{/^set -euo/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; }

# ---------------------------------------------------------------- processes

start_time() { # PID -> kernel start time, tells a reused pid from ours
  [ -r "/proc/$1/stat" ] || return 1
  sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
}

alive() { # NODE
  local pid started
  [ -f "$dir/run/$1.pid" ] || return 1
  read -r pid started <"$dir/run/$1.pid"
  [ "$(start_time "$pid" || true)" = "$started" ] || return 1
  [ "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f1)" != Z ]
}

pid_of() { local pid _; read -r pid _ <"$dir/run/$1.pid"; printf '%s' "$pid"; }

launch() { # NODE: runs the NUL-separated command line saved in DIR/run/NODE.argv
  local node=$1 argv pid preload=${LD_PRELOAD:-} shim
  mapfile -d '' argv <"$dir/run/$node.argv"
  for shim in loopback-bind full-disk; do
    if [ -f "$cache/$shim.so" ]; then preload="$cache/$shim.so${preload:+:$preload}"; fi
  done
  # A session of its own: Ctrl-C on the test does not reach the broker, `down` does.
  (cd "$dir" && exec env -u NAMESRV_ADDR ROCKETMQ_HOME="$dir/home" FULL_DISK="$dir/run/disk-full" ${preload:+LD_PRELOAD="$preload"} \
    setsid "${argv[@]}" >>"$dir/logs/$node.out" 2>&1 </dev/null) &
  pid=$!
  disown "$pid" 2>/dev/null || true
  printf '%s %s\n' "$pid" "$(start_time "$pid" || echo 0)" >"$dir/run/$node.pid"
}

stop() { # NODE
  local i
  if alive "$1"; then kill -KILL "$(pid_of "$1")" 2>/dev/null || true; fi
  for ((i = 0; i < 50; i++)); do alive "$1" || break; sleep 0.1; done
  rm -f "$dir/run/$1.pid"
}

# ------------------------------------------------- remoting, in pure bash

listening() { (exec 3<>"/dev/tcp/$host/$1") 2>/dev/null; }
be32() { printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 >> 24 & 255)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255)); }

# GET_ROUTEINFO_BY_TOPIC: prints the answer's header and body as text.
route() { # TOPIC
  local header n len
  header="{\"code\":105,\"flag\":0,\"language\":\"OTHER\",\"opaque\":1,\"version\":0,\"extFields\":{\"topic\":\"$1\"}}"
  n=${#header}
  {
    exec 3<>"/dev/tcp/$host/$port" || return 1
    printf '%b%s' "$(be32 $((n + 4)))$(be32 "$n")" "$header" >&3
    len=$(timeout 3 dd bs=1 count=4 <&3 2>/dev/null | od -An -tu1 |
      awk '{ print (($1 * 256 + $2) * 256 + $3) * 256 + $4 }')
    if [ -n "$len" ]; then timeout 3 dd bs=1 count="$len" <&3 2>/dev/null | tail -c +5 | tr -d '\0'; fi
    exec 3>&-
  } 2>/dev/null
}

answers() { case $(route TBW102) in *'"code":'*) return 0 ;; *) return 1 ;; esac; }

# A broker registers a topic of its own name; the route names the address of its master once the registration is through.
master() { # BROKER NAME -> port
  route "$1" | sed -n "s/.*[{,]\"\\{0,1\\}0\"\\{0,1\\}:\"$host:\\([0-9]*\\)\".*/\\1/p"
}

registered() { # BROKER NAME
  [ -n "$(master "$1")" ]
}

wait_for() { # NODE COMMAND...
  local node=$1 since=$SECONDS; shift
  until "$@"; do
    if ! alive "$node"; then
      tail -n 20 "$dir/logs/$node.out" >&2 || true
      die "$node died at its start (logs in $dir/logs)"
    fi
    [ $((SECONDS - since)) -lt "$timeout" ] || die "$node is not ready after $timeout s (logs in $dir/logs)"
    sleep 0.1
  done
}

# ------------------------------------------------------------ configuration

# A name server's port with those of three brokers (each +12, fast +10, HA +13, DLedger +15) free too. Below 32768:
# clients' own ports start there.
free_port() {
  local p i
  for _ in $(seq 50); do
    p=$((12000 + (RANDOM % 400) * 50))
    for i in 0 10 12 13 15 20 22 23 25 30 32 33 35; do if listening $((p + i)); then continue 2; fi; done
    printf '%s' "$p"
    return
  done
  die "no free ports found"
}

# One plain log file per process instead of RocketMQ's thirty below $HOME/logs.
write_logback() {
  local name
  for name in rmq.logback logback_broker logback_namesrv; do
    cat >"$dir/home/conf/$name.xml" <<'XML'
<?xml version="1.0" encoding="UTF-8"?>
<configuration>
  <appender name="FILE" class="ch.qos.logback.core.FileAppender">
    <file>${fixture.log}</file>
    <append>true</append>
    <encoder><pattern>%d{HH:mm:ss.SSS} %-5p %logger{0} [%t] %m%n</pattern></encoder>
  </appender>
  <logger name="RocketmqStats" level="OFF"/>
  <logger name="RocketmqCommercial" level="OFF"/>
  <logger name="RocketmqWaterMark" level="OFF"/>
  <root level="INFO"><appender-ref ref="FILE"/></root>
</configuration>
XML
  done
}

jvm_flags() { # NODE HEAP... -> array `flags`
  flags=(
    "${@:2}" -XX:+UseSerialGC -XX:-UsePerfData -Xshare:auto -XX:+IgnoreUnrecognizedVMOptions
    -XX:TieredStopAtLevel="${RMQ_TIER:-1}" # 4: slower start, faster broker
    -Djava.net.preferIPv4Stack=true
    # Java 9 and later: 4.9 unmaps files through JDK internals, 5.x locks buffers through them.
    --add-opens=java.base/java.nio=ALL-UNNAMED
    --add-opens=java.base/sun.nio.ch=ALL-UNNAMED
    --add-opens=java.base/jdk.internal.ref=ALL-UNNAMED
    "-Duser.home=$dir/home" "-Drocketmq.home.dir=$dir/home"
    "-Drmq.logback.configurationFile=$dir/home/conf/rmq.logback.xml"
    "-Dfixture.log=$dir/logs/$1.log"
    -Drocketmq.client.logUseSlf4j=false "-Drocketmq.client.logRoot=$dir/logs/client"
    "-Drocketmq.log.root=$dir/logs/client"
    "-Drocketmq.acl.plain.file=/conf/plain_acl.yml"
    # A developer's disk may be nearly full; refuse writes only at the very end.
    -Drocketmq.broker.diskSpaceWarningLevelRatio=0.99
    -Drocketmq.broker.diskSpaceCleanForciblyRatio=0.98
    -cp "$jars/classes:$jars/lib/*"
  )
}

# Names of the nodes that are brokers.
nodes() { case $mode in single) echo broker ;; masters) echo broker0 broker1 ;; dledger) echo broker0 broker1 broker2 ;; esac; }

# The name that a node has in RocketMQ: masters have names of their own, the members of a group share one.
name_of() { # NODE
  if [ "$version" = defibus ]; then echo broker-a; elif [ "$mode" = masters ]; then echo "broker-${1#broker}"; else echo broker-0; fi
}

port_of() { # NODE
  local index=${1#broker}
  echo $((port + 12 + 10 * ${index:-0}))
}

tls_flags() { # MODE
  if [ -n "$tls" ]; then
    flags=(-Dtls.server.mode="$1" -Dtls.test.mode.enable=false "-Dtls.server.certPath=$tls/server.pem"
      "-Dtls.server.keyPath=$tls/server.key" "${flags[@]}")
  else
    # Else they make RSA keys at each start: half of all the time it takes.
    flags=(-Dtls.server.mode=disabled "${flags[@]}")
  fi
}

write_namesrv() {
  printf 'listenPort=%s\nbindAddress=%s\n' "$port" "$host" >"$dir/conf/namesrv.conf"
  jvm_flags namesrv -Xms32m -Xmx128m -XX:MaxDirectMemorySize=64m
  tls_flags permissive
  printf '%s\0' "$java" "${flags[@]}" org.apache.rocketmq.namesrv.NamesrvStartup -c "$dir/conf/namesrv.conf" \
    >"$dir/run/namesrv.argv"
}

write_broker() { # NODE
  local listen index=${1#broker} peers='' i
  listen=$(port_of "$1")
  {
    cat <<CONF
brokerClusterName=DefaultCluster
brokerName=$(name_of "$1")
namesrvAddr=$host:$port
brokerIP1=$host
brokerIP2=$host
bindAddress=$host
listenPort=$listen
haListenPort=$((listen + 1))
storePathRootDir=$dir/store/$1
storePathCommitLog=$dir/store/$1/commitlog
flushDiskType=ASYNC_FLUSH
# Small files; a commit log file must hold the largest message, 4 MiB.
mappedFileSizeCommitLog=16777216
mappedFileSizeConsumeQueue=120000
mappedFileSizeTimerLog=4194304
# 5.x flushes its timer wheel of 38 MB each second: a tenth of a core, idle.
timerFlushIntervalMs=30000
maxHashSlotNum=20000
maxIndexNum=80000
diskMaxUsedSpaceRatio=95
autoCreateTopicEnable=true
autoCreateSubscriptionGroup=true
defaultTopicQueueNums=4
registerNameServerPeriod=10000
# A starved machine must not turn into SYSTEM_BUSY.
waitTimeMillsInSendQueue=5000
osPageCacheBusyTimeOutMills=10000
CONF
    if [ "$mode" = dledger ]; then
      for i in 0 1 2; do peers+="${peers:+;}n$i-$host:$((port + 15 + 10 * i))"; done
      printf '%s\n' enableDLegerCommitLog=true dLegerGroup=broker-0 "dLegerPeers=$peers" "dLegerSelfId=n$index"
    else
      printf '%s\n' brokerId=0 brokerRole=ASYNC_MASTER
    fi
    if [ -n "$acl" ]; then
      case $version in
        4.*) echo "aclEnable=true" ;;
        *)
          echo "authenticationEnabled=true"
          echo "authenticationProvider=org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider"
          echo "authenticationMetadataProvider=org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider"
          echo 'initAuthenticationUser={"username":"rmqtest","password":"rmqtest-secret"}'
          echo 'innerClientAuthenticationCredentials={"accessKey":"rmqtest","secretKey":"rmqtest-secret"}'
          ;;
      esac
    fi
    if [ "$version" = defibus ]; then
      # 4.4.0 spells them so.
      printf '%s\n' brokerClusterName=GZ-defibus \
        mapedFileSizeCommitLog=16777216 mapedFileSizeConsumeQueue=120000
    fi
    for setting in "${settings[@]}"; do echo "$setting"; done
  } >"$dir/conf/$1.conf"
  if [ -n "$acl" ]; then
    printf '%s\n' 'globalWhiteRemoteAddresses: []' 'accounts:' '  - accessKey: rmqtest' \
      '    secretKey: rmqtest-secret' '    whiteRemoteAddress:' '    admin: true' >"$dir/home/conf/plain_acl.yml"
  fi
  jvm_flags "$1" -Xms96m -Xmx256m -XX:MaxDirectMemorySize=192m
  tls_flags enforcing
  local main=org.apache.rocketmq.broker.BrokerStartup
  if [ "$version" = defibus ]; then main=StandIn; fi
  printf '%s\0' "$java" "${flags[@]}" "$main" -c "$dir/conf/$1.conf" \
    >"$dir/run/$1.argv"
}

# ----------------------------------------------------------------- commands

cmd_up() {
  version=5.3.3 mode=single tls='' acl='' owner='' timeout=120 settings=()
  while [ $# -gt 0 ]; do
    case $1 in
      --version) version=$2; shift 2 ;;
      --mode) mode=$2; shift 2 ;;
      --tls) tls=$(cd "$2" && pwd); shift 2 ;;
      --acl) acl=1; shift ;;
      --set) settings+=("$2"); shift 2 ;;
      --owner) owner=$2; shift 2 ;;
      --timeout) timeout=$2; shift 2 ;;
      *) die "unknown option $1" ;;
    esac
  done
  [ -n "$(nodes)" ] || die "unknown mode $mode"
  jars=$(RMQ_CACHE=$cache "$here/fetch.sh" "$version")
  local try
  for try in 1 2 3; do # two test runs may pick the same ports at the same moment
    port=$(free_port)
    if (start); then
      if [ -n "$owner" ]; then watch_owner "$owner"; fi
      cat "$dir/env.sh"
      return
    fi
    cmd_down
    grep -qs 'Address already in use' "$dir"/logs/*.out "$dir"/logs/*.log || exit 1
  done
  die "no start in $try tries"
}

start() {
  rm -rf "$dir"/{run,logs,conf,home,store}
  mkdir -p "$dir"/{run,logs,conf,home/conf,store}
  write_logback
  write_namesrv
  local node
  for node in $(nodes); do write_broker "$node"; done
  printf 'RMQ_VERSION=%q\nRMQ_MODE=%q\nRMQ_PORT=%q\nRMQ_NAMESRV=%q\nRMQ_BROKER=%q\nRMQ_JARS=%q\n' \
    "$version" "$mode" "$port" "$host:$port" "$host:$((port + 12))" "$jars" >"$dir/env.sh"
  launch namesrv
  wait_for namesrv answers
  for node in $(nodes); do launch "$node"; done
  for node in $(nodes); do wait_for "$node" registered "$(name_of "$node")"; done
}

# A session of its own here too: what ends the test's process group must not end its cleaner.
watch_owner() { # PID
  setsid "${BASH_SOURCE[0]}" watch "$dir" "$1" >/dev/null 2>&1 </dev/null &
  disown $! 2>/dev/null || true
}

cmd_watch() { # PID
  local since; since=$(start_time "$1") || since=gone
  while [ "$(start_time "$1" || true)" = "$since" ]; do sleep 1; done
  cmd_down
}

load() {
  [ -f "$dir/env.sh" ] || die "nothing was started in $dir"
  # shellcheck disable=SC1091
  . "$dir/env.sh"
  version=$RMQ_VERSION mode=$RMQ_MODE port=$RMQ_PORT jars=$RMQ_JARS tls='' timeout=120
}

cmd_down() {
  local node
  for node in broker broker0 broker1 broker2 namesrv; do
    if [ -f "$dir/run/$node.pid" ]; then stop "$node"; fi
  done
}

cmd_kill() { alive "$1" || die "$1 is not running"; kill "-${2:-KILL}" "$(pid_of "$1")"; }

cmd_restart() {
  load
  stop "$1"
  launch "$1"
  case $1 in
    namesrv) wait_for namesrv answers ;;
    *) wait_for "$1" listening "$(port_of "$1")"; wait_for "$1" registered "$(name_of "$1")" ;;
  esac
}

cmd_leader() {
  load
  local leads; leads=$(master broker-0)
  [ -n "$leads" ] || die "no broker leads"
  echo "broker$(((leads - port - 12) / 10))"
}

cmd_status() {
  load
  local node pid
  for node in namesrv $(nodes); do
    if alive "$node"; then
      pid=$(pid_of "$node")
      printf '%-8s %7s up   %s MiB\n' "$node" "$pid" $(($(awk '/VmRSS/{print $2}' "/proc/$pid/status") / 1024))
    else
      printf '%-8s %7s down\n' "$node" -
    fi
  done
}

cmd_java() {
  load
  jvm_flags client -Xmx96m
  exec "$java" "${flags[@]}" "$@"
}

command=${1:-help}
case $command in
  up | down | kill | restart | leader | status | java | watch)
    [ $# -gt 1 ] || die "$command needs a folder (see rmq.sh help)"
    mkdir -p "$2"
    dir=$(cd "$2" && pwd)
    shift 2
    "cmd_$command" "$@"
    ;;
  help | -h | --help) usage ;;
  *) die "unknown command $command (see rmq.sh help)" ;;
esac
