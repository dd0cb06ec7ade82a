//! Which role may call which method of the operators' port, and what the audit trail says of it. What does not stand here, nobody may
//! call.

use std::fmt::Debug;

use prost::Message;
use seatmeter_proto::v1::*;

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Anybody, known or not.
    Anybody,
    /// Operators of this role, or of one that may do more.
    AtLeast(Role),
}

/// What the audit trail says of calls of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audited {
    /// Nothing, unless one is refused.
    Nothing,
    /// That names were asked for, before they are told.
    Read,
    /// What was asked, before it is done, and what came of it.
    Change,
    /// What the method itself writes down, in the transaction of what it does; and what it refuses.
    ByItself,
}

/// A method, and its rules.
pub(super) struct Method {
    /// The package, the service and the name.
    pub(super) path: &'static str,
    /// Who may call it.
    pub(super) who: Who,
    /// What the audit trail says of it.
    pub(super) audited: Audited,
    /// Says what a request asks, without secrets; `None` if it is none of this method.
    pub(super) describe: fn(&[u8]) -> Option<String>,
    /// The most bytes of a request that is written down.
    pub(super) most: usize,
}

/// The most bytes of a request that is written down, and of one that can hold many rules.
const USUAL: usize = 64 << 10;
pub(super) const LARGE: usize = 32 << 20;

const ANYBODY: Who = Who::Anybody;
const VIEWER: Who = Who::AtLeast(Role::Viewer);
const REPORTER: Who = Who::AtLeast(Role::Reporter);
const ADMIN: Who = Who::AtLeast(Role::Admin);

const fn silent(path: &'static str, who: Who) -> Method {
    Method { path, who, audited: Audited::Nothing, describe: |_| None, most: USUAL }
}

const fn reads<M: Message + Default + Debug>(path: &'static str, who: Who) -> Method {
    Method { path, who, audited: Audited::Read, describe: fields::<M>, most: USUAL }
}

const fn changes<M: Message + Default + Debug>(path: &'static str, who: Who) -> Method {
    Method { path, who, audited: Audited::Change, describe: fields::<M>, most: USUAL }
}

/// Every method of the operators' port.
#[rustfmt::skip]
pub(super) const METHODS: &[Method] = &[
    silent("/grpc.health.v1.Health/Check", ANYBODY),
    silent("/grpc.health.v1.Health/List", ANYBODY),
    silent("/grpc.health.v1.Health/Watch", ANYBODY),
    // The contract is no secret.
    silent("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ANYBODY),
    silent("/seatmeter.v1.UsageService/GetMonthlyUsage", VIEWER),
    silent("/seatmeter.v1.UsageService/ListCompleteness", VIEWER),
    silent("/seatmeter.v1.UsageService/GetTrend", VIEWER),
    silent("/seatmeter.v1.UsageService/ListActivity", VIEWER),
    silent("/seatmeter.v1.UsageService/PreviewRealm", VIEWER),
    silent("/seatmeter.v1.UsageService/ListEntitlements", VIEWER),
    reads::<ListUsersRequest>("/seatmeter.v1.UsageService/ListUsers", REPORTER),
    reads::<ExportUsersRequest>("/seatmeter.v1.UsageService/ExportUsers", REPORTER),
    reads::<ListSessionsRequest>("/seatmeter.v1.UsageService/ListSessions", REPORTER),
    // Rules name users.
    reads::<ListRulesRequest>("/seatmeter.v1.RuleService/ListRules", REPORTER),
    reads::<ExportRulesRequest>("/seatmeter.v1.RuleService/ExportRules", REPORTER),
    silent("/seatmeter.v1.RuleService/ListRuleVersions", VIEWER),
    reads::<GetRuleVersionRequest>("/seatmeter.v1.RuleService/GetRuleVersion", REPORTER),
    Method { describe: changed_rules, most: LARGE,
             ..changes::<ChangeRulesRequest>("/seatmeter.v1.RuleService/ChangeRules", REPORTER) },
    Method { describe: imported_rules, most: LARGE,
             ..changes::<ImportRulesRequest>("/seatmeter.v1.RuleService/ImportRules", REPORTER) },
    changes::<UndoRuleVersionRequest>("/seatmeter.v1.RuleService/UndoRuleVersion", REPORTER),
    silent("/seatmeter.v1.ReportService/GetReport", VIEWER),
    silent("/seatmeter.v1.ReportService/ListMonths", VIEWER),
    silent("/seatmeter.v1.ReportService/GetMonth", VIEWER),
    changes::<ReviewMonthRequest>("/seatmeter.v1.ReportService/ReviewMonth", REPORTER),
    changes::<WithdrawReviewRequest>("/seatmeter.v1.ReportService/WithdrawReview", REPORTER),
    changes::<ApproveMonthRequest>("/seatmeter.v1.ReportService/ApproveMonth", REPORTER),
    changes::<SubmitMonthRequest>("/seatmeter.v1.ReportService/SubmitMonth", REPORTER),
    changes::<AcknowledgeServerRequest>("/seatmeter.v1.ReportService/AcknowledgeServer", REPORTER),
    changes::<AdjustMonthRequest>("/seatmeter.v1.ReportService/AdjustMonth", REPORTER),
    changes::<WithdrawAdjustmentRequest>("/seatmeter.v1.ReportService/WithdrawAdjustment", REPORTER),
    // The people are in it.
    reads::<ExportRevisionRequest>("/seatmeter.v1.ReportService/ExportRevision", REPORTER),
    reads::<ExportEvidenceRequest>("/seatmeter.v1.ReportService/ExportEvidence", REPORTER),
    silent("/seatmeter.v1.ReportService/GetEvidenceKey", VIEWER),
    silent("/seatmeter.v1.FleetService/ListLicenseServers", VIEWER),
    silent("/seatmeter.v1.FleetService/ListAgents", VIEWER),
    silent("/seatmeter.v1.FleetService/ListStreams", VIEWER),
    silent("/seatmeter.v1.FleetService/PreviewTimeZone", VIEWER),
    silent("/seatmeter.v1.FleetService/WatchFleet", VIEWER),
    // Lines can hold names.
    reads::<ListUnrecognisedLinesRequest>("/seatmeter.v1.FleetService/ListUnrecognisedLines", REPORTER),
    changes::<SetStreamDateRequest>("/seatmeter.v1.FleetService/SetStreamDate", ADMIN),
    changes::<ExpectLicenseServerRequest>("/seatmeter.v1.FleetService/ExpectLicenseServer", ADMIN),
    changes::<RetireLicenseServerRequest>("/seatmeter.v1.FleetService/RetireLicenseServer", ADMIN),
    changes::<RenameLicenseServerRequest>("/seatmeter.v1.FleetService/RenameLicenseServer", ADMIN),
    silent("/seatmeter.v1.AccessService/ListEnrolments", VIEWER),
    changes::<InviteAgentRequest>("/seatmeter.v1.AccessService/InviteAgent", ADMIN),
    changes::<RevokeEnrolmentRequest>("/seatmeter.v1.AccessService/RevokeEnrolment", ADMIN),
    changes::<AcceptEnrolmentRequest>("/seatmeter.v1.AccessService/AcceptEnrolment", ADMIN),
    changes::<RejectCopyRequest>("/seatmeter.v1.AccessService/RejectCopy", ADMIN),
    silent("/seatmeter.v1.AuthorityService/GetAuthority", VIEWER),
    changes::<RenewAuthorityRequest>("/seatmeter.v1.AuthorityService/RenewAuthority", ADMIN),
    silent("/seatmeter.v1.SealedService/Upload", ADMIN),
    changes::<ImportRequest>("/seatmeter.v1.SealedService/Import", ADMIN),
    Method { audited: Audited::ByItself, ..silent("/seatmeter.v1.OperatorService/LogIn", ANYBODY) },
    silent("/seatmeter.v1.OperatorService/GetSelf", VIEWER),
    silent("/seatmeter.v1.OperatorService/ListTokens", VIEWER),
    Method { describe: |request| label(request, |request: CreateTokenRequest| request.label),
             ..changes::<CreateTokenRequest>("/seatmeter.v1.OperatorService/CreateToken", VIEWER) },
    changes::<RevokeTokenRequest>("/seatmeter.v1.OperatorService/RevokeToken", VIEWER),
    silent("/seatmeter.v1.OperatorService/ListOperators", ADMIN),
    changes::<AddOperatorRequest>("/seatmeter.v1.OperatorService/AddOperator", ADMIN),
    changes::<InviteOperatorRequest>("/seatmeter.v1.OperatorService/InviteOperator", ADMIN),
    changes::<ChangeOperatorRequest>("/seatmeter.v1.OperatorService/ChangeOperator", ADMIN),
    silent("/seatmeter.v1.AuditService/ListAudit", ADMIN),
    reads::<ExportAuditRequest>("/seatmeter.v1.AuditService/ExportAudit", ADMIN),
];

/// What the audit trail tells beside: what agents did, and who has used the aggregator's own machine.
const OTHER_ACTIONS: [&str; 4] = ["Enrol", "Renew", "Ingest", "Administrator"];

impl Method {
    /// Returns the method of a path; `None` if the operators' port has none.
    pub(super) fn of(path: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.path == path)
    }

    /// Whether whoever is confined to a customer may call it: it answers with nothing but that customer's, or the caller's own.
    pub(super) fn is_for_customers(&self) -> bool {
        const NAMES: [&str; 5] = ["GetReport", "GetSelf", "ListTokens", "CreateToken", "RevokeToken"];
        NAMES.contains(&self.name())
    }

    /// Returns whether the audit trail can have an action of this name, whatever its case.
    pub(super) fn is_action(name: &str) -> bool {
        let is_meant = |known: &str| known.eq_ignore_ascii_case(name);
        METHODS.iter().map(Self::name).any(is_meant) || OTHER_ACTIONS.into_iter().any(is_meant)
    }

    /// Returns the name without the service.
    pub(super) fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// The rules themselves stand in the version that the change makes.
fn changed_rules(request: &[u8]) -> Option<String> {
    let ChangeRulesRequest { add, remove, reason, seen_version: _, preview } = Message::decode(request).ok()?;
    let add = add.len();
    Some(format!("add: {add} rules, remove: {remove:?}, reason: {reason:?}, preview: {preview}"))
}

fn imported_rules(request: &[u8]) -> Option<String> {
    let asked = ImportRulesRequest::decode(request).ok()?;
    let (format, bytes) = (asked.format(), asked.text.len());
    let ImportRulesRequest { origin, reason, preview, .. } = asked;
    Some(format!("format: {format:?}, text: {bytes} bytes, origin: {origin:?}, reason: {reason:?}, preview: {preview}"))
}

/// Returns the fields of a request as text.
fn fields<M: Message + Default + Debug>(request: &[u8]) -> Option<String> {
    let request = M::decode(request).ok()?;
    let shown = format!("{request:?}");
    let fields = shown.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
    let fields = fields.map_or(String::new(), |(fields, _)| fields.trim().to_owned());
    // As people write it.
    let fields = fields.replace("Some(Duration { seconds: ", "").replace(", nanos: 0 })", " s");
    Some(fields.replace("Some(true)", "true").replace("Some(false)", "false").replace("role: Unspecified, ", ""))
}

fn label<M: Message + Default>(request: &[u8], of: fn(M) -> String) -> Option<String> {
    M::decode(request).ok().map(|request| format!("label: {:?}", of(request)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_types::FileDescriptorSet;
    use seatmeter_proto::v1::DESCRIPTOR;

    use super::*;

    /// The services of the agents' port, which has rules of its own.
    const OF_AGENTS: [&str; 2] = ["IngestService", "EnrolmentService"];

    #[test]
    fn every_method_of_the_contract_has_its_rules() {
        let set = FileDescriptorSet::decode(DESCRIPTOR).unwrap();
        let services = set.file.iter().flat_map(|file| file.service.iter());
        let services = services.filter(|service| !OF_AGENTS.contains(&service.name()));
        let contract: BTreeSet<String> = services
            .flat_map(|service| {
                service.method.iter().map(|method| format!("/seatmeter.v1.{}/{}", service.name(), method.name()))
            })
            .collect();
        let ruled = METHODS.iter().map(|method| method.path.to_owned()).filter(|path| path.starts_with("/seatmeter."));
        assert_eq!(contract, ruled.collect());
        assert_eq!(METHODS.iter().map(|method| method.path).collect::<BTreeSet<_>>().len(), METHODS.len());
    }

    /// What tells the names of users is for reporters, and written down; what changes something is written down.
    #[test]
    fn names_are_for_reporters_and_changes_are_written_down() {
        for method in METHODS {
            let changes = [
                "Set",
                "Expect",
                "Retire",
                "Rename",
                "Invite",
                "Revoke",
                "Accept",
                "Reject",
                "LogIn",
                "Create",
                "Add",
                "Change",
                "Renew",
                "Import",
                "Undo",
                "Review",
                "Withdraw",
                "Approve",
                "Submit",
                "Acknowledge",
                "Adjust",
            ];
            let is_change = changes.iter().any(|verb| method.name().starts_with(verb));
            let is_told = matches!(method.audited, Audited::Change | Audited::ByItself);
            assert_eq!(is_told, is_change, "{}", method.path);
            if method.audited == Audited::Read {
                assert!(method.who != VIEWER && method.who != ANYBODY, "{}", method.path);
            }
        }
    }

    #[test]
    fn a_record_shows_no_secret() {
        let request = CreateTokenRequest { token_sha256: vec![78; 32], label: "desk".into(), valid_for: None };
        let method = Method::of("/seatmeter.v1.OperatorService/CreateToken").unwrap();
        assert_eq!((method.describe)(&request.encode_to_vec()).unwrap(), "label: \"desk\"");
        let request = RetireLicenseServerRequest { license_server: "LIC01".into(), date: String::new() };
        let method = Method::of("/seatmeter.v1.FleetService/RetireLicenseServer").unwrap();
        assert_eq!((method.describe)(&request.encode_to_vec()).unwrap(), r#"license_server: "LIC01", date: """#);
        assert_eq!((method.describe)(b"\xff"), None);
    }
}
