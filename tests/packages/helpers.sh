# What the trials of packages share: steps that are told, conditions that are waited for, equality that is shown.

step() { echo "== $*"; }

fail() {
  echo "FAILED: $*"
  exit 1
}

# must 'what' COMMAND...: it is so now.
must() {
  local what=$1
  shift
  "$@" >/dev/null 2>&1 || fail "$what: $*"
  echo "   $what"
}

# mustnt 'what' COMMAND...: it is not so now.
mustnt() {
  local what=$1
  shift
  ! "$@" >/dev/null 2>&1 || fail "$what: $*"
  echo "   $what"
}

# wait_for 'what' COMMAND...: it becomes so, within two minutes.
wait_for() {
  local what=$1 deadline=$((SECONDS + 120))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || fail "waited in vain until $what: $*"
    sleep 0.1
  done
  echo "   $what"
}

# same 'what' EXPECTED FOUND
same() {
  [[ $2 == "$3" ]] || fail "$1: expected ${2@Q}, found ${3@Q}"
  echo "   $1: $2"
}

# milliseconds COMMAND...: how long it takes.
milliseconds() {
  local began=${EPOCHREALTIME/[.,]/}
  "$@" >/dev/null 2>&1
  echo $(((${EPOCHREALTIME/[.,]/} - began) / 1000))
}
