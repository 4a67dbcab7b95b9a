#!/usr/bin/env bash
# Copies the published jars of one RocketMQ version, once, through Maven, and compiles the clients of java/.
#
#   fetch.sh VERSION          5.3.3 or 4.9.7; or "defibus": the DeFiBus client 1.0.1 and RocketMQ 4.4.0, with the broker
#                             that stands in for DeFiBus' (../shared/defibus/standin)
#
# Prints the folder on stdout: VERSION/lib holds the jars, VERSION/classes the clients. Everything else goes to stderr.
# The folder's root is $RMQ_CACHE, else ${XDG_CACHE_HOME:-$HOME/.cache}/weft-rocketmq.
# Needs mvn and a JDK (8 or later); cc if there is one (see the C files here).
set -euo pipefail

version=${1:?fetch.sh VERSION}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${RMQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/weft-rocketmq}
home=$cache/$version

sources=("$here"/java/*.java)
maven=("-Drmq.version=$version")
if [ "$version" = defibus ]; then
  standin=$here/../../../shared/defibus/standin/StandIn.java
  if [ ! -f "$standin" ]; then
    printf 'fetch: needs %s\n' "$standin" >&2
    exit 1
  fi
  sources=("$here"/defibus/*.java "$standin")
  maven=("-Drmq.version=4.4.0" "-Pdefibus")
fi

say() { printf 'fetch: %s\n' "$*" >&2; }

fetch_jars() {
  [ -f "$home/.complete" ] && return 0
  local part=$home/.part.$$ log=$home/.log.$$
  mkdir -p "$part"
  say "copying the jars of RocketMQ $version to $home/lib (once, about 40 to 90 MB)"
  if ! mvn -q -B -f "$here/pom.xml" "${maven[@]}" dependency:copy-dependencies \
    "-DoutputDirectory=$part" -DincludeScope=runtime >"$log" 2>&1; then
    cat "$log" >&2
    rm -rf "$part" "$log"
    say "Maven could not copy the jars of RocketMQ $version"
    return 1
  fi
  # Native parts for other systems: never loaded here, a third of the size.
  rm -rf "$log" "$part"/*-osx-*.jar "$part"/*-windows-*.jar "$home/lib"
  mv "$part" "$home/lib"
  : >"$home/.complete"
}

compile_clients() {
  local source stale=
  for source in "${sources[@]}"; do
    [ "$home/classes/$(basename "${source%.java}").class" -nt "$source" ] || stale=1
  done
  [ -z "$stale" ] || javac -nowarn -cp "$home/lib/*" -d "$home/classes" "${sources[@]}" >&2
}

# The shims: one keeps every listener on 127.0.0.1, one fills the disk on demand.
build_shim() { # NAME WITHOUT
  local shim=$cache/$1.so compiler
  [ "$shim" -nt "$here/$1.c" ] && return 0
  compiler=$(command -v cc || command -v gcc || command -v clang || true)
  if [ -z "$compiler" ]; then
    say "no C compiler: $2"
    return 0
  fi
  "$compiler" -O2 -fPIC -shared -o "$shim.$$" "$here/$1.c" -ldl
  mv -f "$shim.$$" "$shim"
}

mkdir -p "$home"
exec 9>"$cache/.lock" # one fetch at a time: parallel tests may all ask for the jars
if command -v flock >/dev/null; then flock 9; fi
fetch_jars
compile_clients
build_shim loopback-bind "the HA and fast ports will listen on all interfaces"
build_shim full-disk "no broker will find its disk full"
printf '%s\n' "$home"
