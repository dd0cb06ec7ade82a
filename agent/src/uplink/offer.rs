//! Finds out what an aggregator lacks whose database is another one than before: it was restored from a backup, or begun
//! anew. What it lacks is read again from the logs.

use std::cmp::Ordering;

use seatmeter_proto::MAX_OFFER;
use seatmeter_proto::v1::ingest_request::Message as Up;
use seatmeter_proto::v1::ingest_response::Message as Down;
use seatmeter_proto::v1::{Marks, Offer};

use super::{ANSWER_TIMEOUT, Ended, Session, Uplink, blocking, send};
use crate::checkpoint::{CheckValue, Checkpoint, Fingerprint, Rewind, RewindCause};
use crate::codes;

impl Uplink {
    /// Offers all streams to an aggregator with another database, and requests that those which it lacks a part of be
    /// read again.
    pub(super) async fn offer(&self, session: &mut Session) -> Result<(), Ended> {
        let buffer = self.buffer.clone();
        let known = blocking(move || buffer.incarnation()).await?;
        if session.incarnation.is_empty() || session.incarnation == known {
            session.is_delivered = true;
            return Ok(());
        }
        let sent = self.acknowledged_streams().await?;
        let mut lacking = 0u64;
        for offered in sent.chunks(MAX_OFFER) {
            let marks = session.marks_of(offered).await?;
            let checks = marks.checks.into_iter().chain(std::iter::repeat(Vec::new()));
            for ((sent, mark), check) in offered.iter().zip(marks.positions).zip(checks) {
                if let Some(mark) = sent.lacks_from(mark, &check) {
                    lacking += 1;
                    let fingerprint = sent.fingerprint;
                    self.capture.rewind(Rewind { fingerprint, cause: RewindCause::Lacking, mark });
                }
            }
        }
        if lacking > 0 {
            tracing::warn!(
                code = codes::AGGREGATOR_RESTORED,
                streams = lacking,
                "the aggregator lacks what it had acknowledged: it is delivered again, from the buffer or from the logs, where it is still there"
            );
        }
        self.note_delivered(session).await
    }

    /// Returns the streams of the configured logs, as far as they were acknowledged.
    async fn acknowledged_streams(&self) -> Result<Vec<Acknowledged>, Ended> {
        let (buffer, capture) = (self.buffer.clone(), self.capture.clone());
        blocking(move || {
            let waiting = buffer.waiting_from()?;
            let streams = buffer.streams()?.into_iter();
            let streams = streams.filter(|stream| capture.logs.iter().any(|log| log.name == stream.log));
            Ok(streams.map(|stream| Acknowledged::of(&stream, waiting.get(&stream.fingerprint).copied())).collect())
        })
        .await
    }

    /// Once nothing has to be read again, records that the aggregator's database has all that was acknowledged. Until
    /// then, a new connection offers all streams again.
    pub(super) async fn note_delivered(&self, session: &mut Session) -> Result<(), Ended> {
        if session.is_delivered || !self.capture.has_rewound() {
            return Ok(());
        }
        let (buffer, incarnation) = (self.buffer.clone(), session.incarnation.clone());
        blocking(move || buffer.set_incarnation(&incarnation)).await?;
        session.is_delivered = true;
        Ok(())
    }
}

/// A stream, as far as it was acknowledged.
struct Acknowledged {
    fingerprint: Fingerprint,
    /// The position through which it was.
    through: u64,
    /// The check value of that position, if it is known.
    check: Option<CheckValue>,
    /// Whether more waits for delivery, which proves by itself what goes before it.
    has_more: bool,
    /// Whether other content can have the same name. Each run of a poller has a name of its own.
    can_have_twins: bool,
}

impl Acknowledged {
    fn of(stream: &Checkpoint, waiting_from: Option<u64>) -> Self {
        let through = waiting_from.unwrap_or(stream.position);
        Self {
            fingerprint: stream.fingerprint,
            through,
            check: stream.proof().filter(|proof| proof.position == through).map(|proof| proof.check),
            has_more: waiting_from.is_some(),
            can_have_twins: stream.file().is_some(),
        }
    }

    /// Returns from where on an aggregator lacks the stream whose mark of this name is there, with this check value; `None` if it
    /// has all of it. Where it can have other content, all is sent again: that shows it, and gets another name.
    fn lacks_from(&self, mark: u64, check: &[u8]) -> Option<u64> {
        let is_proven = self.has_more || !self.can_have_twins;
        match (mark.cmp(&self.through), self.check) {
            (Ordering::Less, _) => Some(mark),
            (_, _) if is_proven => None,
            (Ordering::Equal, Some(own)) => (!check.is_empty() && own != check).then_some(0),
            (Ordering::Equal, None) => None,
            // Another agent has sent more under this name, of this content or another one.
            (Ordering::Greater, _) => Some(0),
        }
    }
}

impl Session {
    /// Asks for the marks of streams.
    async fn marks_of(&mut self, streams: &[Acknowledged]) -> Result<Marks, Ended> {
        let fingerprints = streams.iter().map(|stream| stream.fingerprint.to_vec()).collect();
        send(&self.requests, Up::Offer(Offer { fingerprints })).await?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.answer()).await.map_err(|_| Ended::Silent)??;
        match answer {
            Down::Marks(marks) if marks.positions.len() == streams.len() => Ok(marks),
            _ => Err(Ended::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_no_proof() {
        let (own, other) = ([1; 32], [2; 32]);
        let sent = |has_more, can_have_twins| Acknowledged {
            fingerprint: [0; 32],
            through: 10,
            check: Some(own),
            has_more,
            can_have_twins,
        };
        for (mark, check, expected) in [
            (9, &other[..], Some(9)),
            (10, &own[..], None),
            (10, &[], None),
            (10, &other[..], Some(0)),
            (11, &other[..], Some(0)),
        ] {
            assert_eq!(sent(false, true).lacks_from(mark, check), expected, "{mark}");
            let expected = (mark < 10).then_some(mark);
            assert_eq!(sent(true, true).lacks_from(mark, check), expected, "{mark}, and more");
            assert_eq!(sent(false, false).lacks_from(mark, check), expected, "{mark}, of a poller");
        }
    }
}
