//! `seatmeter.v1.RuleService`: the rules, their versions, and what a change of them comes to.

use std::pin::Pin;
use std::sync::Arc;

use seatmeter_count::Month;
use seatmeter_proto::timestamp;
use seatmeter_proto::v1::rule_service_server::RuleService;
use seatmeter_proto::v1::*;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::paging::{Page, THINGS};
use super::rule_messages::rule;
use super::status::{ApiError, few};
use super::{ConcurrencyLimit, answer, caller};
use crate::month::statement::Statements;
use crate::rules::book::{CONFIGURATION, Change, RuleBook, RuleError};
use crate::rules::file::{self, TableKind};
use crate::rules::set::{Numbered, RuleSet};
use crate::store::rules::StoredVersion;

/// The most rules of a version that are told.
const MOST_TOLD: usize = 1000;

/// The longest reason, in bytes.
const LONGEST_REASON: usize = 1000;

/// The bytes of a piece of an export.
const PIECE: usize = 1 << 20;

/// Keeps the rules.
#[derive(Clone)]
pub struct RulesApi {
    book: RuleBook,
    statements: Statements,
    /// The IANA name of the billing time zone.
    time_zone: Arc<str>,
    limit: ConcurrencyLimit,
}

impl RulesApi {
    /// Creates the service over a book; what a change comes to is seen in statements. Clients show moments in `time_zone`.
    pub fn new(book: RuleBook, statements: Statements, time_zone: &str, limit: ConcurrencyLimit) -> Self {
        Self { book, statements, time_zone: time_zone.into(), limit }
    }

    /// Makes a change, or says what it would come to.
    fn effect(&self, change: &Change, author: &str, asked: &Asked) -> Result<RuleEffect, ApiError> {
        let before = self.book.current();
        if asked.preview {
            let after = self.book.preview(change)?;
            let months = self.statements.effects(&before, &after)?;
            let months = months.into_iter().map(Into::into).collect();
            return Ok(RuleEffect { months, ..told(&before, &after) });
        }
        let after = match asked.undoes {
            Some(version) => self.book.undo(version, author, &asked.reason)?,
            None => self.book.change(change, author, &asked.reason, &asked.seen)?,
        };
        Ok(told(&before, &after))
    }
}

/// How a change is asked for.
struct Asked {
    reason: String,
    seen: String,
    preview: bool,
    undoes: Option<u64>,
}

/// Returns how many rules one set has that the other has not.
fn told(before: &RuleSet, after: &RuleSet) -> RuleEffect {
    let only = |one: &RuleSet, other: &RuleSet| {
        let known: std::collections::HashSet<u64> = other.rules.iter().map(|rule| rule.number).collect();
        one.rules.iter().filter(|rule| !known.contains(&rule.number)).count() as u64
    };
    RuleEffect {
        version: after.version(),
        added: only(after, before),
        removed: only(before, after),
        months: Vec::new(),
    }
}

pub(super) fn must_be_a_reason(reason: &str) -> Result<(), ApiError> {
    match reason.len() > LONGEST_REASON || reason.chars().any(|c| c.is_control() && c != '\n') {
        true => Err(ApiError::invalid("reason", "must have at most 1000 bytes, and no control characters")),
        false => Ok(()),
    }
}

/// Returns whether a rule is of a kind, which is empty for all.
fn is_of_kind(rule: &Numbered, kind: &str) -> bool {
    kind.is_empty() || rule.rule.canonical().starts_with(&format!("{{\"{kind}\":"))
}

#[tonic::async_trait]
impl RuleService for RulesApi {
    type ExportRulesStream = Pin<Box<dyn Stream<Item = Result<ExportRulesResponse, Status>> + Send>>;

    async fn list_rules(&self, request: Request<ListRulesRequest>) -> Result<Response<ListRulesResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let month = match asked.month.as_str() {
            "" => None,
            text => Some(text.parse::<Month>().map_err(|error| ApiError::invalid("month", error.to_string()))?),
        };
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &["rules", &asked.kind, &asked.month])?;
        let set = self.book.current();
        answer(move || {
            let is_wanted = |rule: &&Numbered| {
                month.is_none_or(|month| rule.rule.is_valid_in(month)) && is_of_kind(rule, &asked.kind)
            };
            let mut wanted: Vec<&Numbered> = set.rules.iter().filter(is_wanted).collect();
            let total_size = wanted.len() as i64;
            // Of hundreds of thousands, only those of the page are told.
            let after = page.after::<1>()?.and_then(|[number]| number.parse::<u64>().ok()).unwrap_or_default();
            let wanted = wanted.split_off(wanted.partition_point(|rule| rule.number <= after));
            let rows = wanted.into_iter().map(|rule| (vec![format!("{:020}", rule.number)], rule.clone().into()));
            let (rules, next_page_token) = page.cut(rows);
            Ok::<_, ApiError>(ListRulesResponse { rules, next_page_token, total_size, version: set.version() })
        })
        .await
    }

    async fn change_rules(
        &self,
        request: Request<ChangeRulesRequest>,
    ) -> Result<Response<ChangeRulesResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (author, asked, api) = (caller(&request)?.name, request.into_inner(), self.clone());
        must_be_a_reason(&asked.reason)?;
        answer(move || {
            let add = asked.add.into_iter().map(rule).collect::<Result<_, _>>()?;
            let change = Change { add, remove: asked.remove, origin: String::new() };
            let how = Asked { reason: asked.reason, seen: asked.seen_version, preview: asked.preview, undoes: None };
            api.effect(&change, &author, &how).map(|effect| ChangeRulesResponse { effect: Some(effect) })
        })
        .await
    }

    async fn import_rules(
        &self,
        request: Request<ImportRulesRequest>,
    ) -> Result<Response<ImportRulesResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (author, asked, api) = (caller(&request)?.name, request.into_inner(), self.clone());
        must_be_a_reason(&asked.reason)?;
        if asked.origin == CONFIGURATION || asked.origin.len() > 255 || asked.origin.chars().any(char::is_control) {
            return Err(ApiError::invalid("origin", "must have at most 255 bytes, and not be `configuration`").into());
        }
        answer(move || {
            let add = match asked.format() {
                RuleFormat::Toml => file::parse(&asked.text),
                RuleFormat::FreeCsv => file::parse_table(TableKind::Free, &asked.text),
                RuleFormat::DirectoryCsv => file::parse_table(TableKind::Directory, &asked.text),
                RuleFormat::Unspecified => return Err(ApiError::invalid("format", "is missing")),
            };
            let add = add.map_err(|error| ApiError::invalid("text", few(&error.to_string())))?;
            if add.is_empty() {
                // An export that failed must not let everybody go whom the one before named.
                let text =
                    "holds no rules: to remove what came from it before, take that back (`seatmeter rules undo`)";
                return Err(ApiError::invalid("text", text));
            }
            let change = Change { add, remove: Vec::new(), origin: asked.origin };
            let how = Asked { reason: asked.reason, seen: asked.seen_version, preview: asked.preview, undoes: None };
            api.effect(&change, &author, &how).map(|effect| ImportRulesResponse { effect: Some(effect) })
        })
        .await
    }

    async fn export_rules(
        &self,
        request: Request<ExportRulesRequest>,
    ) -> Result<Response<Self::ExportRulesStream>, Status> {
        let _permit = self.limit.enter()?;
        let (kind, set) = (request.into_inner().kind, self.book.current());
        let text = answer(move || {
            let wanted = set.rules.iter().filter(|rule| is_of_kind(rule, &kind));
            Ok::<_, ApiError>(file::write(wanted.map(|numbered| &numbered.rule)))
        });
        let text = text.await?.into_inner();
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.floor_char_boundary(PIECE));
            pieces.push(Ok(ExportRulesResponse { text: piece.to_owned() }));
            rest = later;
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn undo_rule_version(
        &self,
        request: Request<UndoRuleVersionRequest>,
    ) -> Result<Response<UndoRuleVersionResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (author, asked, api) = (caller(&request)?.name, request.into_inner(), self.clone());
        must_be_a_reason(&asked.reason)?;
        answer(move || {
            let change = api.book.undoing(asked.number)?;
            let seen = String::new();
            let how = Asked { reason: asked.reason, seen, preview: asked.preview, undoes: Some(asked.number) };
            api.effect(&change, &author, &how).map(|effect| UndoRuleVersionResponse { effect: Some(effect) })
        })
        .await
    }

    async fn list_rule_versions(
        &self,
        request: Request<ListRuleVersionsRequest>,
    ) -> Result<Response<ListRuleVersionsResponse>, Status> {
        let _permit = self.limit.enter()?;
        let asked = request.into_inner();
        let page = Page::new(THINGS, asked.page_size, &asked.page_token, &["rule versions"])?;
        let (book, time_zone) = (self.book.clone(), self.time_zone.to_string());
        answer(move || {
            let versions = book.versions()?;
            let total_size = versions.len() as i64;
            // The last one first: keys of pages grow.
            let rows = versions.into_iter().rev();
            let rows = rows.map(|version| (vec![format!("{:020}", u64::MAX - version.number)], version.into()));
            let (versions, next_page_token) = page.cut(rows);
            Ok::<_, RuleError>(ListRuleVersionsResponse { versions, next_page_token, total_size, time_zone })
        })
        .await
    }

    async fn get_rule_version(
        &self,
        request: Request<GetRuleVersionRequest>,
    ) -> Result<Response<GetRuleVersionResponse>, Status> {
        let _permit = self.limit.enter()?;
        let (number, book) = (request.into_inner().number, self.book.clone());
        let time_zone = self.time_zone.to_string();
        answer(move || {
            let found = book.version(number)?;
            let told = |rules: Vec<Numbered>| rules.into_iter().take(MOST_TOLD).map(Into::into).collect();
            Ok::<_, RuleError>(GetRuleVersionResponse {
                version: Some(found.version.into()),
                added: told(found.added),
                removed: told(found.removed),
                time_zone,
            })
        })
        .await
    }
}

impl From<StoredVersion> for RuleVersion {
    fn from(version: StoredVersion) -> Self {
        Self {
            number: version.number,
            sha256: version.hash,
            author: version.author,
            reason: version.reason,
            made_at: Some(timestamp(version.at)),
            undoes: version.undoes.unwrap_or_default(),
            added: version.added,
            removed: version.removed,
        }
    }
}
