#!/usr/bin/env bash
# The conversation of `tests/real/README.md` with mosquitto_pub and mosquitto_sub.
#
#   conversation.sh URL VERSION NAME STEP...      prints each step when it is done
set -euo pipefail
address=${1#mqtt://} version=$2 name=$3
shift 3
server=(-h "${address%:*}" -p "${address##*:}")
if [ "$version" = 5 ]; then server+=(-V mqttv5); else server+=(-V mqttv311); fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"; kill $(jobs -p) 2>/dev/null || true' EXIT

publish() { mosquitto_pub "${server[@]}" -i "$name-publisher" "$@"; }

# listen FILE ARGUMENT...: a subscriber in the background that writes to FILE, once it is subscribed.
listen() {
  local file=$folder/$1
  shift
  : >"$file"
  stdbuf -oL mosquitto_sub "${server[@]}" -W 15 -d "$@" >"$file" &
  until grep -q '^Subscribed' "$file"; do
    kill -0 $! 2>/dev/null || grep -q '^Subscribed' "$file" || fail "subscribed" "$(cat "$file")"
    sleep 0.02
  done
}

# Without what -d adds.
said() { grep -vE '^(Client |Subscribed )' "$folder/$1" || true; }

fail() {
  printf 'not %s: %s\n' "$1" "$2" >&2
  exit 1
}

# expect WHAT WANTED GOT
expect() { [ "$2" = "$3" ] || fail "$1" "$3"; }

qos() {
  listen qos -i "$name-main" -q 2 -t "$name/qos/+" -C 3 -F '%t %q %r %x'
  local each
  for each in 0 1 2; do publish -q $each -t "$name/qos/$each" -m "at $each"; done
  wait $!
  local hex=6174203
  expect "as they were published" "$(for each in 0 1 2; do echo "$name/qos/$each $each 0 $hex$each"; done)" "$(said qos)"
}

retained() {
  publish -q 1 -t "$name/kept" -m kept -r
  listen kept -i "$name-late" -q 1 -t "$name/kept" -C 1 -F '%r %p'
  wait $!
  expect "the retained message" "1 kept" "$(said kept)"
  publish -q 1 -t "$name/kept" -n -r
}

session() {
  local keep=(-i "$name-session" -c -q 2 -t "$name/later/#")
  if [ "$version" = 5 ]; then keep+=(-x 60); fi
  mosquitto_sub "${server[@]}" "${keep[@]}" -E
  publish -q 1 -t "$name/later/1" -m one
  publish -q 2 -t "$name/later/2" -m two
  expect "what was missed" "$(printf 'one\ntwo')" "$(mosquitto_sub "${server[@]}" -W 15 "${keep[@]}" -C 2)"
  mosquitto_sub "${server[@]}" -i "$name-session" -t "$name/later/#" -E
}

will() {
  listen dying -i "$name-dying" -t "$name/other" --will-topic "$name/will" --will-payload gone --will-qos 1
  local dying=$!
  listen will -i "$name-main" -q 1 -t "$name/will" -C 1 -F '%p'
  local reader=$!
  # A second connection of the same client: the broker ends the first one, which said no goodbye.
  mosquitto_sub "${server[@]}" -i "$name-dying" -t "$name/other" -E
  wait $reader
  expect "the will" gone "$(said will)"
  kill $dying 2>/dev/null || true
}

properties() {
  listen properties -i "$name-main" -q 1 -t "$name/properties" -C 1 -F '%P %C %R %D %S %p' \
    -D subscribe subscription-identifier 7
  publish -q 1 -t "$name/properties" -m with -D publish user-property colour green -D publish content-type text/plain \
    -D publish response-topic "$name/answer" -D publish correlation-data c1
  wait $!
  expect "the properties" "colour:green text/plain $name/answer c1 7 with" "$(said properties)"
}

shared() {
  local group="\$share/group/$name/shared" each
  listen a -i "$name-member-a" -q 1 -t "$group" -F '%p'
  local a=$!
  listen b -i "$name-member-b" -q 1 -t "$group" -F '%p'
  local b=$!
  for each in 0 1 2 3 4 5 6 7 8 9; do publish -q 1 -t "$name/shared" -m "$each"; done
  until [ "$( (said a; said b) | wc -l)" -ge 10 ]; do
    kill -0 $a $b || fail "all delivered" "$(said a; said b)"
    sleep 0.02
  done
  expect "each once" "$(seq 0 9)" "$( (said a; said b) | sort -n)"
  kill $a $b
}

for step in "$@"; do
  $step
  echo "$step"
done
