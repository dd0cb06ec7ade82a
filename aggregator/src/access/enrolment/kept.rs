//! What operators ask and say of the enrolments that there are.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{EnrolmentError, Enrolments, RECOVERIES, sealed};
use crate::store::engine;
use crate::store::enrolments::{self as store, Enrolment};
use crate::store::holders::{self, Holder, Standing};

impl Enrolments {
    /// Returns all enrolments, ordered by license server and age.
    pub fn list(&self) -> Result<Vec<Enrolment>, EnrolmentError> {
        self.write(|connection| Ok(store::enrolments(connection)?))
    }

    /// Revokes an enrolment, known by its id or the beginning of it.
    pub fn revoke(&self, id: &str) -> Result<Enrolment, EnrolmentError> {
        let now = Timestamp::now().as_second();
        let revoked = self.write(|connection| {
            let enrolment = find(connection, id)?;
            store::revoke(connection, &enrolment.id, now)?;
            find(connection, &enrolment.id)
        })?;
        self.revoked.send_replace(());
        Ok(revoked)
    }

    /// Returns how many agents are enrolled that have no network.
    pub fn without_network(&self) -> Result<usize, EnrolmentError> {
        let is_offline = |known: &&Enrolment| known.revoked_at.is_none() && known.expires_at == Some(sealed::NO_END);
        Ok(self.list()?.iter().filter(is_offline).count())
    }

    /// Returns all holders, each with the id of its enrolment.
    pub fn holders(&self) -> Result<Vec<(String, Holder)>, EnrolmentError> {
        self.write(|connection| Ok(holders::all_holders(connection)?))
    }

    /// Returns how many agents are enrolled, and the license servers of those that a renewal of the authority would leave behind: they
    /// have not connected since the next one was made, or have no certificate of the one that signs.
    pub fn not_ready(&self) -> Result<(u64, Vec<String>), EnrolmentError> {
        let made_at = self.authority.shown().into_iter().map(|shown| shown.made_at).max().unwrap_or_default();
        self.write(|connection| {
            let mut enrolments = store::enrolments(connection)?;
            // One without a network has no certificate.
            enrolments
                .retain(|enrolment| enrolment.revoked_at.is_none() && enrolment.expires_at != Some(sealed::NO_END));
            let used: HashMap<String, Vec<u8>> = store::used_certificates(connection)?.into_iter().collect();
            let is_ready = |enrolment: &Enrolment| {
                let has_connected = enrolment.seen_at.is_some_and(|seen_at| seen_at >= made_at);
                has_connected && used.get(&enrolment.id).is_some_and(|der| self.authority.is_of_signing(der))
            };
            let not_ready = enrolments.iter().filter(|enrolment| !is_ready(enrolment));
            Ok((enrolments.len() as u64, not_ready.map(|enrolment| enrolment.license_server.clone()).collect()))
        })
    }

    /// Returns the copies that an operator has accepted, each with its enrolment.
    pub fn accepted_copies(&self) -> Result<Vec<(Enrolment, Holder)>, EnrolmentError> {
        self.write(|connection| {
            let enrolments: HashMap<String, Enrolment> =
                store::enrolments(connection)?.into_iter().map(|known| (known.id.clone(), known)).collect();
            let mut accepted = holders::all_holders(connection)?;
            accepted.retain(|(_, holder)| holder.standing == Standing::Accepted);
            let with_enrolment = |(id, holder)| enrolments.get(&id).cloned().map(|enrolment| (enrolment, holder));
            Ok(accepted.into_iter().filter_map(with_enrolment).collect())
        })
    }

    /// Records what an operator says of a copy in quarantine: the one of this number, or the only one if it is 0. Ends its connection.
    /// Returns the copy.
    pub fn judge(&self, id: &str, number: i64, standing: Standing) -> Result<(Enrolment, Holder), EnrolmentError> {
        let (enrolment, copy) = self.write(|connection| {
            let enrolment = find(connection, id)?;
            let license_server = enrolment.license_server.clone();
            if standing == Standing::Accepted && enrolment.revoked_at.is_some() {
                return Err(EnrolmentError::Revoked(license_server));
            }
            let mut waiting = holders::holders(connection, &enrolment.id)?;
            waiting.retain(|holder| holder.standing.is_undecided() && [0, holder.number].contains(&number));
            let count = waiting.len();
            let Some(mut copy) = waiting.into_iter().next() else {
                return Err(EnrolmentError::NoCopy(license_server));
            };
            if count > 1 {
                return Err(EnrolmentError::SeveralCopies { license_server, count, first: copy.number });
            }
            copy.standing = standing;
            holders::save_holder(connection, &enrolment.id, &copy)?;
            Ok::<_, EnrolmentError>((enrolment, copy))
        })?;
        self.connections.end(&enrolment.id, copy.number);
        Ok((enrolment, copy))
    }

    /// Lets an agent in that waits for it, and lets it renew expired certificates again.
    pub fn accept(&self, id: &str) -> Result<Enrolment, EnrolmentError> {
        self.write(|connection| {
            let enrolment = find(connection, id)?;
            if enrolment.revoked_at.is_some() {
                return Err(EnrolmentError::Revoked(enrolment.license_server));
            }
            store::accept(connection, &enrolment.id)?;
            store::set_recoveries(connection, &enrolment.id, RECOVERIES)?;
            find(connection, &enrolment.id)
        })
    }
}

/// Returns the enrolment whose id begins so.
fn find(connection: &mut dyn engine::Connection, id: &str) -> Result<Enrolment, EnrolmentError> {
    let mut found = store::enrolments(connection)?;
    found.retain(|enrolment| !id.is_empty() && enrolment.id.starts_with(id));
    match (found.len(), found.pop()) {
        (1, Some(only)) => Ok(only),
        (0, _) => Err(EnrolmentError::NoEnrolment(id.to_owned())),
        (count, _) => Err(EnrolmentError::Several { id: id.to_owned(), count }),
    }
}
