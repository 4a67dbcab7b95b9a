#!/usr/bin/env bash
# Builds EventMesh's acceptance suite from ../shared/eventmesh/acceptance (see there) and prints where its jar is. What is up
# to date is left alone. Needs javac and mvn; Maven fetches the SDK from Maven Central.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../../shared/eventmesh/acceptance" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/weft-ci/eventmesh

mkdir -p "$cache"
exec 9>"$cache/.lock" # one at a time
if command -v flock >/dev/null; then flock 9; fi
if ! { diff -r "$source/src" "$cache/suite/src" && cmp "$source/pom.xml" "$cache/suite/pom.xml"; } >/dev/null 2>&1; then
  rm -rf "$cache/suite" "$cache/part"
  mkdir "$cache/part"
  cp -r "$source/src" "$source/pom.xml" "$cache/part"
  (cd "$cache/part" && mvn -q -B package >&2)
  mv "$cache/part" "$cache/suite"
fi
printf '%s\n' "$cache/suite/target/acceptance.jar"
