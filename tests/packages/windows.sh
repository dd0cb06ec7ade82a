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

windows() { wine cmd /c "$*"; }
install() { wine msiexec /i "seatmeter-agent-$1-x86_64.msi" /qn "${@:2}"; }
uninstall() { wine msiexec /x "seatmeter-agent-$1-x86_64.msi" /qn "${@:2}"; }
is_well() { windows 'seatmeter-agent service status'; }
is_running() { pgrep -f 'seatmeter-agent.exe.*service run'; }
is_counted() { ./seatmeter --aggregator "http://127.0.0.1:17471" activity --server lic01 --output csv | cmp - truth.csv; }
registered() { wine reg query "$@" 2>/dev/null | tr -d '\r'; }
is_configured() { registered "$key" /s | grep -E "$1"; }

mkdir certificates
(cd certificates && ../xtask guide ../certificates.md --replace aggregator.example.com=localhost)
cat >aggregator.toml <<END
state = "$PWD/aggregator-state"
time_zone = "UTC"
[agents]
listen = "127.0.0.1:17470"
certificate = "$PWD/certificates/aggregator.pem"
key = "$PWD/certificates/aggregator.key"
client_authority = "$PWD/certificates/authority.pem"
[operators]
listen = "127.0.0.1:17471"
plaintext = true
END
./seatmeter-aggregator serve --config aggregator.toml 2>aggregator.err &
aggregator=$!
mkdir -p "$c/flexlm"
./xtask sim --lines 60000 --users 300 --features 4 --days 20 --pace 800 --rotations 3 --crlf --truth truth.csv "$log" &
simulator=$!
trap 'kill $aggregator $simulator 2>/dev/null || true; tail -n 20 "$data/agent/health.log" 2>/dev/null || true' EXIT

step "the guide, as it stands"
began=${EPOCHREALTIME/[.,]/}
(cd certificates && cp "../seatmeter-agent-$version-x86_64.msi" . &&
  ../xtask guide ../windows.md --replace aggregator.example.com:7470=localhost:17470 -- wine cmd /c)
echo "   from the installer to a batch acknowledged: $(((${EPOCHREALTIME/[.,]/} - began) / 1000)) ms of 60,000"
step "all of it holds"
