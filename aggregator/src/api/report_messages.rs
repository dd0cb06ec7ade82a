//! Reports, months and their revisions as messages of the contract.

use jiff::Timestamp;
use seatmeter_count::name::fold_case;
use seatmeter_evidence::document::{Counts, Document, DocumentCustomer, DocumentLine, DocumentPerson};
use seatmeter_proto::timestamp;
use seatmeter_proto::v1::*;

use crate::month::document::{basis, unit};
use crate::month::ledger::LedgerError;
use crate::month::statement::{Statement, unknown_customer};
use crate::store::months as store;

/// Returns the figures as they are now.
pub(super) fn of_statement(statement: Statement) -> GetReportResponse {
    let lines = |lines: &[_]| lines.iter().map(DocumentLine::from).map(told_line).collect();
    GetReportResponse {
        month: statement.month.to_string(),
        lines: lines(&statement.lines),
        totals: lines(&statement.totals),
        users: statement.users,
        free_users: statement.free_users,
        customers: statement.customers.into_iter().map(Into::into).collect(),
        basis: Some(statement.basis.into()),
        completeness: Some(statement.completeness.into()),
        made_at: Some(timestamp(Timestamp::now().as_second())),
        ..GetReportResponse::default()
    }
}

/// Returns what a revision says; of one customer, if one is named.
pub(super) fn of_document(
    document: Document,
    revision: &store::Revision,
    customer: &str,
) -> Result<GetReportResponse, LedgerError> {
    let document = match customer {
        "" => document,
        customer => of_customer(document, customer)?,
    };
    let (person, domains) = basis(&document.rules);
    let incomplete: Vec<ServerCompleteness> = document
        .servers
        .iter()
        .filter(|server| !server.lacks.is_empty())
        .map(|server| ServerCompleteness {
            license_server: server.license_server.clone(),
            reported_through: moment(server.reported_through.as_deref()),
            complete: false,
            reasons: Vec::new(),
        })
        .collect();
    Ok(GetReportResponse {
        completeness: Some(Completeness {
            complete: document.complete,
            incomplete_count: incomplete.len() as u64,
            server_count: document.servers.len() as u64,
            incomplete,
        }),
        basis: Some(Basis {
            time_zone: document.time_zone,
            person_rule: PersonRule::from(person).into(),
            domain_rule: DomainRule::from(domains).into(),
            rules_version: document.rules.sha256.chars().take(12).collect(),
            aggregator_version: document.software,
        }),
        month: document.month,
        lines: document.lines.into_iter().map(told_line).collect(),
        totals: document.totals.into_iter().map(told_line).collect(),
        users: document.users,
        free_users: document.free_users,
        customers: document.customers.into_iter().map(told_customer).collect(),
        ended: true,
        made_at: moment(Some(&document.made_at)),
        state: MonthState::from(revision.state).into(),
        revision: revision.revision,
        sha256: revision.sha256.clone(),
    })
}

/// Leaves what is one customer's: those are the people who used anything of its.
fn of_customer(mut document: Document, customer: &str) -> Result<Document, LedgerError> {
    let key = fold_case(customer).into_owned();
    let is_own = |id: &str| fold_case(id) == key.as_str();
    if !document.customers.iter().any(|known| is_own(&known.id)) {
        let known = document.customers.iter().map(|known| known.id.clone()).collect();
        return Err(unknown_customer(customer, known).into());
    }
    document.customers.retain(|known| is_own(&known.id));
    document.lines.retain(|line| is_own(&line.customer));
    document.totals.clear();
    let own = |person: &DocumentPerson| -> Vec<Counts> {
        person.uses.iter().filter(|one| is_own(&one.customer)).map(|one| one.counts).collect()
    };
    let users: Vec<Vec<_>> = document.people.iter().map(own).filter(|uses| !uses.is_empty()).collect();
    let is_free = |uses: &&Vec<_>| uses.iter().all(|counts| *counts == Counts::Free);
    (document.users, document.free_users) = (users.len() as u64, users.iter().filter(is_free).count() as u64);
    Ok(document)
}

fn moment(text: Option<&str>) -> Option<prost_types::Timestamp> {
    let moment: Timestamp = text?.parse().ok()?;
    Some(timestamp(moment.as_second()))
}

fn told_customer(customer: DocumentCustomer) -> Customer {
    let DocumentCustomer { id, name, address, country, contract, confidential } = customer;
    Customer { id, name, address, country, contract, confidential }
}

fn told_line(line: DocumentLine) -> ReportLine {
    ReportLine {
        customer: line.customer,
        unit: Unit::from(unit(&line.unit)).into(),
        sku: line.sku,
        product: line.product,
        part_number: line.part_number,
        quantity: line.quantity,
        users: line.users,
        free_users: line.free_users,
        counted_elsewhere: line.counted_elsewhere,
        devices: line.devices,
        peak_concurrent: line.peak_concurrent,
        seat_hours: line.seat_hours,
        previous_quantity: line.previous_quantity,
        entitled: line.entitled,
        minimum: line.minimum,
        price: line.price,
        catalogued: line.catalogued,
        adjustment: line.adjustment,
    }
}

impl From<store::State> for MonthState {
    fn from(state: store::State) -> Self {
        match state {
            store::State::InReview => Self::InReview,
            store::State::Approved => Self::Approved,
            store::State::Submitted => Self::Submitted,
            store::State::Superseded => Self::Superseded,
            store::State::Withdrawn => Self::Withdrawn,
        }
    }
}

impl From<store::Revision> for MonthRevision {
    fn from(revision: store::Revision) -> Self {
        let state = MonthState::from(revision.state).into();
        Self { revision: revision.revision, state, sha256: revision.sha256 }
    }
}

impl From<store::Event> for MonthEvent {
    fn from(event: store::Event) -> Self {
        let kind = event.what.map_or(MonthEventKind::Unspecified, |what| match what {
            store::What::Reviewed => MonthEventKind::Reviewed,
            store::What::Withdrawn => MonthEventKind::Withdrawn,
            store::What::Approved => MonthEventKind::Approved,
            store::What::Submitted => MonthEventKind::Submitted,
            store::What::Acknowledged => MonthEventKind::Acknowledged,
            store::What::Adjusted => MonthEventKind::Adjusted,
            store::What::AdjustmentWithdrawn => MonthEventKind::AdjustmentWithdrawn,
        });
        Self {
            at: Some(timestamp(event.at)),
            author: event.author,
            kind: kind.into(),
            revision: event.revision,
            subject: event.subject,
            reason: event.reason,
        }
    }
}

impl From<store::Adjustment> for Adjustment {
    fn from(one: store::Adjustment) -> Self {
        let store::Adjustment { number, customer, sku, quantity, reason, author, at } = one;
        Self { number, customer, sku, quantity, reason, author, at: Some(timestamp(at)) }
    }
}
