//! The rules for counting use, shared by `seatmeter-agent scan` and the aggregator.
//!
//! The input is the events of one log, in the order of the log. The output is facts about use, which a [`UsageSink`]
//! receives. Everything here is pure: no clock, no I/O, no global state, so the same events give the same numbers
//! wherever and however often they are counted.
//!
//! | module | one idea |
//! |---|---|
//! | [`event`] | one event, as a license server reported it |
//! | [`name`] | case folding, so that spellings of one name compare equal |
//! | [`interner`] | names, each stored once and known by a small number |
//! | [`calendar`] | which day and month a moment belongs to |
//! | [`timeline`] | when a line was written |
//! | [`sessions`] | which checkin ends which checkout, and what ends the rest |
//! | [`retries`] | which denial is only a retry of the one before |

pub mod calendar;
pub mod event;
pub mod interner;
pub mod name;
pub mod retries;
pub mod sessions;
pub mod timeline;

pub use calendar::{Calendar, Day, Month};
pub use event::{ClientId, Event, FeatureId, Kind, NO_LINE_BEFORE, NO_OFFSET, RecordKey, SessionKey};
pub use interner::{InternQueue, Interner};
pub use sessions::{Ending, Sessions, UsageSink};
