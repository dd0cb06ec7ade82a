//! The license servers with their logs, streams, agents and open sessions: one consistent state, read per question.

use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use seatmeter_count::name::fold_case;
use seatmeter_count::timeline::DAY;
use seatmeter_count::{Calendar, Day};

use crate::quarantine;
use crate::store::agents::{self, Agent};
use crate::store::engine::Connection;
use crate::store::intake::{self, Intake};
use crate::store::log_state::{Apart, LogState, StoredSession};
use crate::store::projections::{self, Projected, Silence};
use crate::store::received::{self, Gap, LicenseServer, Log};
use crate::store::streams::{self, CommonBeginning, Stream};
use crate::store::{StoreError, facts_schema, pools};

/// The age of its last line, in seconds, beyond which a log is late.
pub const LATE_AFTER: i64 = 86_400;

/// The same for a log that has a line every six hours.
const TICKING_LATE_AFTER: i64 = 8 * 3600;

/// The state of all license servers.
pub struct FleetSnapshot {
    /// The license servers, ordered by case-folded name.
    pub servers: Vec<LicenseServer>,
    /// The logs, ordered by id.
    pub logs: Vec<Log>,
    streams: Vec<Stream>,
    agents: Vec<Agent>,
    gaps: HashMap<i64, Vec<Gap>>,
    shared_beginnings: HashMap<i64, Vec<SharedBeginning>>,
    /// The streams all of whose content another one has, too.
    copies: HashSet<i64>,
    projected: HashMap<i64, Projected>,
    uncounted: Uncounted,
    open: HashMap<i64, Vec<StoredSession>>,
    apart: HashMap<i64, Apart>,
    /// The logs that have a line every six hours.
    ticking: HashSet<i64>,
    silences: HashMap<i64, Vec<Silence>>,
    /// The logs that tell licenses, and nothing of who uses them.
    without_use: HashSet<i64>,
    /// When licenses expire, of the logs that tell it.
    expiries: HashMap<i64, Vec<Day>>,
    /// The license servers that have files which begin alike, by license server, with the number of files.
    namesakes: HashMap<i64, Vec<(i64, u64)>>,
    /// The most that came of each license server in a day, since yesterday.
    intake: HashMap<i64, Intake>,
    /// The names that nobody had before, of each day since yesterday, by log.
    new_names: HashMap<i64, Vec<(i64, u64)>>,
    /// Indexes, so that a question over ten thousand license servers stays fast.
    server_of_log: HashMap<i64, usize>,
    logs_of_server: HashMap<i64, Vec<usize>>,
    streams_of_log: HashMap<i64, Vec<usize>>,
    agents_of_server: HashMap<i64, Vec<usize>>,
}

/// What a file has in common with another one that begins alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedBeginning {
    /// The log of the other file.
    pub other_log: String,
    /// The bytes from the beginning that both have in common.
    pub bytes: u64,
    /// Whether the files differ after these bytes.
    pub parted: bool,
}

/// No license server has this name.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownServer {
    /// The name that was asked for.
    pub name: String,
    /// The names of all license servers.
    pub known: Vec<String>,
}

impl FleetSnapshot {
    /// Reads the state of all license servers.
    pub fn read(connection: &mut dyn Connection) -> Result<Self, StoreError> {
        let (servers, logs) = (received::servers(connection)?, received::logs(connection)?);
        let (streams, agents) = (streams::streams(connection)?, agents::agents(connection)?);
        let common = streams::common_beginnings(connection)?;
        let (mut open, mut apart, mut ticking) = (HashMap::new(), HashMap::new(), HashSet::new());
        let mut silences: HashMap<i64, Vec<Silence>> = HashMap::new();
        for silence in projections::silences(connection)? {
            silences.entry(silence.log_id).or_default().push(silence);
        }
        let projected: HashMap<i64, Projected> = projections::projections(connection)?.into_iter().collect();
        for (log_id, projected) in &projected {
            let state = LogState::read(&projected.state)?;
            open.insert(*log_id, state.open().collect());
            let lines = state.apart.into_iter().chain(state.apart_streams).reduce(Apart::and);
            apart.extend(lines.map(|lines| (*log_id, lines)));
            if state.ticks.is_some_and(|ticks| ticks.are_regular()) {
                ticking.insert(*log_id);
            }
            // One that has not ended yet.
            let partial = state.partial_since.map(|after_at| Silence {
                log_id: *log_id,
                after_at,
                before_at: projected.last_line_at,
            });
            silences.entry(*log_id).or_default().extend(partial);
        }
        let yesterday = Timestamp::now().as_second().div_euclid(DAY) - 1;
        Ok(Self {
            intake: intake::most_since(connection, yesterday)?.into_iter().collect(),
            new_names: new_names_since(connection, yesterday)?,
            server_of_log: server_of_log(&servers, &logs),
            logs_of_server: grouped(logs.iter().map(|log| log.server_id)),
            streams_of_log: grouped(streams.iter().map(|stream| stream.log_id)),
            agents_of_server: grouped(agents.iter().map(|agent| agent.server_id)),
            gaps: gaps_of_logs(received::gaps(connection)?, &streams),
            copies: copies(&common, &streams),
            shared_beginnings: shared_beginnings(common, &logs, &streams),
            uncounted: Uncounted::read(connection, &streams)?,
            projected,
            open,
            apart,
            ticking,
            silences,
            without_use: pools::logs_without_use(connection)?.into_iter().collect(),
            expiries: pools::expiries(connection)?,
            namesakes: namesakes(&streams),
            servers,
            logs,
            streams,
            agents,
        })
    }

    /// Leaves out what counts nowhere: what copies of agents have sent that are in quarantine.
    pub fn counted(mut self) -> Self {
        self.servers.retain(|server| !quarantine::is_name(&server.name));
        let kept: HashSet<i64> = self.servers.iter().map(|server| server.id).collect();
        self.logs.retain(|log| kept.contains(&log.server_id));
        self.server_of_log = server_of_log(&self.servers, &self.logs);
        self.logs_of_server = grouped(self.logs.iter().map(|log| log.server_id));
        self
    }

    /// Returns the license server of this name, ignoring case; `None` if the name is empty, which stands for all.
    pub fn named(&self, name: &str) -> Result<Option<&LicenseServer>, UnknownServer> {
        if name.is_empty() {
            return Ok(None);
        }
        let key = fold_case(name);
        match self.servers.binary_search_by(|server| server.key.as_str().cmp(key.as_ref())) {
            Ok(index) => Ok(Some(&self.servers[index])),
            Err(_) => Err(self.unknown(name)),
        }
    }

    fn unknown(&self, name: &str) -> UnknownServer {
        UnknownServer { name: name.to_owned(), known: self.servers.iter().map(|server| server.name.clone()).collect() }
    }

    /// Returns the license server of this name, ignoring case.
    pub fn must_be_named(&self, name: &str) -> Result<&LicenseServer, UnknownServer> {
        self.named(name)?.ok_or_else(|| self.unknown(name))
    }

    /// Returns the license server of a log.
    pub fn server_of(&self, log_id: i64) -> Option<&LicenseServer> {
        self.server_of_log.get(&log_id).map(|index| &self.servers[*index])
    }

    /// Returns the logs of a license server.
    pub fn logs_of(&self, server_id: i64) -> impl Iterator<Item = &Log> {
        at(&self.logs_of_server, server_id).iter().map(|index| &self.logs[*index])
    }

    /// Returns the logs of a license server that tell who uses licenses. Those that tell only which there are prove nothing of
    /// a month.
    pub fn logs_with_use(&self, server_id: i64) -> impl Iterator<Item = &Log> {
        self.logs_of(server_id).filter(|log| !self.without_use.contains(&log.id))
    }

    /// Returns the days through which licenses can be used, of those that a log tells last, the first one first.
    pub fn expiries(&self, log_id: i64) -> &[Day] {
        self.expiries.get(&log_id).map_or(&[], Vec::as_slice)
    }

    /// Returns the streams of a log.
    pub fn streams_of(&self, log_id: i64) -> impl Iterator<Item = &Stream> {
        at(&self.streams_of_log, log_id).iter().map(|index| &self.streams[*index])
    }

    /// Returns the streams of a log that are dated.
    pub fn dated_streams_of(&self, log_id: i64) -> impl Iterator<Item = &Stream> {
        self.streams_of(log_id).filter(|stream| stream.first_day.is_some())
    }

    /// Returns the number of lines of a log that nothing dates. Copies of what another stream has are not among them.
    pub fn undated_lines(&self, log_id: i64) -> u64 {
        let undated = self.streams_of(log_id).filter(|stream| stream.first_day.is_none());
        let lines = undated.filter(|stream| !self.copies.contains(&stream.id)).flat_map(|stream| stream.lines);
        lines.map(|lines| lines.max(0) as u64).sum()
    }

    /// Returns the agents that report for a license server.
    pub fn agents_of(&self, server_id: i64) -> impl Iterator<Item = &Agent> {
        at(&self.agents_of_server, server_id).iter().map(|index| &self.agents[*index])
    }

    /// Returns the most that came of a license server in a day, since yesterday.
    pub fn intake(&self, server_id: i64) -> Intake {
        self.intake.get(&server_id).copied().unwrap_or_default()
    }

    /// Returns the most names that nobody had before and that came of a license server in a day, since yesterday.
    pub fn new_names(&self, server_id: i64) -> u64 {
        let mut of_days: HashMap<i64, u64> = HashMap::new();
        for (day, names) in self.logs_of(server_id).filter_map(|log| self.new_names.get(&log.id)).flatten() {
            *of_days.entry(*day).or_default() += names;
        }
        of_days.into_values().max().unwrap_or_default()
    }

    /// Returns all agents.
    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// Returns the known gaps in a log, in the order of its streams.
    pub fn gaps_of(&self, log_id: i64) -> &[Gap] {
        self.gaps.get(&log_id).map_or(&[], Vec::as_slice)
    }

    /// Returns what streams of a log have in common with streams that come before them, the latest stream first.
    pub fn shared_beginnings_of(&self, log_id: i64) -> &[SharedBeginning] {
        self.shared_beginnings.get(&log_id).map_or(&[], Vec::as_slice)
    }

    /// Returns the lines of a log that are kept apart; `None` if there are none.
    pub fn apart(&self, log_id: i64) -> Option<Apart> {
        self.apart.get(&log_id).copied()
    }

    /// Returns the moment of the last line of a log that the figures contain, in seconds since 1970 UTC; 0 if there is none.
    pub fn last_line_at(&self, log_id: i64) -> i64 {
        self.projected.get(&log_id).map_or(0, |projected| projected.last_line_at)
    }

    /// Whether a log is what a license manager answers when it is asked.
    pub fn is_asked(&self, log_id: i64) -> bool {
        self.longest_pause(log_id).is_some()
    }

    fn longest_pause(&self, log_id: i64) -> Option<i64> {
        // Ids grow with the logs.
        let index = self.logs.binary_search_by_key(&log_id, |log| log.id).ok()?;
        self.logs[index].configured.longest_pause()
    }

    /// Returns the age of its last line, in seconds, beyond which a log is late.
    pub fn late_after(&self, log_id: i64) -> i64 {
        let of_lines = if self.ticking.contains(&log_id) { TICKING_LATE_AFTER } else { LATE_AFTER };
        self.longest_pause(log_id).unwrap_or(of_lines)
    }

    /// Returns the times in which a log has no line, though lines were to come, in order.
    pub fn silences_of(&self, log_id: i64) -> &[Silence] {
        self.silences.get(&log_id).map_or(&[], Vec::as_slice)
    }

    /// Returns the moment from which on a license server must report, in seconds since 1970 UTC; `None` if no operator says
    /// it.
    pub fn expected(&self, server: &LicenseServer, calendar: &Calendar) -> Option<i64> {
        server.expected_from.map(|day| calendar.start_of_day(day))
    }

    /// Returns the moment from which on a license server need not report any more, in seconds since 1970 UTC; `None` if no
    /// operator says it.
    pub fn retired(&self, server: &LicenseServer, calendar: &Calendar) -> Option<i64> {
        server.retired_from.map(|day| calendar.start_of_day(day))
    }

    /// Returns the other license servers that have files which begin as those of a license server do, with the number of files.
    /// A date stands in each of these beginnings.
    pub fn namesakes(&self, server_id: i64) -> impl Iterator<Item = (&LicenseServer, u64)> {
        let found = self.namesakes.get(&server_id).map(Vec::as_slice).unwrap_or_default();
        found
            .iter()
            .filter_map(|(other, count)| Some((self.servers.iter().find(|server| server.id == *other)?, *count)))
    }

    /// Whether the figures of a log are not those of what was received, at a moment (seconds since 1970 UTC): they are being
    /// rebuilt, or far behind.
    pub fn is_behind(&self, log: &Log, now: i64) -> bool {
        let rebuilt = self.projected.get(&log.id).map_or(0, |projected| projected.rebuilds);
        rebuilt != log.rebuilds || self.uncounted.since(log.id).is_some_and(|since| now - since > BEHIND_AFTER)
    }

    /// Returns the sessions of a log that are open at its last line.
    pub fn open(&self, log_id: i64) -> &[StoredSession] {
        self.open.get(&log_id).map_or(&[], Vec::as_slice)
    }
}

/// How long a batch can wait until the figures of its log are said to be behind, in seconds.
const BEHIND_AFTER: i64 = 10;

/// What was received and is in no figure yet.
#[derive(Default)]
struct Uncounted {
    /// When the first of it was received, by log.
    since: HashMap<i64, i64>,
    /// When the first of all was received, if there is so much that not all was looked at.
    much_since: Option<i64>,
}

impl Uncounted {
    fn read(connection: &mut dyn Connection, streams: &[Stream]) -> Result<Self, StoreError> {
        let through = facts_schema::projected_through(connection)?;
        let received = received::received_after(connection, through, MANY)?;
        let mut found = Self::default();
        if received.is_empty() {
            // The usual case.
            return Ok(found);
        }
        if received.len() as u64 == u64::from(MANY) {
            found.much_since = received.first().map(|(_, at)| *at);
        }
        let dated = streams.iter().filter(|stream| stream.first_day.is_some());
        let log_of: HashMap<i64, i64> = dated.map(|stream| (stream.id, stream.log_id)).collect();
        for (stream, at) in received {
            if let Some(log) = log_of.get(&stream) {
                found.since.entry(*log).or_insert(at);
            }
        }
        Ok(found)
    }

    fn since(&self, log_id: i64) -> Option<i64> {
        self.since.get(&log_id).copied().or(self.much_since)
    }
}

/// The number of batches that are looked at, of those that are in no figure yet.
const MANY: u32 = 1000;

fn server_of_log(servers: &[LicenseServer], logs: &[Log]) -> HashMap<i64, usize> {
    let index: HashMap<i64, usize> = servers.iter().enumerate().map(|(index, server)| (server.id, index)).collect();
    logs.iter().filter_map(|log| Some((log.id, *index.get(&log.server_id)?))).collect()
}

/// Returns the license servers that have files which begin alike, by license server, with the number of files.
fn namesakes(streams: &[Stream]) -> HashMap<i64, Vec<(i64, u64)>> {
    let mut servers: HashMap<&[u8], Vec<i64>> = HashMap::with_capacity(streams.len());
    for stream in streams.iter().filter(|stream| stream.told_day.is_some()) {
        let known = servers.entry(&stream.beginning).or_default();
        if !known.contains(&stream.server_id) {
            known.push(stream.server_id);
        }
    }
    let mut found: HashMap<i64, Vec<(i64, u64)>> = HashMap::new();
    for several in servers.into_values().filter(|servers| servers.len() > 1) {
        for server in &several {
            let others = found.entry(*server).or_default();
            for other in several.iter().filter(|other| *other != server) {
                match others.iter_mut().find(|(known, _)| known == other) {
                    Some((_, count)) => *count += 1,
                    None => others.push((*other, 1)),
                }
            }
        }
    }
    found
}

/// Returns the streams all of whose content another one has, too.
fn copies(common: &[CommonBeginning], streams: &[Stream]) -> HashSet<i64> {
    if common.is_empty() {
        return HashSet::new();
    }
    let marks: HashMap<i64, u64> = streams.iter().map(|stream| (stream.id, stream.mark)).collect();
    let pairs = common.iter().flat_map(|pair| [(pair.stream_id, pair.through), (pair.other_id, pair.through)]);
    pairs.filter(|(id, through)| marks.get(id).is_some_and(|mark| mark <= through)).map(|(id, _)| id).collect()
}

/// Returns what streams of each log have in common with streams that come before them.
fn shared_beginnings(
    common: Vec<CommonBeginning>,
    logs: &[Log],
    streams: &[Stream],
) -> HashMap<i64, Vec<SharedBeginning>> {
    let mut found: HashMap<i64, Vec<SharedBeginning>> = HashMap::new();
    if common.is_empty() {
        // The usual case.
        return found;
    }
    let log_of: HashMap<i64, i64> = streams.iter().map(|stream| (stream.id, stream.log_id)).collect();
    let names: HashMap<i64, &str> = logs.iter().map(|log| (log.id, log.name.as_str())).collect();
    for CommonBeginning { stream_id, other_id, through, parted } in common.into_iter().rev() {
        let other = log_of.get(&other_id).and_then(|log| names.get(log));
        if let (Some(log), Some(other_log), 1..) = (log_of.get(&stream_id), other, through) {
            let other_log = (*other_log).to_owned();
            found.entry(*log).or_default().push(SharedBeginning { other_log, bytes: through, parted });
        }
    }
    found
}

/// Returns the gaps of each log. What a file lost was written before the next file of its log began. `streams` come in
/// the order of their logs.
fn gaps_of_logs(gaps: Vec<Gap>, streams: &[Stream]) -> HashMap<i64, Vec<Gap>> {
    let mut of_stream: HashMap<i64, Vec<Gap>> = HashMap::new();
    for gap in gaps {
        of_stream.entry(gap.stream_id).or_default().push(gap);
    }
    let mut of_log: HashMap<i64, Vec<Gap>> = HashMap::new();
    for (index, stream) in streams.iter().enumerate() {
        let Some(gaps) = of_stream.remove(&stream.id) else { continue };
        let next = streams.get(index + 1).filter(|next| next.log_id == stream.log_id);
        let ends = next.map_or(i64::MAX, |next| next.begins_at.max(stream.last_line_at));
        let bounded = gaps.into_iter().map(|gap| Gap { before_at: gap.before_at.min(ends), ..gap });
        of_log.entry(stream.log_id).or_default().extend(bounded);
    }
    of_log
}

fn grouped(keys: impl Iterator<Item = i64>) -> HashMap<i64, Vec<usize>> {
    let mut groups: HashMap<i64, Vec<usize>> = HashMap::new();
    for (index, key) in keys.enumerate() {
        groups.entry(key).or_default().push(index);
    }
    groups
}

fn at(groups: &HashMap<i64, Vec<usize>>, key: i64) -> &[usize] {
    groups.get(&key).map_or(&[], Vec::as_slice)
}

fn new_names_since(connection: &mut dyn Connection, day: i64) -> Result<HashMap<i64, Vec<(i64, u64)>>, StoreError> {
    let mut found: HashMap<i64, Vec<(i64, u64)>> = HashMap::new();
    for (log_id, day, names) in intake::new_names_since(connection, day)? {
        found.entry(log_id).or_default().push((day, names));
    }
    Ok(found)
}
