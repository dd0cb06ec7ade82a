#!/usr/bin/env bash
# The installer and the service, tried under Wine: `cargo xtask test --packages` runs this there. A simulated license
# server writes and rotates its log on drive C: all the while; an aggregator on this machine receives over TLS; at the end
# its figures must be the truth.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=helpers.sh
. ./helpers.sh

version=$(<version.txt)
next=$(<next-version.txt)
c=$WINEPREFIX/drive_c
data=$c/ProgramData/Seatmeter
program="$c/Program Files/Seatmeter/seatmeter-agent.exe"
log=$c/flexlm/debug.log
key='HKLM\SYSTEM\CurrentControlSet\Services\SeatmeterAgent'

windows() { wine cmd /c "$*" | tr -d '\r'; }
agent() { wine "$program" "$@" | tr -d '\r'; }
registry() { wine reg query "$@" 2>/dev/null | tr -d '\r'; }
msi() { wine msiexec "$1" "seatmeter-agent-$2-x86_64.msi" /qn "${@:3}"; }
is_well() { agent service status; }
is_counted() { ./seatmeter activity --server lic01 --output csv | cmp - truth.csv; }
service_has() { registry "$key" /s | grep -E "^ *$1 .* $2\$"; }
installed_versions() { registry 'HKLM\Software\Microsoft\Windows\CurrentVersion\Uninstall' /s |
  grep -A 3 'DisplayName.*Seatmeter' | awk '/DisplayVersion/ { print $3 }' | paste -sd ' '; }
agent_process() { pgrep -f 'seatmeter-agent.exe.*service run' || true; }
is_gone() { [[ -z $(agent_process) ]]; }
has_another_process() { [[ -n $(agent_process) && $(agent_process) != "$1" ]] && is_well; }
# Services stay up as long as a program is there.
hold_session() {
  local fifo
  fifo=$(mktemp -u) && mkfifo "$fifo"
  wine cmd <"$fifo" >/dev/null 2>&1 &
  exec 8>"$fifo"
  rm -f "$fifo"
}
leaves_nothing() {
  mustnt "no program" test -e "${program%/*}"
  mustnt "no service" registry "$key"
  mustnt "no source of events" registry 'HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\seatmeter-agent'
  same "no entry among the installed programs" "" "$(installed_versions)"
  mustnt "no process" pgrep -f seatmeter-agent.exe
  mustnt "no entry in the path" grep -i seatmeter \
    <(registry 'HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment' /v PATH)
}

export SEATMETER_LOGIN=$PWD/login.json
cat >aggregator.toml <<END
state = "$PWD/aggregator-state"
time_zone = "UTC"
[agents]
listen = "127.0.0.1:17470"
[authority]
names = ["localhost"]
[operators]
listen = "127.0.0.1:17471"
plaintext = true
END
./seatmeter-aggregator serve --config aggregator.toml 2>aggregator.err &
aggregator=$!
mkdir -p "$c/flexlm"
./xtask sim --lines 120000 --users 300 --features 4 --days 20 --pace 1000 --rotations 3 --crlf --truth truth.csv "$log" &
simulator=$!
trap 'status=$?; kill $aggregator $simulator 2>/dev/null || true
  ((status == 0)) || tail -n 20 "$data/agent/health.log" aggregator.err 2>/dev/null || true' EXIT

step "the aggregator and its client run on Windows, too"
tar -xzf "seatmeter-$version-x86_64-windows.tar.gz" --strip-components=1 --wildcards '*.exe'
cat >windows-aggregator.toml <<'END'
state = 'C:\aggregator'
[agents]
listen = "127.0.0.1:17480"
plaintext = true
[operators]
listen = "127.0.0.1:17481"
END
wine seatmeter-aggregator.exe serve --config windows-aggregator.toml 2>windows-aggregator.err &
wait_for "it has begun" wine seatmeter-aggregator.exe administrator anna --config windows-aggregator.toml
wine seatmeter-aggregator.exe administrator anna --config windows-aggregator.toml |
  SEATMETER_LOGIN='C:\login.json' wine seatmeter.exe login
must "it answers" env SEATMETER_LOGIN='C:\login.json' wine seatmeter.exe servers
wine taskkill /f /im seatmeter-aggregator.exe >/dev/null
must "what it left can be opened" wine seatmeter-aggregator.exe verify --config windows-aggregator.toml

step "the guide, as it stands"
began=${EPOCHREALTIME/[.,]/}
wait_for "the aggregator has begun" ./seatmeter-aggregator administrator anna --config aggregator.toml
./seatmeter-aggregator administrator anna --config aggregator.toml | ./seatmeter login
./seatmeter agents invite --server lic01 >lic01.txt
./xtask guide windows.md --replace aggregator.example.com:7470=localhost:17470 -- wine cmd /c
echo "   from the installer to a batch acknowledged: $(((${EPOCHREALTIME/[.,]/} - began) / 1000)) ms of 60,000"

step "what the service control manager was told"
same "installed" "$version" "$(installed_versions)"
must "it runs under an account of its own" service_has ObjectName 'NT SERVICE.SeatmeterAgent'
must "it starts with the machine" service_has Start 0x2
must "it has time to stop at a shutdown: 20 s" service_has PreshutdownTimeout 0x4e20
must "it says what it is" service_has Description 'Reads the logs .*'
must "the Event Log knows where its texts are" grep -q EventCreate.exe \
  <(registry 'HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\seatmeter-agent')
# Wine knows no other account than one, no access lists by icacls, and refuses the three settings below: what the system
# was asked for is read from what it says of that. Nothing else may be refused.
asked=$(WINEDEBUG=fixme+icacls wine "$program" service install 2>&1 | tr -d '\r')
must "asked for: the state is open to the system, administrators and the service alone" grep -qF \
  '"/inheritance:r" "/grant:r" "*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F" "NT SERVICE\\SeatmeterAgent:(OI)(CI)M"' \
  <<<"$asked"
for refused in "no delayed start" "no restart after a crash" "no identity of its own for access lists"; do
  must "asked for, and refused by Wine: $refused" grep -q "warning: $refused: .*os error 124" <<<"$asked"
done
same "refusals in all" 3 "$(grep -c warning: <<<"$asked")"

step "killed; the machine is started again"
before=$(agent_process)
kill -9 "$before"
wait_for "it is gone" is_gone
# Wine never learns that a service was killed, and acts out no recovery: a new session, which starts its services, does.
wineserver -k
hold_session
wait_for "it delivers" has_another_process "$before"

step "an upgrade from $version to $next"
identity=$(<"$data/agent/agent-id")
configuration=$(md5sum <"$data/agent.toml")
before=$(agent_process)
msi /i "$next"
same "installed" "$next" "$(installed_versions)"
wait_for "it delivers" has_another_process "$before"
same "the identity stays" "$identity" "$(<"$data/agent/agent-id")"
same "the configuration stays" "$configuration" "$(md5sum <"$data/agent.toml")"
must "all of this while the log was written" kill -0 "$simulator"

step "removed and installed again: nothing is missed"
msi /x "$next"
leaves_nothing
msi /i "$next"
wait_for "it delivers" is_well
same "the identity stays" "$identity" "$(<"$data/agent/agent-id")"

step "the truth"
wait "$simulator"
wait_for "the figures are the truth" is_counted
cat truth.csv
windows 'ren C:\flexlm\debug.log debug.log.old'
must "a log that is followed can be renamed" test -e "$log.old"
agent service stop >/dev/null
mustnt "it is stopped" is_well
must "the figures are still the truth" is_counted
kill $aggregator
wait $aggregator
must "the figures are the sum of what was received" ./seatmeter-aggregator verify --config aggregator.toml

step "a purge leaves nothing"
msi /x "$next" PURGE=1
leaves_nothing
same "no file stays" "" "$(cd "$c" && find . -ipath '*seatmeter*' -type f -printf '%f\n' | sort | paste -sd ' ')"

step "without a log, the installer configures what it finds"
for value in "LMGRD_LOG_FILE found.log" "Lmgrd lmgrd.exe"; do
  wine reg add 'HKLM\SOFTWARE\FLEXlm License Manager\Found' /v "${value% *}" /d "C:\\flexlm\\${value#* }" /f >/dev/null
done
mkdir -p "$data" && cp aggregator-state/authority/authority.pem "$data"
msi /i "$version" AGGREGATOR=https://localhost:17470
must "the log that the registry names" grep -qF found.log "$data/agent.toml"
must "the service is registered" registry "$key"
msi /x "$version" PURGE=1
leaves_nothing

step "all of it holds"
