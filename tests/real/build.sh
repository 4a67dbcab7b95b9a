#!/usr/bin/env bash
# Brings the clients of this folder with their pinned dependencies into the cache; what is up to date is left alone.
#
#   build.sh [NAME...]        paho-go, java, mqttjs, sdk-javascript, sdk-go; all if none is named
#
# The folder of each is ${XDG_CACHE_HOME:-$HOME/.cache}/weft-ci/clients/NAME. Needs go; javac and mvn; npm.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/weft-ci/clients

build_paho-go() { go build -o conversation .; }

build_java() {
  mvn -q -B dependency:copy-dependencies -DoutputDirectory=lib -DincludeScope=runtime
  javac -nowarn -cp 'lib/*' -d classes ./*.java
}

build_mqttjs() { npm install --silent --no-package-lock --no-audit --no-fund; }

build_sdk-javascript() { build_mqttjs; }

build_sdk-go() { go build -o sdk .; }

is_current() {
  local file
  for file in "$here/$1"/*; do
    cmp -s "$file" "$cache/$1/$(basename "$file")" || return 1
  done
}

mkdir -p "$cache"
exec 9>"$cache/.lock" # one at a time
if command -v flock >/dev/null; then flock 9; fi
[ "$#" -gt 0 ] || set -- paho-go java mqttjs sdk-javascript sdk-go
for name in "$@"; do
  is_current "$name" && continue
  printf 'building %s\n' "$name" >&2
  part=$cache/.$name
  rm -rf "$part"
  cp -r "$here/$name" "$part"
  (cd "$part" && "build_$name" >&2)
  rm -rf "${cache:?}/$name"
  mv "$part" "$cache/$name"
done
