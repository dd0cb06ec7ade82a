//! Operators, their invitations and their tokens.
//!
//! A token and an invitation's secret are 32 random bytes, and known here by their hashes alone. A client makes its own token and has
//! its hash made valid, so that an answer that is lost can be asked for again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use seatmeter_count::name::fold_case;
use seatmeter_proto::v1::Role;

use super::certificate_names::names;
use super::registrar::Registrar;
use super::trail::{self, Entry, OK};
use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::operators::{self as store, Operator, Token};

/// How long the token of a login lasts.
const LOGIN_LASTS: Duration = Duration::from_secs(30 * 86_400);

/// The most tokens of an operator.
const MOST_TOKENS: usize = 100;

/// How exactly it is kept when a token was last used, in seconds: each note is a write to the disk.
const USED_WITHIN: i64 = 60;

/// The fewest digits by which a token can be named, and the number of those that are shown.
const ID_DIGITS: usize = 8;

/// Why a call about operators fails.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system has no random numbers.
    #[error("the operating system gives no random numbers")]
    Random,
    /// The invitation cannot be used.
    #[error(
        "the invitation is not known here, has expired, or has been used: ask an administrator for another one \
         (`seatmeter operators invite`), or run `seatmeter-aggregator administrator` at the aggregator"
    )]
    Invitation,
    /// There is no operator of this name.
    #[error("there is no operator {0:?}: `seatmeter operators list` has all")]
    Unknown(String),
    /// There is one already.
    #[error("there is an operator {0:?} already: `seatmeter operators invite` is for one who logs in again")]
    Exists(String),
    /// The certificate's name is another operator's.
    #[error("the certificate name {name:?} is that of operator {operator:?}")]
    CertificateTaken {
        /// The name in the certificate.
        name: String,
        /// Whose it is.
        operator: String,
    },
    /// Nobody would be left to administer.
    #[error(
        "{0:?} is the last administrator who can log in: let another one log in before (`seatmeter operators add NAME --role admin`)"
    )]
    LastAdmin(String),
    /// The operator is not let in.
    #[error("operator {0:?} is disabled: `seatmeter operators enable` lets it in again")]
    Disabled(String),
    /// No token has the id.
    #[error(
        "{0:?} is no token's id, or the beginning of several: write the eight digits that `seatmeter tokens list` shows"
    )]
    NoToken(String),
    /// The name cannot be one.
    #[error("a name has 1 to 100 characters, none of them hidden, and no space around them")]
    Name,
    /// The operator has too many tokens.
    #[error("no operator can have more than {MOST_TOKENS} tokens: end some (`seatmeter tokens revoke`)")]
    TooMany,
    /// The same token was made valid before, for another purpose.
    #[error("this token exists already: make another one")]
    TokenExists,
}

/// Who calls: an operator that was let in.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The operator's name, as it was given.
    pub name: String,
    /// The same, case folded.
    pub name_key: String,
    /// What it may do.
    pub role: Role,
    /// The hash of the token that the call came with; empty if it came with a certificate.
    pub token: Vec<u8>,
    /// The customer to whose reports it is confined; empty for none.
    pub customer: String,
}

/// An operator, and how many tokens of it are valid.
pub struct Listed {
    /// The operator.
    pub operator: Operator,
    /// The number of its tokens.
    pub tokens: u32,
}

/// An invitation's secret, and when it can no longer be used, in seconds since 1970 UTC.
pub struct Invited {
    /// The secret.
    pub secret: [u8; 32],
    /// The end.
    pub expires_at: i64,
}

/// All operators.
#[derive(Clone)]
pub struct Operators {
    registrar: Registrar,
    known: Arc<RwLock<Known>>,
    /// Held until what was written is known, so that nobody takes an older state for a newer one.
    writing: Arc<Mutex<()>>,
}

/// What each call needs, as it stands in the database.
#[derive(Default)]
struct Known {
    operators: HashMap<String, Operator>,
    tokens: HashMap<Vec<u8>, Token>,
}

impl Operators {
    /// Opens the operators of a database.
    pub fn open(registrar: Registrar) -> Result<Self, StoreError> {
        let operators = Self { registrar, known: Arc::default(), writing: Arc::default() };
        operators.refresh()?;
        Ok(operators)
    }

    /// Runs a task in a transaction, and takes note of what it has changed.
    fn write<T, E: From<StoreError>>(&self, task: impl FnOnce(&mut dyn Connection) -> Result<T, E>) -> Result<T, E> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, known) = self.registrar.write(|connection| {
            let done = task(connection)?;
            let operators = store::all(connection)?.into_iter().map(|one| (one.name_key.clone(), one)).collect();
            let tokens = store::tokens(connection)?.into_iter().map(|token| (token.sha256.clone(), token)).collect();
            Ok::<_, E>((done, Known { operators, tokens }))
        })?;
        // Only now is it on disk.
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(done)
    }

    /// Takes note of what was changed at the aggregator itself (`seatmeter-aggregator administrator`).
    pub fn refresh(&self) -> Result<(), StoreError> {
        self.write(|_| Ok(()))
    }

    /// Returns whether somebody can administer the aggregator now.
    pub fn has_admin(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.operators.values().any(|operator| is_admin(operator, known.tokens.values()))
    }

    /// Returns whom a token's text lets in.
    pub fn by_token(&self, text: &str) -> Option<Principal> {
        let sha256 = hash(text.as_bytes());
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let token = known.tokens.get(&sha256).filter(|token| now() < token.expires_at)?;
        let operator = known.operators.get(&token.name_key)?;
        principal(operator, sha256)
    }

    /// Returns whom a certificate lets in, which an authority has signed that the operators' port trusts.
    pub fn by_certificate(&self, certificate: &CertificateDer<'_>) -> Option<Principal> {
        let names = names(certificate);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |operator: &&Operator| {
            let own = &operator.certificate_name;
            !own.is_empty() && names.iter().any(|name| fold_case(name) == own.as_str())
        };
        let mut meant = known.operators.values().filter(is_meant);
        // One that names several operators says nothing of who it is.
        let (operator, None) = (meant.next()?, meant.next()) else { return None };
        principal(operator, Vec::new())
    }

    /// Whether an operator that was let in would be let in again, with the same role.
    pub fn is_let_in(&self, caller: &Principal) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let has_token = |token: &Token| now() < token.expires_at;
        let operator = known.operators.get(&caller.name_key);
        (caller.token.is_empty() || known.tokens.get(&caller.token).is_some_and(has_token))
            && operator.is_some_and(|one| one.disabled_at.is_none() && one.role == i32::from(caller.role))
    }

    /// Notes that an operator has called, if that is not known to the minute.
    pub fn note_use(&self, caller: &Principal) -> Result<(), StoreError> {
        let now = now();
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            let used = known.tokens.get(&caller.token).map(|token| token.used_at);
            let seen = known.operators.get(&caller.name_key).and_then(|operator| operator.seen_at);
            if used.unwrap_or(seen).is_some_and(|used| now - used < USED_WITHIN) {
                return Ok(());
            }
        }
        self.write(|connection| {
            store::set_seen(connection, &caller.name_key, now)?;
            store::set_used(connection, &caller.token, now)
        })
    }

    /// Adds an operator, and invites it. `added_by` is empty for what is done at the aggregator itself.
    pub fn add(
        &self,
        name: &str,
        (role, customer): (Role, &str),
        certificate_name: &str,
        added_by: &str,
        valid_for: Duration,
    ) -> Result<Invited, OperatorError> {
        let name_key = fold_case(name).into_owned();
        let certificate_name = fold_case(certificate_name).into_owned();
        self.write(|connection| {
            let all = store::all(connection)?;
            if let Some(there) = all.iter().find(|operator| operator.name_key == name_key) {
                return Err(OperatorError::Exists(there.name.clone()));
            }
            let taken = all.iter().find(|one| !certificate_name.is_empty() && one.certificate_name == certificate_name);
            if let Some(taken) = taken {
                return Err(OperatorError::CertificateTaken { name: certificate_name, operator: taken.name.clone() });
            }
            let operator = Operator {
                name_key: name_key.clone(),
                name: name.to_owned(),
                role: role.into(),
                certificate_name,
                added_at: now(),
                added_by: added_by.to_owned(),
                seen_at: None,
                disabled_at: None,
                customer: customer.to_owned(),
            };
            store::add(connection, &operator)?;
            invite(connection, &name_key, valid_for)
        })
    }

    /// Invites an operator to log in.
    pub fn invite(&self, name: &str, valid_for: Duration) -> Result<Invited, OperatorError> {
        self.write(|connection| {
            let operator = find(connection, name)?;
            if operator.disabled_at.is_some() {
                return Err(OperatorError::Disabled(operator.name));
            }
            invite(connection, &operator.name_key, valid_for)
        })
    }

    /// Makes somebody an administrator, whoever they were before, and invites them: for who has access to the aggregator's own files.
    pub fn administrator(&self, name: &str, valid_for: Duration) -> Result<Invited, OperatorError> {
        if !is_plain(name) {
            return Err(OperatorError::Name);
        }
        match self.add(name, (Role::Admin, ""), "", "", valid_for) {
            Err(OperatorError::Exists(name)) => self.write(|connection| {
                let name_key = fold_case(&name);
                store::set_role(connection, &name_key, Role::Admin.into())?;
                store::set_disabled(connection, &name_key, None)?;
                invite(connection, &name_key, valid_for)
            }),
            added => added,
        }
    }

    /// Makes a token valid for an invitation's secret, and writes it into the audit trail, with the address that it came from. Returns
    /// the operator and when the token ends.
    pub fn log_in(
        &self,
        secret: &[u8],
        token: &[u8],
        label: &str,
        address: Option<IpAddr>,
    ) -> Result<(Listed, i64), OperatorError> {
        let (secret_hash, now) = (hash(secret), now());
        let (name_key, expires_at) = self.write(|connection| {
            let login = store::login(connection, &secret_hash)?.filter(|login| now < login.expires_at);
            let login = login.ok_or(OperatorError::Invitation)?;
            let there = store::tokens(connection)?.into_iter().find(|there| there.sha256 == token);
            match there {
                // The answer was lost: the same client asks again.
                Some(there) if login.token_hash == token => return Ok((login.name_key, there.expires_at)),
                Some(_) => return Err(OperatorError::TokenExists),
                None => {}
            }
            if !login.token_hash.is_empty() {
                return Err(OperatorError::Invitation);
            }
            let token = new_token(token, &login.name_key, label, LOGIN_LASTS, now);
            let operator = find(connection, &login.name_key)?;
            let entry = Entry {
                who: operator.name,
                address: address.map(|address| address.to_string()).unwrap_or_default(),
                action: "LogIn".into(),
                detail: format!("label: {label:?}"),
                result: OK.into(),
                result_of: 0,
            };
            trail::append(connection, entry)?;
            store::use_login(connection, &secret_hash, &token.sha256)?;
            store::add_token(connection, &token)?;
            Ok::<_, OperatorError>((login.name_key, token.expires_at))
        })?;
        let listed = self.one(&name_key).ok_or(OperatorError::Unknown(name_key))?;
        Ok((listed, expires_at))
    }

    /// Changes an operator's role, or whether it is let in.
    pub fn change(&self, name: &str, role: Option<Role>, disabled: Option<bool>) -> Result<Listed, OperatorError> {
        let name_key = self.write(|connection| {
            let operator = find(connection, name)?;
            if let Some(role) = role {
                store::set_role(connection, &operator.name_key, role.into())?;
            }
            match disabled {
                Some(true) if operator.disabled_at.is_none() => {
                    store::set_disabled(connection, &operator.name_key, Some(now()))?;
                }
                Some(false) => store::set_disabled(connection, &operator.name_key, None)?,
                _ => {}
            }
            let tokens = store::tokens(connection)?;
            if !store::all(connection)?.iter().any(|operator| is_admin(operator, tokens.iter())) {
                return Err(OperatorError::LastAdmin(operator.name));
            }
            Ok(operator.name_key)
        })?;
        self.one(&name_key).ok_or(OperatorError::Unknown(name_key))
    }

    /// Returns an operator, known by its name, case folded.
    pub fn one(&self, name_key: &str) -> Option<Listed> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        Some(listed(&known, known.operators.get(name_key)?.clone()))
    }

    /// Returns all operators, by name.
    pub fn list(&self) -> Vec<Listed> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Listed> = known.operators.values().map(|one| listed(&known, one.clone())).collect();
        all.sort_by(|one, other| one.operator.name_key.cmp(&other.operator.name_key));
        all
    }

    /// Makes another token of an operator valid.
    pub fn create_token(
        &self,
        caller: &Principal,
        token: &[u8],
        label: &str,
        valid_for: Duration,
    ) -> Result<Token, OperatorError> {
        self.write(|connection| {
            // It can have been disabled since it was let in.
            let operator = find(connection, &caller.name_key)?;
            if operator.disabled_at.is_some() {
                return Err(OperatorError::Disabled(operator.name));
            }
            let tokens = store::tokens(connection)?;
            if tokens.iter().filter(|there| there.name_key == caller.name_key).count() >= MOST_TOKENS {
                return Err(OperatorError::TooMany);
            }
            if let Some(there) = tokens.into_iter().find(|there| there.sha256 == token) {
                let is_again = there.name_key == caller.name_key && there.label == label;
                return if is_again { Ok(there) } else { Err(OperatorError::TokenExists) };
            }
            let token = new_token(token, &caller.name_key, label, valid_for, now());
            store::add_token(connection, &token)?;
            Ok(token)
        })
    }

    /// Returns the valid tokens of one operator, or of all if the name is empty, each with its operator's name.
    pub fn tokens(&self, name_key: &str) -> Vec<(Token, String)> {
        let (known, now) = (self.known.read().unwrap_or_else(PoisonError::into_inner), now());
        let is_meant = |token: &&Token| (name_key.is_empty() || token.name_key == name_key) && now < token.expires_at;
        let name = |token: &Token| known.operators.get(&token.name_key).map(|one| one.name.clone()).unwrap_or_default();
        let mut all: Vec<_> =
            known.tokens.values().filter(is_meant).map(|token| (token.clone(), name(token))).collect();
        all.sort_by(|(one, _), (other, _)| (&one.name_key, &one.sha256).cmp(&(&other.name_key, &other.sha256)));
        all
    }

    /// Ends a token, known by the beginning of its id: one of the caller's, or any if the caller is an administrator.
    pub fn revoke_token(&self, caller: &Principal, id: &str) -> Result<(Token, String), OperatorError> {
        let of_whom = if caller.role == Role::Admin { "" } else { &caller.name_key };
        let mut found = self.tokens(of_whom);
        match id {
            "" => found.retain(|(token, _)| token.sha256 == caller.token),
            id => found.retain(|(token, _)| id.len() >= 4 && token_id(&token.sha256).starts_with(id)),
        }
        let (Some(token), true) = (found.pop(), found.is_empty()) else {
            return Err(OperatorError::NoToken(id.to_owned()));
        };
        self.write(|connection| store::delete_token(connection, &token.0.sha256))?;
        Ok(token)
    }
}

/// Returns the digits by which a token is known.
pub fn token_id(sha256: &[u8]) -> String {
    let mut digits = data_encoding::HEXLOWER.encode(sha256);
    digits.truncate(ID_DIGITS);
    digits
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn hash(secret: &[u8]) -> Vec<u8> {
    digest(&SHA256, secret).as_ref().to_vec()
}

/// Whether an operator can administer now: one that was only invited cannot.
fn is_admin<'a>(operator: &Operator, mut tokens: impl Iterator<Item = &'a Token>) -> bool {
    let now = now();
    operator.role == i32::from(Role::Admin)
        && operator.disabled_at.is_none()
        && (!operator.certificate_name.is_empty()
            || tokens.any(|token| token.name_key == operator.name_key && now < token.expires_at))
}

/// The most characters of an operator's name, or of what a token is for.
const MOST_TEXT: usize = 100;

/// Whether a text can be an operator's name, or say what a token is for: short, with no space around it and nothing hidden in it.
pub fn is_plain(text: &str) -> bool {
    // Characters that turn the direction of what follows make one name look like another.
    let is_hidden = |character: char| {
        character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let is_short = !text.is_empty() && text.chars().count() <= MOST_TEXT;
    is_short && text.trim() == text && !text.chars().any(is_hidden)
}

/// Returns the caller, if the operator is let in.
fn principal(operator: &Operator, token: Vec<u8>) -> Option<Principal> {
    let role = Role::try_from(operator.role).ok().filter(|role| *role != Role::Unspecified)?;
    let Operator { name, name_key, customer, .. } = operator.clone();
    operator.disabled_at.is_none().then_some(Principal { name, name_key, role, token, customer })
}

fn listed(known: &Known, operator: Operator) -> Listed {
    let now = now();
    let is_valid = |token: &&Token| token.name_key == operator.name_key && now < token.expires_at;
    let tokens = known.tokens.values().filter(is_valid).count() as u32;
    Listed { operator, tokens }
}

fn find(connection: &mut dyn Connection, name: &str) -> Result<Operator, OperatorError> {
    let name_key = fold_case(name);
    let found = store::all(connection)?.into_iter().find(|operator| operator.name_key == name_key);
    found.ok_or_else(|| OperatorError::Unknown(name.to_owned()))
}

fn invite(connection: &mut dyn Connection, name_key: &str, valid_for: Duration) -> Result<Invited, OperatorError> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| OperatorError::Random)?;
    let now = now();
    let expires_at = now.saturating_add_unsigned(valid_for.as_secs());
    store::add_login(connection, &hash(&secret), name_key, expires_at, now)?;
    Ok(Invited { secret, expires_at })
}

fn new_token(sha256: &[u8], name_key: &str, label: &str, valid_for: Duration, now: i64) -> Token {
    Token {
        sha256: sha256.to_vec(),
        name_key: name_key.to_owned(),
        label: label.to_owned(),
        created_at: now,
        expires_at: now.saturating_add_unsigned(valid_for.as_secs()),
        used_at: None,
    }
}
