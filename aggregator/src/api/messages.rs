//! Converts domain types into messages of the contract.

use std::collections::BTreeMap;

use seatmeter_count::Month;
use seatmeter_proto::{timestamp, v1};

use super::fleet::day_text;
use crate::fleet::alerts::Alert;
use crate::fleet::report::{LogReport, ReportState};
use crate::fleet::snapshot::SharedBeginning;
use crate::fleet::streams::{DatedBy, Difference, Redating, Rezoning, StreamReport};
use crate::fleet::warnings::{Kind, Severity, Warning};
use crate::fleet::{AgentReport, Renaming, ServerReport, UnrecognisedSample};
use crate::rules::rule::{DomainRule, PersonRule, Unit};
use crate::store::facts::ESTIMATED;
use crate::store::received::Gap;
use crate::usage::Basis;
use crate::usage::activity::Activity;
use crate::usage::completeness::{Completeness, Reason, ServerCompleteness};
use crate::usage::entitlements::Entitlement;
use crate::usage::held_now::HeldNow;
use crate::usage::monthly::SkuUsage;
use crate::usage::realm_preview::RealmPreview;
use crate::usage::users::UserUsage;

/// The longest list within a message. For a longer one, the message gives the total number, or another method pages it.
const MAX_LIST: usize = 100;

/// The most reasons per license server in the completeness that goes with figures.
const MAX_REASONS: usize = 10;

/// The most gaps, and the most shared beginnings, per log.
const MAX_SHORT_LIST: usize = 20;

/// The most SKUs that a person's row lists.
const MAX_SKUS: usize = 1000;

fn moment(seconds: Option<i64>) -> Option<prost_types::Timestamp> {
    seconds.map(seatmeter_proto::timestamp)
}

impl From<SkuUsage> for v1::SkuUsage {
    fn from(usage: SkuUsage) -> Self {
        Self {
            month: usage.month.to_string(),
            sku: usage.sku.id,
            product: usage.sku.product,
            catalogued: usage.sku.catalogued,
            license_server: usage.license_server.unwrap_or_default(),
            unique_users: usage.unique_users,
            free_users: usage.free_users,
            paid_users: usage.unique_users - usage.free_users,
            devices: usage.devices,
            checkouts: usage.checkouts,
            denials: usage.denials,
            denial_lines: usage.denial_lines,
            seat_seconds: usage.seat_seconds,
            peak_concurrent: usage.peak.seats,
            peak_at: moment((usage.peak.seats > 0).then_some(usage.peak.at)),
            peak_exact: usage.peak.is_exact,
            complete: usage.is_complete,
            concurrent_model: usage.sku.unit == Unit::Concurrent,
            reported: usage.is_reported,
        }
    }
}

impl From<Basis> for v1::Basis {
    fn from(basis: Basis) -> Self {
        let person = match basis.person {
            PersonRule::Held => v1::PersonRule::Held,
            PersonRule::CheckedOut => v1::PersonRule::CheckedOut,
        };
        let domains = match basis.domains {
            DomainRule::Keep => v1::DomainRule::Keep,
            DomainRule::Truncate => v1::DomainRule::Truncate,
            DomainRule::Map => v1::DomainRule::Map,
        };
        Self {
            time_zone: basis.time_zone,
            person_rule: person.into(),
            domain_rule: domains.into(),
            rules_version: basis.version,
            aggregator_version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

impl From<Completeness> for v1::Completeness {
    fn from(completeness: Completeness) -> Self {
        let complete = completeness.is_complete();
        let server_count = completeness.servers.len() as u64;
        let mut incomplete: Vec<_> = completeness.servers.into_iter().filter(|server| !server.is_complete()).collect();
        let incomplete_count = incomplete.len() as u64;
        incomplete.truncate(MAX_LIST);
        incomplete.iter_mut().for_each(|server| server.reasons.truncate(MAX_REASONS));
        let incomplete = incomplete.into_iter().map(v1::ServerCompleteness::from).collect();
        Self { complete, incomplete, incomplete_count, server_count }
    }
}

impl From<ServerCompleteness> for v1::ServerCompleteness {
    fn from(server: ServerCompleteness) -> Self {
        Self {
            complete: server.is_complete(),
            license_server: server.license_server,
            reported_through: moment(server.reported_through),
            reasons: server.reasons.into_iter().take(MAX_LIST).map(v1::IncompleteReason::from).collect(),
        }
    }
}

impl From<Reason> for v1::IncompleteReason {
    fn from(reason: Reason) -> Self {
        use v1::IncompleteKind as Kind;
        let of = |kind: Kind| Self { kind: kind.into(), ..Self::default() };
        let at = |kind: Kind, at| Self { at: moment(Some(at)), ..of(kind) };
        match reason {
            Reason::NothingReceived => of(Kind::NothingReceived),
            Reason::BeginsAfterMonth => of(Kind::BeginsAfterMonth),
            Reason::BeginsLate(begins) => at(Kind::BeginsLate, begins),
            Reason::EndsEarly { log, last_line } => Self { log, ..at(Kind::EndsEarly, last_line) },
            Reason::Rebuilding => of(Kind::Rebuilding),
            Reason::Gaps { log, count, from, through } => {
                Self { log, count, at: moment(from), through: moment(Some(through)), ..of(Kind::Gaps) }
            }
            Reason::Apart { log, lines } => Self {
                log,
                count: lines.lines,
                at: moment(Some(lines.from)),
                through: moment(Some(lines.through)),
                ..of(Kind::Apart)
            },
            Reason::Silences { log, count, from, through, is_asked } => {
                let kind = if is_asked { Kind::Unanswered } else { Kind::Silence };
                Self { log, count, at: moment(Some(from)), through: moment(Some(through)), ..of(kind) }
            }
            Reason::UnreadParts { log, count, detail, through } => {
                Self { log, count, detail, through: moment(Some(through)), ..of(Kind::UnreadParts) }
            }
            Reason::UndatedLines(count) => Self { count, ..of(Kind::UndatedLines) },
            Reason::Source { log, state, detail } => {
                Self { log, source_state: state.into(), detail, ..of(Kind::Source) }
            }
        }
    }
}

impl From<UserUsage> for v1::UserUsage {
    fn from(user: UserUsage) -> Self {
        let figures = user.figures;
        Self {
            person: user.person,
            identities: user.identities.into_iter().take(MAX_LIST).collect(),
            realm: user.realm,
            skus: user.skus.into_iter().take(MAX_SKUS).collect(),
            first_used: moment(Some(figures.first_at)),
            last_used: moment(Some(figures.last_at)),
            days: figures.days.count_ones(),
            checkouts: figures.checkouts,
            seat_seconds: figures.seat_seconds,
            estimated: figures.flags & ESTIMATED != 0,
            free: user.is_free,
        }
    }
}

impl From<Activity> for v1::Activity {
    fn from(activity: Activity) -> Self {
        Self {
            license_server: activity.license_server,
            month: activity.month.to_string(),
            daemon: activity.daemon,
            feature: activity.feature,
            users_checked_out: activity.users_checked_out,
            users_held: activity.users_held,
            checkouts: activity.checkouts,
            checkins: activity.checkins,
            denial_lines: activity.denial_lines,
            denials: activity.denials,
        }
    }
}

impl From<HeldNow> for v1::OpenSession {
    fn from(held: HeldNow) -> Self {
        Self {
            license_server: held.license_server,
            daemon: held.daemon,
            feature: held.feature,
            sku: held.sku,
            user: held.user,
            host: held.host,
            seats: held.seats,
            since: Some(timestamp(held.since)),
            known_through: Some(timestamp(held.known_through)),
            log: held.log,
        }
    }
}

impl From<Entitlement> for v1::Entitlement {
    fn from(row: Entitlement) -> Self {
        Self {
            license_server: row.license_server,
            daemon: row.daemon,
            feature: row.feature,
            sku: row.sku,
            version: row.version,
            licenses: row.licenses,
            expires_on: day_text(row.expires_on),
            permanent: row.permanent,
            expired: row.is_expired,
            pools: row.pools,
            log: row.log,
            told_at: Some(timestamp(row.told_at)),
            usable_licenses: row.usable,
            seats_in_use: row.in_use,
            peak_concurrent: row.peak,
            unique_users: row.users,
            last_told_at: Some(timestamp(row.last_told_at)),
            stale: row.is_stale,
            use_unknown: row.is_use_unknown,
        }
    }
}

impl From<ReportState> for v1::ReportState {
    fn from(state: ReportState) -> Self {
        match state {
            ReportState::NotExpected => Self::NotExpected,
            ReportState::NotFollowed => Self::NotFollowed,
            ReportState::Ok => Self::Ok,
            ReportState::Late => Self::Late,
            ReportState::Waiting => Self::Waiting,
            ReportState::Never => Self::Never,
            ReportState::CannotRead => Self::CannotRead,
            ReportState::NotALog => Self::NotALog,
            ReportState::Silent => Self::Silent,
        }
    }
}

impl From<ServerReport> for v1::LicenseServer {
    fn from(server: ServerReport) -> Self {
        Self {
            name: server.name,
            realm: server.realm,
            last_report: moment(server.last_report),
            last_line: moment(server.last_line),
            lines: Some(line_counts(server.lines)),
            open_sessions: server.open_sessions,
            logs: server.logs.into_iter().take(MAX_LIST).map(v1::Log::from).collect(),
            warnings: server.warnings.into_iter().take(MAX_LIST).map(Into::into).collect(),
            state: v1::ReportState::from(server.state).into(),
            expected_from: day_text(server.expected_from),
            retired_from: day_text(server.retired_from),
        }
    }
}

impl From<Renaming> for v1::RenameLicenseServerResponse {
    fn from(renaming: Renaming) -> Self {
        let Renaming { logs, streams, agents, is_merge: merged } = renaming;
        Self { logs: logs.into_iter().take(MAX_LIST).collect(), streams, agents, merged }
    }
}

fn line_counts([events, ignored, unrecognised]: [u64; 3]) -> v1::LineCounts {
    v1::LineCounts { events, ignored, unrecognised }
}

impl From<LogReport> for v1::Log {
    fn from(log: LogReport) -> Self {
        Self {
            name: log.name,
            last_line: moment(log.last_line),
            streams: log.streams,
            gaps: log.gaps.len() as u64,
            known_gaps: log.gaps.into_iter().rev().take(MAX_SHORT_LIST).map(Into::into).collect(),
            state: v1::ReportState::from(log.state).into(),
            since: moment(log.since),
            source_state: log.source.into(),
            detail: log.detail,
            lines: Some(line_counts(log.lines)),
            open_sessions: log.open_sessions,
            undated_lines: log.undated_lines,
            apart: log.apart.map(|apart| v1::ApartLines {
                lines: apart.lines,
                from: moment(Some(apart.from)),
                through: moment(Some(apart.through)),
            }),
            shared_beginnings: log.shared_beginnings.into_iter().take(MAX_SHORT_LIST).map(Into::into).collect(),
            unread_parts: log.unread_parts.into_iter().take(MAX_SHORT_LIST).collect(),
            license_manager: log.license_manager,
            licenses_expire_on: day_text(log.expiries.first().copied()),
        }
    }
}

impl From<Gap> for v1::Gap {
    fn from(Gap { start, end, after_at, before_at, .. }: Gap) -> Self {
        Self {
            start_position: start,
            end_position: end,
            from: moment((after_at != 0).then_some(after_at)),
            through: moment(Some(before_at)),
        }
    }
}

impl From<SharedBeginning> for v1::SharedBeginning {
    fn from(SharedBeginning { other_log, bytes, parted }: SharedBeginning) -> Self {
        Self { other_log, bytes, parted }
    }
}

impl From<AgentReport> for v1::Agent {
    fn from(agent: AgentReport) -> Self {
        let mut heartbeat = agent.heartbeat;
        heartbeat.sources.truncate(MAX_LIST);
        let state = if agent.is_silent { v1::ReportState::Silent } else { v1::ReportState::Ok };
        Self {
            id: agent.id,
            license_server: agent.license_server,
            host: agent.host,
            version: agent.version,
            last_report: moment(Some(agent.last_report)),
            clock_ahead_seconds: agent.clock_ahead,
            heartbeat: Some(heartbeat),
            state: state.into(),
        }
    }
}

impl From<StreamReport> for v1::StreamReport {
    fn from(stream: StreamReport) -> Self {
        let dated_by = match stream.dated_by {
            DatedBy::Nothing => v1::DatedBy::Nothing,
            DatedBy::Line => v1::DatedBy::Line,
            DatedBy::StreamBefore => v1::DatedBy::StreamBefore,
            DatedBy::Configuration => v1::DatedBy::Configuration,
            DatedBy::Operator => v1::DatedBy::Operator,
        };
        Self {
            license_server: stream.license_server,
            log: stream.log,
            stream: stream.name,
            first_day: day_text(stream.first_day),
            dated_by: dated_by.into(),
            begins: moment(stream.begins_at),
            last_line: moment(stream.last_line_at),
            bytes: stream.bytes,
            lines: Some(line_counts(stream.lines)),
        }
    }
}

fn month_differences(months: BTreeMap<Month, Difference>) -> Vec<v1::MonthDifference> {
    let message = |(month, difference): (Month, Difference)| v1::MonthDifference {
        month: month.to_string(),
        checkouts_before: difference.before,
        checkouts_after: difference.after,
    };
    months.into_iter().take(MAX_LIST).map(message).collect()
}

impl From<Rezoning> for v1::PreviewTimeZoneResponse {
    fn from(rezoning: Rezoning) -> Self {
        let logs = rezoning.logs.into_iter().map(|(log, time_zone)| v1::LogTimeZone { log, time_zone });
        Self { logs: logs.take(MAX_LIST).collect(), months: month_differences(rezoning.months) }
    }
}

impl From<RealmPreview> for v1::PreviewRealmResponse {
    fn from(preview: RealmPreview) -> Self {
        let months = preview.months.into_iter().take(MAX_LIST).map(|(month, users_before, users_after)| {
            v1::PeopleDifference { month: month.to_string(), users_before, users_after }
        });
        Self { realm: preview.realm, months: months.collect() }
    }
}

impl From<Redating> for v1::SetStreamDateResponse {
    fn from(redating: Redating) -> Self {
        Self {
            before: Some(redating.stream.into()),
            first_day: day_text(redating.first_day),
            other_streams: redating.other_streams,
            months: month_differences(redating.months),
        }
    }
}

impl From<UnrecognisedSample> for v1::UnrecognisedLine {
    fn from(sample: UnrecognisedSample) -> Self {
        Self {
            license_server: sample.license_server,
            log: sample.log,
            position: sample.position,
            previous_line_at: moment(sample.previous_line_at),
            text: sample.text,
        }
    }
}

impl From<Warning> for v1::Warning {
    fn from(warning: Warning) -> Self {
        Self {
            kind: v1::WarningKind::from(warning.kind).into(),
            count: warning.count,
            other: warning.other,
            subject: warning.subject,
            detail: warning.detail,
            since: moment(warning.since),
            severity: v1::Severity::from(warning.severity).into(),
        }
    }
}

impl From<Alert> for v1::Alert {
    fn from(alert: Alert) -> Self {
        Self {
            license_server: alert.license_server,
            warning: Some(alert.warning.into()),
            raised_at: moment(Some(alert.raised_at)),
        }
    }
}

impl From<Severity> for v1::Severity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Notice => Self::Notice,
            Severity::Warning => Self::Warning,
            Severity::Alert => Self::Alert,
        }
    }
}

impl From<Kind> for v1::WarningKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::SeveralAgents => Self::SeveralAgents,
            Kind::UnrecognisedLines => Self::UnrecognisedLines,
            Kind::SameFiles => Self::SameFiles,
            Kind::Silent => Self::Silent,
            Kind::NeverReported => Self::NeverReported,
            Kind::CannotRead => Self::CannotRead,
            Kind::PartlyAnswered => Self::PartlyAnswered,
            Kind::NoLines => Self::NoLines,
            Kind::OutdatedAgent => Self::OutdatedAgent,
            Kind::OutdatedLicenseManager => Self::OutdatedLicenseManager,
            Kind::LicensesExpire => Self::LicensesExpire,
            Kind::ClockOff => Self::ClockOff,
            Kind::Backlog => Self::Backlog,
            Kind::BufferFull => Self::BufferFull,
            Kind::Gaps => Self::Gaps,
            Kind::UndatedLines => Self::UndatedLines,
            Kind::WrongClock => Self::WrongClock,
            Kind::NamesDiffer => Self::NamesDiffer,
            Kind::Quarantined => Self::Quarantined,
            Kind::OverQuota => Self::OverQuota,
            Kind::ConcurrentInUse => Self::ConcurrentInUse,
        }
    }
}
