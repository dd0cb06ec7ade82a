//! The codes of the agent's health log. The number and the name of a code never change.

seatmeter_service::codes! {
    1 STARTED "started" info "The agent has started: its version, logs with their positions, buffer and aggregator.", "";
    2 STOPPED "stopped" info "The agent has stopped because it was told to.", "";
    3 HEALTH "health" info "How the agent is, every ten minutes: logs, delivery, buffer.", "";
    4 STATE_UNAVAILABLE "state_unavailable" error "The state folder cannot be opened; it is tried again.", "Free disk space, or grant access to the folder.";
    5 STATUS_UNSAVED "status_unsaved" warn "The file that `status` reads cannot be written.", "Free disk space, or grant access to the state folder.";
    6 FAILED "failed" error "The agent ends: it cannot work with this configuration or state.", "The reason says what is wrong; correct it and start the service.";
    7 PANICKED "panicked" error "A part of the agent failed because of a bug. The agent ends, and the service manager starts it again.", "Send the reason to the maintainers.";
    10 LOG_READABLE "log_readable" info "A log is followed, for the first time or again.", "";
    11 LOG_UNREADABLE "log_unreadable" error "A log cannot be read; it is tried again every second.", "Grant the service's account access to the file, or correct its path.";
    12 LOG_TRUNCATED "log_truncated" error "A log was emptied or deleted before all of it was read: these bytes are lost.", "Rotate by renaming, or copy less often than the agent reads.";
    13 LOG_STATE "log_state" warn "What was read last could not be saved; it is read again at the next start.", "";
    14 WATCH_FAILED "watch_failed" warn "The system does not tell of changes to files; logs are looked at every few seconds instead.", "On Linux, raise fs.inotify.max_user_watches.";
    15 PART_SKIPPED "part_skipped" warn "A file has the name of a part of a log and is none, or is damaged, or cannot be read by the agent.", "Unpack it, put it back from a backup, give the service's account access to it, move it away, or change `archives`.";
    16 POLL_ANSWERED "poll_answered" info "A license manager has answered who holds what, for the first time or again.", "";
    17 POLL_FAILED "poll_failed" error "A license manager was asked in vain; it is asked again at the next time.", "The reason says what the tool printed: run it by hand with the agent's account.";
    18 POLL_PARTIAL "poll_partial" warn "A license manager has answered, and leaves open who holds a part of what is in use. Who was last stated goes on for up to three answers.", "The reason says what is missing: a license server or a daemon that is down, or users that the tool does not show.";
    20 BUFFER_FULL "buffer_full" error "The buffer or its disk is full. Reading waits; the log keeps what is not read.", "Find out why batches are not taken (`uplink_down`), or raise `buffer.quota_mib`.";
    21 BUFFER_OLD "buffer_old" error "Batches have been waiting for longer than `buffer.alarm_after_hours`.", "Find out why they are not taken: see `uplink_down`.";
    22 BUFFER_CORRUPT "buffer_corrupt" error "The buffer's database is damaged. It was set aside, and the logs are read again.", "Check the disk. Keep the file that was set aside until the month is reported.";
    23 BUFFER_REOPENED "buffer_reopened" warn "A write to the buffer failed; it was opened again and checked.", "Check the disk where this comes again.";
    30 UPLINK_UP "uplink_up" info "Batches are delivered to the aggregator.", "";
    31 UPLINK_DOWN "uplink_down" error "Batches cannot be delivered; they wait in the buffer, and delivery is tried again.", "The reason says what is wrong: network, certificate, or the aggregator itself.";
    32 UPLINK_RESEND "uplink_resend" warn "Batches are sent again, since the aggregator asked for it.", "";
    33 STREAM_GAP "stream_gap" warn "The aggregator lacks a part of a log; it is read again where it is still there.", "Where old parts are gone, the month is shown as incomplete.";
    34 BATCH_REFUSED "batch_refused" error "The aggregator will never take this batch: it is kept aside in the buffer, and the rest is delivered.", "Update the older of agent and aggregator, and tell the maintainers.";
    35 AGGREGATOR_RESTORED "aggregator_restored" warn "The aggregator's database is another one than before, and lacks what it had acknowledged. It is delivered again, from the buffer or from the logs.", "Where a log is gone, the month is shown as incomplete.";
    36 STREAM_RENAMED "stream_renamed" info "The aggregator knows another file that begins as this one does: this one is read again, under another name.", "";
    37 BATCH_DAMAGED "batch_damaged" error "A batch in the buffer is damaged. Its log is read again, where it is still there.", "Check the disk and the memory of this machine.";
    38 ANSWER_SETTLED "answer_settled" info "The answer to an export was carried back: what was taken in of it is no longer kept.", "";
    39 ANSWER_USELESS "answer_useless" error "The answer to an export is of no use.", "The reason says what is wrong. Import the last export again, and carry its answer back.";
    42 SETTLE_FAILED "settle_failed" error "What was handed to an agent without a network, or what it says of itself, cannot be kept.", "The reason says why; it is tried again every few seconds.";
    40 CERTIFICATE_RENEWED "certificate_renewed" info "The agent has got its next certificate.", "";
    41 CERTIFICATE_NOT_RENEWED "certificate_not_renewed" error "The agent has not got its next certificate; it is tried again. When the one that it has ends, batches wait in the buffer.", "The reason says what is wrong. If the enrolment was revoked or renewed by another holder, enrol the agent again: `seatmeter-agent enroll`.";
}
