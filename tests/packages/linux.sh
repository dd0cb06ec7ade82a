#!/usr/bin/env bash
# deb and rpm, tried under a real systemd in a throw-away container: `cargo xtask test --packages` runs this there, with
# the files beside it that are named below. A simulated license server writes and rotates all the while; at the end, the
# aggregator's figures must be the truth.
#   linux.sh helpers.sh linux.md xtask version.txt next-version.txt DEB... RPM...
set -euo pipefail
cd /payload
# shellcheck source=helpers.sh
. ./helpers.sh

version=$(<version.txt)
next=$(<next-version.txt)
log=/opt/flexlm/debug.log
services=(seatmeter-agent seatmeter-aggregator)

main_pid() { systemctl show --property MainPID --value seatmeter-agent; }
is_well() { seatmeter-agent status; }
has_another_process() { [[ $(main_pid) != 0 && $(main_pid) != "$1" ]] && systemctl is-active seatmeter-agent; }
has_said() { grep -q "\"SEATMETER_CODE\":\"$1\"" <(journalctl -u seatmeter-agent -o json); }
is_counted() { seatmeter activity --server lic01 --output csv | cmp - "$1"; }
# What is left on disk: no trace but what the system itself keeps of what was installed.
traces() {
  find / -xdev \( -path /payload -o -path /proc -o -path /sys -o -path /run -o -path /var/log -o -path /var/lib/dpkg \
    -o -path /var/lib/rpm -o -path /opt -o -path /var/cache -o -path /tmp \) -prune -o -iname '*seatmeter*' -print
}

echo "127.0.0.1 localhost aggregator.example.com" >/etc/hosts
hostname aggregator.example.com
mkdir /opt/flexlm
# Its clock is less than a day behind, so that the log counts as reporting.
./xtask sim --start "$(date -u -d '19 hours ago' +%FT%TZ)" --lines 120000 --users 300 --features 4 --days 0.7 --pace 1000 \
  --rotations 3 --truth truth.csv "$log" &
simulator=$!

step "the guide, as it stands"
began=${EPOCHREALTIME/[.,]/}
./xtask guide linux.md
echo "   from the first package to a batch acknowledged: $(((${EPOCHREALTIME/[.,]/} - began) / 1000)) ms of 60,000"

step "hardening"
for service in "${services[@]}"; do
  must "$service: exposure of at most 2.0" systemd-analyze security --no-pager --threshold=20 "$service"
  systemd-analyze security --no-pager "$service" | tail -n 1
done
must "the agent may write nowhere but in its state" \
  grep -q "^ProtectSystem=strict" <(systemctl show --property ProtectSystem seatmeter-agent)

step "kill -9: the agent is started again"
before=$(main_pid)
kill -9 "$before"
wait_for "another process runs" has_another_process "$before"
wait_for "it delivers" is_well

step "a hanging agent: the watchdog ends it"
mkdir -p /etc/systemd/system/seatmeter-agent.service.d
printf '[Service]\nWatchdogSec=2\n' >/etc/systemd/system/seatmeter-agent.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart seatmeter-agent
wait_for "it delivers" is_well
before=$(main_pid)
kill -STOP "$before"
wait_for "another process runs" has_another_process "$before"
must "it was the watchdog" grep -q "Watchdog timeout" <(journalctl -u seatmeter-agent)
rm -r /etc/systemd/system/seatmeter-agent.service.d
systemctl daemon-reload
systemctl restart seatmeter-agent

step "a stop while the log is written"
for service in "${services[@]}"; do
  echo "   $service stopped in $(milliseconds systemctl stop "$service") ms"
  same "$service was not killed" success "$(systemctl show --property Result --value "$service")"
done
systemctl start "${services[@]}"
wait_for "it delivers" is_well

step "an upgrade from $version to $next"
identity=$(</var/lib/seatmeter-agent/agent-id)
configuration=$(md5sum </etc/seatmeter/agent.toml)
before=$(main_pid)
apt-get install -yqq "./seatmeter-agent_${next}_amd64.deb" "./seatmeter-aggregator_${next}_amd64.deb" >/dev/null 2>&1
same "the version" "$next-1" "$(dpkg-query --show --showformat '${Version}' seatmeter-agent)"
wait_for "another process runs" has_another_process "$before"
same "the identity stays" "$identity" "$(</var/lib/seatmeter-agent/agent-id)"
same "the configuration stays" "$configuration" "$(md5sum </etc/seatmeter/agent.toml)"
wait_for "it delivers" is_well

must "all of this while the log was written" kill -0 "$simulator"

step "removed and installed again: nothing is missed"
apt-get remove -yqq seatmeter-agent >/dev/null 2>&1
mustnt "the service is gone" systemctl is-active seatmeter-agent
apt-get install -yqq "./seatmeter-agent_${next}_amd64.deb" >/dev/null 2>&1
systemctl enable --now seatmeter-agent
same "the identity stays" "$identity" "$(</var/lib/seatmeter-agent/agent-id)"

step "the truth"
wait "$simulator"
wait_for "the figures are the truth" is_counted truth.csv
cat truth.csv
must "the journal has the codes" has_said started
must "every license server reports" seatmeter servers
must "the aggregator says so, too" runuser -u seatmeter-aggregator -- seatmeter-aggregator status
must "completions are installed" test -s /usr/share/bash-completion/completions/seatmeter-agent
must "the figures are the sum of what was received" runuser -u seatmeter-aggregator -- seatmeter-aggregator verify

step "a purge leaves nothing"
must "who logs out leaves nothing" seatmeter logout
apt-get purge -yqq "${services[@]}" >/dev/null 2>&1
mustnt "no configuration" test -e /etc/seatmeter
same "other traces" "" "$(traces)"
for service in "${services[@]}"; do
  mustnt "the account $service is gone" getent passwd "$service"
done

step "the same with rpm"
rpm="rpm --dbpath /var/lib/rpm"
$rpm --nodeps -i "seatmeter-aggregator-$version.x86_64.rpm" "seatmeter-agent-$version.x86_64.rpm"
systemctl enable --now seatmeter-aggregator 2>/dev/null
seatmeter-aggregator administrator anna | seatmeter login
seatmeter agents invite --server lic01 >lic01.txt
seatmeter-agent enroll --token-file lic01.txt --log "$log"
mustnt "an invitation is used once" seatmeter-agent enroll --token-file lic01.txt --no-start --config other.toml --log "$log"
wait_for "the figures are the truth" is_counted truth.csv
identity=$(</var/lib/seatmeter-agent/agent-id)
before=$(main_pid)
$rpm --nodeps -U "seatmeter-aggregator-$next.x86_64.rpm" "seatmeter-agent-$next.x86_64.rpm"
same "the version" "$next" "$($rpm -q --queryformat '%{VERSION}' seatmeter-agent)"
wait_for "another process runs" has_another_process "$before"
same "the identity stays" "$identity" "$(</var/lib/seatmeter-agent/agent-id)"
wait_for "it delivers" is_well
must "the figures are still the truth" is_counted truth.csv
seatmeter logout
$rpm -e "${services[@]}"
for service in "${services[@]}"; do
  mustnt "$service is stopped" systemctl is-active "$service"
done
must "configuration and state are kept, as is the rule with rpm" test -s /var/lib/seatmeter-agent/agent-id

step "all of it holds"
