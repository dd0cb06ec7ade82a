//! What counts as use: the one set of rules that `seatmeter-agent scan` and the aggregator share.
//!
//! Events of one log go in, in the order of the log; what they mean for a count comes out through a [`UsageSink`].
//! Everything here is pure: no clock, no I/O, no global state, so the same events give the same numbers wherever
//! and however often they are counted.
//!
//! | module | one idea |
//! |---|---|
//! | [`event`] | what a license server said happened |
//! | [`name`] | when two names are the same name |
//! | [`interner`] | names, each kept once and known by a small number |
//! | [`calendar`] | which day and month a moment belongs to |
//! | [`sessions`] | which checkin ends which checkout, and what ends the rest |
//! | [`retries`] | which denial is only a retry of the one before |

pub mod calendar;
pub mod event;
pub mod interner;
pub mod name;
pub mod retries;
pub mod sessions;

pub use calendar::{Calendar, Day, Month};
pub use event::{ClientId, Event, FeatureId, Kind};
pub use interner::{InternQueue, Interner};
pub use sessions::{Ending, Sessions, UsageSink};
