//! Finds out what an aggregator lacks whose database is another one than before: it was restored from a backup, or begun
//! anew. What it lacks is read again from the logs.

use seatmeter_proto::MAX_OFFER;
use seatmeter_proto::v1::ingest_request::Message as Up;
use seatmeter_proto::v1::ingest_response::Message as Down;
use seatmeter_proto::v1::{Marks, Offer};

use super::{ANSWER_TIMEOUT, Ended, Session, Uplink, blocking, send};
use crate::acknowledged::{Acknowledged, acknowledged};
use crate::checkpoint::{Rewind, RewindCause};
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
        let (buffer, capture) = (self.buffer.clone(), self.capture.clone());
        let sent = blocking(move || acknowledged(&buffer, &capture)).await?;
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
