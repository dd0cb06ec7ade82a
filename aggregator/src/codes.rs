//! The codes of the aggregator's health log. The number and the name of a code never change.

seatmeter_service::codes! {
    101 STARTED "started" info "The aggregator has started: its version, addresses, state and time zone.", "";
    102 STOPPED "stopped" info "The aggregator has stopped because it was told to.", "";
    103 FAILED "failed" error "The aggregator ends: it cannot work with this configuration or state.", "The reason says what is wrong; correct it and start the service.";
    104 PANICKED "panicked" error "A part of the aggregator failed because of a bug. If nothing can be stored without it, the aggregator ends, and the service manager starts it again.", "Send the reason to the maintainers.";
    110 AGENT_CONNECTED "agent_connected" info "An agent has connected.", "";
    111 BATCH_INVALID "batch_invalid" warn "The aggregator refused an invalid batch from an agent.", "Update the older of agent and aggregator, and tell the maintainers.";
    120 STORE_FAILED "store_failed" error "The database failed. Nothing is acknowledged; agents keep what they have.", "Free disk space, or check the disk.";
    121 FACTS_UNSAVED "facts_unsaved" warn "The last figures could not be written when the aggregator stopped. It computes them again at the next start.", "";
    122 TIME_ZONE_CHANGED "time_zone_changed" warn "The billing time zone has changed: the aggregator rebuilds all figures.", "";
    123 LOG_REBUILT "log_rebuilt" info "The figures of a log were rebuilt, since older lines came after newer ones.", "";
    124 LOG_REDATED "log_redated" warn "An agent tells another time zone for a log than before: the aggregator dates all lines of the log anew.", "";
    125 ZONE_UNKNOWN "zone_unknown" warn "An agent tells a time zone for a log that is not known here. The log's lines are archived, and count nowhere.", "Install the package tzdata, or correct `time_zone` in the agent's configuration.";
    126 AGENTS_DIFFER "agents_differ" warn "Two agents tell different time zones or dates for one log. The one that spoke first is heard, for as long as it reports.", "Configure both alike.";
    127 FACTS_FAILED "facts_failed" error "The figures cannot be written, and stand still. Batches are still acknowledged.", "Free disk space, or check the disk. If the figures are damaged, stop the service and run `seatmeter-aggregator rebuild`.";
    128 FACTS_DISCARDED "facts_discarded" warn "The figures were of no use any more, and are made of the archive again.", "";
    129 SERVER_RENAMED "server_renamed" warn "A license server reports under another name. What it has sent under the first one moves along.", "If it is not, correct `license_server` in the agent's configuration, and let no agent read a copy of the logs.";
    112 AGENT_REFUSED "agent_refused" warn "An agent was not let in: what it is, the license server that it names, and why.", "The reason says what is wrong. If nobody knows the agent, find out who runs it.";
    113 AGENT_ENROLLED "agent_enrolled" info "An agent was enrolled: it has its first certificate.", "";
    114 AGENT_REVOKED "agent_revoked" info "An operator has revoked an agent's enrolment: what it sends is refused.", "";
    115 AGENT_RECOVERED "agent_recovered" info "An agent has renewed a certificate that had expired.", "";
    116 TLS_RENEWED "tls_renewed" info "A port has got another certificate.", "";
    117 TLS_FAILED "tls_failed" error "The files of a port's certificate were replaced, and cannot be used: the certificate before stays in use.", "The reason says what is wrong; correct the files.";
    118 NOBODY_ENROLLED "nobody_enrolled" warn "The aggregator has an authority, and no agent is enrolled.", "If agents were, `access.db` is another one: restore it from a backup (`seatmeter-aggregator restore`), or enrol them again.";
    139 SEALING_KEY_LOST "sealing_key_lost" error "The key with which exports are opened is gone, though agents without a network are enrolled: another one was made.", "Restore `authority/sealing.key` from a backup, or enrol those agents again: what they export until then does not open.";
    119 NO_ADMINISTRATOR "no_administrator" warn "Nobody can administer the aggregator yet: no operator is let in whose role is `admin`.", "Run `seatmeter-aggregator administrator NAME` on this machine, and log in with the line that it prints.";
    132 OPERATOR_REFUSED "operator_refused" warn "A call of an operator was refused: who it was, if that is known, from where, and why.", "If nobody knows of it, find out who it was: `seatmeter audit list`.";
    133 AUDIT_HEAD "audit_head" info "The last record of the audit trail: its number and its hash, told at every start and once a day.", "Keep it where nobody who has access to the aggregator can change it: `seatmeter audit verify --noted NUMBER:HASH` proves the trail by it.";
    134 AUDIT_FAILED "audit_failed" error "What came of a call could not be written into the audit trail. That it was asked stands there.", "Free disk space, or check the disk.";
    135 ALERT_RAISED "alert_raised" warn "Something needs an operator: which license server, and what. It is told once, when it has lasted, and again after a start of the aggregator.", "`seatmeter alerts` says what to do.";
    136 ALERT_CLEARED "alert_cleared" info "What was told by alert_raised is over.", "";
    137 AGENT_QUARANTINED "agent_quarantined" error "Two agents have one identity (a cloned machine, a restored snapshot): what the later one sends is kept, and counts nowhere.", "Find out what the copy is: `seatmeter agents enrolled`. If it counts, `seatmeter agents accept`; if not, `seatmeter agents reject`, and stop it.";
    138 EXPORTS_DIFFER "exports_differ" warn "Two exports of an agent without a network have one number and other content: the agent was copied, or went back to a snapshot. Both are taken in.", "Find out whether two machines export under one name, and enrol one of them anew.";
    130 QUERY_FAILED "query_failed" error "A question could not be answered.", "The reason says what failed.";
    150 RULES_REFUSED "rules_refused" error "The rules of the configuration contradict those that operators have made: the ones before stay in force.", "The reason names both: change either of them (`seatmeter rules list`), and restart the aggregator.";
    131 REALM_CHANGED "realm_changed" warn "An agent tells another realm for its license server than before: all its people are named anew.", "";
}
