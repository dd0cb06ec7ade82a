//! Facts changed since the last flush. A flush adds them to the facts in the database.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use seatmeter_count::Calendar;
use seatmeter_count::timeline::DAY;

use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::facts::{self, FactFigures};
use crate::store::intake;
use crate::store::names::NO_DEVICE;
use crate::store::pools::{self, Told};
use crate::store::projections::{self, GapMoments, Silence};
use crate::store::usage::{self, HourKey, Usage, UsageKey};

/// Collects facts until they are written.
pub struct PendingFacts {
    calendar: Calendar,
    cells: HashMap<UsageKey, Cell>,
    hours: HashMap<HourKey, (u64, i64)>,
    /// When the lines of gaps were written, by stream and end of the gap.
    gaps: BTreeMap<(i64, u64), GapMoments>,
    silences: Vec<Silence>,
    /// The licenses that sources told, by log, in the order of the archive.
    licenses: Vec<(i64, Told)>,
    /// How many names that nobody had before came with each log on each day (since 1970, of UTC).
    new_names: BTreeMap<(i64, i64), u64>,
    facts: usize,
    /// The number of uses in all cells that are not added to their facts yet.
    uses: usize,
}

/// The pending facts and sums of one feature, in one month, of one log.
#[derive(Default)]
struct Cell {
    facts: HashMap<u32, FactFigures>,
    /// Uses that are not added to the facts yet. Events of different features come in any order. The facts of all
    /// features exceed the processor's cache, but those of one feature fit. So many uses of one feature are added at a
    /// time.
    uses: Vec<Use>,
    devices: RoaringBitmap,
    outs: u64,
    ins: u64,
    denial_lines: u64,
    denials: u64,
    seat_seconds: u64,
    peak: u64,
    peak_at: i64,
}

/// A checkout, or a stretch of time within the month in which seats were held.
#[derive(Clone, Copy)]
struct Use {
    identity: u32,
    device: u32,
    days: u32,
    /// Flags of the fact, or [`CHECKOUT`].
    flags: u32,
    from: i64,
    last: i64,
    seat_seconds: u64,
}

/// Marks a use as a checkout. Differs from all flags of a fact.
const CHECKOUT: u32 = 1 << 31;

/// The number of uses in a cell at which they are added to its facts.
const MANY_USES: usize = 1 << 13;
/// The number of uses in all cells at which all are added to their facts. Bounds the memory of uses (40 bytes each).
const TOO_MANY_USES: usize = 1 << 20;

/// A stretch of time in which seats were held.
#[derive(Clone, Copy)]
pub struct Stretch {
    /// The id of the log.
    pub log_id: i64,
    /// The id of the feature.
    pub feature: u32,
    /// The id of the identity that held the seats.
    pub identity: u32,
    /// The id of the device on which the seats were held.
    pub device: u32,
    /// The first moment, in seconds since 1970 UTC.
    pub from: i64,
    /// The last moment, in seconds since 1970 UTC.
    pub through: i64,
    /// The number of seats.
    pub seats: u32,
    /// The flags of the fact: [`facts::ESTIMATED`] or [`facts::MOMENT`]; 0 if neither applies.
    pub flags: u32,
}

impl PendingFacts {
    /// Creates an empty collection, with the days of this calendar.
    pub fn new(calendar: Calendar) -> Self {
        Self {
            calendar,
            cells: HashMap::new(),
            hours: HashMap::new(),
            gaps: BTreeMap::new(),
            silences: Vec::new(),
            licenses: Vec::new(),
            new_names: BTreeMap::new(),
            facts: 0,
            uses: 0,
        }
    }

    /// Returns the number of facts to write, without those of the uses that are not added yet.
    pub fn facts(&self) -> usize {
        self.facts
    }

    /// Discards the pending facts of a log.
    pub fn forget(&mut self, log_id: i64) {
        self.digest();
        self.cells.retain(|(log, _, _), _| *log != log_id);
        self.hours.retain(|(log, _, _), _| *log != log_id);
        self.gaps.retain(|_, moments| moments.log_id != log_id);
        self.silences.retain(|silence| silence.log_id != log_id);
        self.licenses.retain(|(log, _)| *log != log_id);
    }

    /// Sets when the lines of a gap were written.
    pub fn gap(&mut self, gap: (i64, u64), moments: GapMoments) {
        self.gaps.insert(gap, moments);
    }

    /// Adds a silence of a log: the moments of the lines around it.
    pub fn silence(&mut self, log_id: i64, (after_at, before_at): (i64, i64)) {
        self.silences.push(Silence { log_id, after_at, before_at });
    }

    /// Adds the licenses that a source told at a moment.
    pub fn licenses(&mut self, log_id: i64, told: Told) {
        self.licenses.push((log_id, told));
    }

    /// Adds names that nobody had before, of a log, received at a moment.
    pub fn new_names(&mut self, log_id: i64, received_at: i64, names: u64) {
        if names > 0 {
            *self.new_names.entry((log_id, received_at.div_euclid(DAY))).or_default() += names;
        }
    }

    /// Adds a checkout line.
    pub fn checkout(&mut self, log_id: i64, feature: u32, identity: u32, device: u32, at: i64) {
        let span = self.calendar.span(at);
        let days = self.calendar.days(span, at, at);
        self.add(
            (log_id, span.month.number(), feature),
            Use { identity, device, days, flags: CHECKOUT, from: at, last: at, seat_seconds: 0 },
        );
    }

    // Inlined, since the processor would wait for a use that is passed through memory.
    #[inline(always)]
    fn add(&mut self, key: UsageKey, added: Use) {
        let cell = self.cells.entry(key).or_default();
        cell.uses.push(added);
        self.uses += 1;
        if cell.uses.len() == MANY_USES {
            self.uses -= MANY_USES;
            self.facts += cell.digest();
        } else if self.uses >= TOO_MANY_USES {
            self.digest();
        }
    }

    /// Adds all uses to their facts.
    fn digest(&mut self) {
        self.facts += self.cells.values_mut().map(Cell::digest).sum::<usize>();
        self.uses = 0;
    }

    /// Adds a checkin line.
    pub fn checkin(&mut self, log_id: i64, feature: u32, at: i64) {
        self.cell(log_id, feature, at).ins += 1;
    }

    /// Adds a denial line.
    pub fn denial(&mut self, log_id: i64, feature: u32, at: i64, is_retry: bool) {
        let cell = self.cell(log_id, feature, at);
        cell.denial_lines += 1;
        cell.denials += u64::from(!is_retry);
    }

    /// Adds a stretch of time in which seats were held. A stretch over several months is divided among them.
    pub fn held(&mut self, stretch: Stretch) {
        let Stretch { log_id, feature, identity, device, mut from, through, seats, flags } = stretch;
        loop {
            let span = self.calendar.span(from);
            let end = span.until;
            let last = through.min(end.saturating_sub(1)).max(from);
            let days = self.calendar.days(span, from, last);
            let seat_seconds = (through.min(end) - from).max(0) as u64 * u64::from(seats);
            self.add(
                (log_id, span.month.number(), feature),
                Use { identity, device, days, flags, from, last, seat_seconds },
            );
            // The last month of a zone has no end: stop there, so that garbage dates do not keep the loop going.
            if through < end || end <= from {
                return;
            }
            from = end;
        }
    }

    /// Raises the peak of an hour to `peak` seats, first in use at the moment `at`.
    pub fn peak(&mut self, log_id: i64, feature: u32, hour: i64, peak: u64, at: i64) {
        let known = self.hours.entry((log_id, hour, feature)).or_insert((peak, at));
        if peak > known.0 {
            *known = (peak, at);
        }
        let cell = self.cell(log_id, feature, at);
        if peak > cell.peak {
            (cell.peak, cell.peak_at) = (peak, at);
        }
    }

    /// Adds the pending facts to those in the database.
    pub fn write(&mut self, connection: &mut dyn Connection) -> Result<(), StoreError> {
        self.digest();
        let mut keys: Vec<&UsageKey> = self.cells.keys().collect();
        keys.sort_unstable();
        for key in keys {
            let cell = &self.cells[key];
            let mut facts: Vec<(u32, FactFigures)> =
                cell.facts.iter().map(|(identity, figures)| (*identity, *figures)).collect();
            facts.sort_unstable_by_key(|(identity, _)| *identity);
            facts::add_facts(connection, *key, &facts)?;
            let mut usage = usage::usage(connection, *key)?;
            cell.add_to(&mut usage, &facts);
            usage::put_usage(connection, *key, &usage)?;
        }
        let mut hours: Vec<_> = self.hours.iter().map(|(key, peak)| (*key, *peak)).collect();
        hours.sort_unstable();
        usage::raise_peaks(connection, &hours)?;
        self.silences.iter().try_for_each(|silence| projections::add_silence(connection, silence))?;
        self.licenses.iter().try_for_each(|(log_id, told)| pools::add(connection, *log_id, told))?;
        self.new_names
            .iter()
            .try_for_each(|((log, day), names)| intake::add_new_names(connection, *log, *day, *names))?;
        self.gaps.iter().try_for_each(|(gap, moments)| projections::save_gap_moments(connection, *gap, moments))
    }

    /// Discards all pending facts: they are written, or will be computed again.
    pub fn clear(&mut self) {
        self.cells.clear();
        self.hours.clear();
        self.gaps.clear();
        self.silences.clear();
        self.licenses.clear();
        self.new_names.clear();
        (self.facts, self.uses) = (0, 0);
    }

    fn cell(&mut self, log_id: i64, feature: u32, at: i64) -> &mut Cell {
        let month = self.calendar.month(at);
        self.cells.entry((log_id, month.number(), feature)).or_default()
    }
}

impl Cell {
    /// Adds the uses to their facts. Returns how many facts are new.
    fn digest(&mut self) -> usize {
        let before = self.facts.len();
        for Use { identity, device, days, flags, from, last, seat_seconds } in std::mem::take(&mut self.uses) {
            let fact = self.facts.entry(identity).or_insert(FactFigures::NOTHING);
            fact.seat_seconds += seat_seconds;
            if flags == CHECKOUT {
                fact.checkouts += 1;
                self.outs += 1;
            } else {
                fact.flags |= flags;
            }
            fact.touch(days, from, last);
            self.seat_seconds += seat_seconds;
            if device != NO_DEVICE {
                self.devices.insert(device);
            }
        }
        self.facts.len() - before
    }

    fn add_to(&self, usage: &mut Usage, facts: &[(u32, FactFigures)]) {
        usage.outs += self.outs;
        usage.ins += self.ins;
        usage.denial_lines += self.denial_lines;
        usage.denials += self.denials;
        usage.seat_seconds += self.seat_seconds;
        if self.peak > usage.peak {
            (usage.peak, usage.peak_at) = (self.peak, self.peak_at);
        }
        for (identity, figures) in facts {
            usage.held.insert(*identity);
            if figures.checkouts > 0 {
                usage.checked_out.insert(*identity);
            }
        }
        usage.devices |= &self.devices;
    }
}
