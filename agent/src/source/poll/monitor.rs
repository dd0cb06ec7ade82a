//! Asks the Citrix Monitor service of a site, on premises or in Citrix Cloud, for its sessions: all that are open, and those
//! that have ended since it was asked before.
//!
//! What ended is found by when it was changed, by the site's own clock. Each question reaches back a little behind the last change
//! that was seen, since a change can become visible late; what is told again is known by the session's key.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use seatmeter_service::screen::text::duration;
use serde::Deserialize;

use super::web::{Answered, Login, Secret, Visit, Web, WebError, shown};
use crate::format::answer::monitor::{Features, Sessions};
use crate::format::answer::{Answer, NoAnswer};

/// How far each question reaches back behind the last change that was seen.
const OVERLAP: SignedDuration = SignedDuration::from_hours(1);

/// How far the first question of a run reaches back behind the last answer of the run before: that was told by this machine's
/// clock, which may not be the site's.
const OVERLAP_OF_RUNS: SignedDuration = SignedDuration::from_hours(24);

/// How many pages in a row may tell no session that is new.
const MOST_IDLE_PAGES: usize = 100;

/// How far the clock of a site can be from this machine's until that is said.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(10);

/// How long a whole answer may take. The first one holds the sessions of weeks.
const LONGEST: Duration = Duration::from_secs(3600);

/// A site.
#[derive(Clone, Debug)]
pub struct Site {
    /// The address of the service, without the entity.
    pub url: Url,
    /// How it is reached.
    pub web: Web,
    /// As whom.
    pub access: Access,
    /// The features that its sessions use.
    pub features: Features,
    /// How far the first question of all reaches back.
    pub history: SignedDuration,
}

/// What is known of a site already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The last change that an answer of this run told, by the site's clock, in seconds since 1970 UTC.
    pub changed_through: Option<i64>,
    /// The last answer of any run, by this machine's clock, in seconds since 1970 UTC.
    pub answered_at: Option<i64>,
}

/// How a site knows who asks.
#[derive(Clone, Debug)]
pub enum Access {
    /// By a login, on premises.
    Login(Login),
    /// By a token of Citrix Cloud, which is renewed for each answer: it lives for an hour.
    Cloud {
        /// The customer's id.
        customer: String,
        /// The client's id.
        client: String,
        /// The client's secret.
        secret: Secret,
        /// Where tokens are issued.
        tokens: Url,
    },
}

/// Why a site gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// It cannot be asked.
    #[error(transparent)]
    Web(#[from] WebError),
    /// What it answers is no list of sessions.
    #[error("{url}: {reason}")]
    Page {
        /// The address.
        url: String,
        /// Why.
        reason: NoAnswer,
    },
    /// Its pages go round in a circle.
    #[error("{url} names one page after the other, and none that tells another session")]
    Circle {
        /// The address.
        url: String,
    },
    /// There is no end of pages.
    #[error("{url} has not told all of its sessions within an hour: set `history_days` lower")]
    Endless {
        /// The address.
        url: String,
    },
    /// The service that issues tokens answers otherwise.
    #[error("{url} issues no token: {reason}")]
    Token {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },
}

/// What a token service answers.
#[derive(Deserialize)]
struct Token {
    access_token: String,
}

impl Site {
    /// Returns the sessions that are open, and those that have ended since the site was asked before.
    pub fn ask(&self, known: Known, stop: &AtomicBool) -> Result<Answer<'static>, MonitorError> {
        let (visit, deadline) = (self.web.visit(stop)?, Instant::now() + LONGEST);
        let mut pages = Pages { site: self, visit, headers: HeaderMap::new(), deadline, clock: None };
        pages.log_in()?;
        let mut sessions = Sessions::default();
        // What ends between the two is told by the second.
        pages.read("EndDate eq null", &mut sessions)?;
        let now = Timestamp::now();
        // How far the site's clock is ahead.
        let ahead = pages.clock.map_or(SignedDuration::ZERO, |clock| clock.duration_since(now));
        let moment = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
        let after = match (known.changed_through, known.answered_at) {
            (Some(changed), _) => moment(changed).saturating_sub(OVERLAP),
            (None, Some(answered)) => {
                moment(answered).saturating_add(ahead).and_then(|answered| answered.saturating_sub(OVERLAP_OF_RUNS))
            }
            (None, None) => Timestamp::now().saturating_sub(self.history),
        };
        let after = after.unwrap_or(Timestamp::UNIX_EPOCH);
        pages.read(&format!("EndDate ne null and ModifiedDate gt {after:.3}"), &mut sessions)?;
        let mut answer = sessions.into_answer();
        // A change that is dated ahead of time must hide no later one.
        let latest = now.saturating_add(ahead).map_or(i64::MAX, Timestamp::as_second);
        answer.changed_through = answer.changed_through.map(|changed| changed.min(latest));
        if ahead.abs() > CLOCKS_APART {
            let minutes = (ahead.abs().as_secs().unsigned_abs() + 30) / 60;
            let apart = duration(minutes * 60);
            let side = if ahead.is_positive() { "ahead of" } else { "behind" };
            answer
                .troubles
                .push(format!("the site's clock is {apart} {side} this machine's: set right which is wrong"));
        }
        Ok(answer)
    }

    /// Returns the address of the first page of the sessions that a filter selects.
    fn first_page(&self, filter: &str) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("Sessions");
        }
        let expand = if self.features.groups.is_empty() {
            "User"
        } else {
            "User,Machine($select=Name;$expand=DesktopGroup($select=Name))"
        };
        // In an order that goes on where sessions begin meanwhile.
        url.query_pairs_mut().extend_pairs([("$filter", filter), ("$expand", expand), ("$orderby", "CreatedDate")]);
        url
    }
}

/// The pages of one answer.
struct Pages<'a> {
    site: &'a Site,
    visit: Visit<'a>,
    headers: HeaderMap,
    deadline: Instant,
    /// The site's clock, as the last page told it.
    clock: Option<Timestamp>,
}

impl Pages<'_> {
    fn log_in(&mut self) -> Result<(), MonitorError> {
        self.headers = match &self.site.access {
            Access::Login(_) => HeaderMap::new(),
            Access::Cloud { customer, client, secret, tokens } => {
                let refused = |reason: String| MonitorError::Token { url: shown(tokens), reason };
                let form = [("grant_type", "client_credentials"), ("client_id", client.as_str())];
                let answer = self.visit.post(tokens, &form, ("client_secret", secret))?;
                let Ok(Token { access_token }) = serde_json::from_slice(&answer.body) else {
                    return Err(refused("its answer has no access_token".into()));
                };
                let header = |value: String| HeaderValue::try_from(value).map_err(|error| refused(error.to_string()));
                let mut token = header(format!("CWSAuth bearer={access_token}"))?;
                token.set_sensitive(true);
                let mut headers = HeaderMap::from_iter([(AUTHORIZATION, token)]);
                headers.insert(HeaderName::from_static("citrix-customerid"), header(customer.clone())?);
                headers
            }
        };
        Ok(())
    }

    /// Reads all pages of the sessions that a filter selects.
    fn read(&mut self, filter: &str, sessions: &mut Sessions) -> Result<(), MonitorError> {
        let mut next = Some(self.site.first_page(filter));
        let (mut told, mut idle) = (sessions.told(), 0);
        while let Some(url) = next {
            if Instant::now() >= self.deadline {
                return Err(MonitorError::Endless { url: shown(&url) });
            }
            if idle > MOST_IDLE_PAGES {
                return Err(MonitorError::Circle { url: shown(&url) });
            }
            let Answered { body: page, at } = self.page(&url)?;
            self.clock = at.and_then(|at| Timestamp::from_second(at).ok());
            let refused = |reason| MonitorError::Page { url: shown(&url), reason };
            next = match sessions.add_page(&page, &self.site.features).map_err(refused)? {
                None => None,
                Some(link) => {
                    let link = url.join(&link);
                    let link = link.map_err(|error| refused(NoAnswer::Damaged(format!("its next page: {error}"))))?;
                    Some(self.at_the_site(&link))
                }
            };
            idle = if sessions.told() == told { idle + 1 } else { 0 };
            told = sessions.told();
        }
        Ok(())
    }

    /// Reads a page. A token that has expired is renewed once.
    fn page(&mut self, url: &Url) -> Result<Answered, MonitorError> {
        let login = match &self.site.access {
            Access::Login(login) => login,
            Access::Cloud { .. } => &Login::Nobody,
        };
        match self.visit.get(url, &self.headers, login) {
            Err(WebError::Refused { .. }) if matches!(self.site.access, Access::Cloud { .. }) => {
                self.log_in()?;
                Ok(self.visit.get(url, &self.headers, login)?)
            }
            other => Ok(other?),
        }
    }

    /// Returns the address of a page at the configured server: behind a proxy, a service names itself otherwise, and the login
    /// must not go elsewhere.
    fn at_the_site(&self, link: &Url) -> Url {
        let mut url = self.site.url.clone();
        url.set_path(link.path());
        url.set_query(link.query());
        url
    }
}
