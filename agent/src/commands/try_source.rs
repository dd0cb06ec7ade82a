//! `seatmeter-agent try-source`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, anyhow};
use jiff::tz::TimeZone;
use seatmeter_agent::config::Config;
use seatmeter_agent::format::Stamp;
use seatmeter_agent::format::answer::monitor::Sessions;
use seatmeter_agent::format::answer::pool::{Expiry, Pool};
use seatmeter_agent::format::answer::{Answer, AnswerFormat, Holding, Reading, Seat, in_utf8};
use seatmeter_agent::source::poll::PollSource;
use seatmeter_agent::source::poll::asker::{Asker, Told};
use seatmeter_agent::source::poll::monitor::Known;
use seatmeter_count::calendar::date_of;
use seatmeter_count::name::decode;
use seatmeter_service::answer;
use seatmeter_service::screen::table::{Column, Kind, View};
use seatmeter_service::screen::text::{count, thousands, visible};
use serde::Serialize;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The file with the answer
    #[arg(value_name = "FILE", required_unless_present = "source")]
    file: Option<PathBuf>,
    /// Read it as this source of the configuration does: its `name`, or the beginning of its command
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    #[command(flatten)]
    configured: crate::Configured,
    #[command(flatten)]
    view: View,
}

/// The seats that somebody holds. The names of the fields are those of the JSON output, and must not change.
#[derive(Serialize)]
struct SeatRow {
    daemon: String,
    feature: String,
    user: String,
    host: String,
    since: String,
    until: String,
    seats: u32,
    held: bool,
}

const SEATS: &[Column] = &[
    Column::new("daemon", "Daemon", Kind::Text, 2),
    Column::new("feature", "Feature", Kind::Text, 0),
    Column::new("user", "User", Kind::Text, 0),
    Column::new("host", "Host", Kind::Text, 1),
    Column::new("since", "Since", Kind::Text, 3),
    Column::new("until", "Until", Kind::Text, 4),
    Column::new("seats", "Seats", Kind::Number, 0),
];

/// Licenses that there are. The names of the fields are those of the JSON output, and must not change.
#[derive(Serialize)]
struct LicenseRow {
    daemon: String,
    feature: String,
    version: String,
    licenses: Option<u32>,
    starts: Option<String>,
    expires: Option<String>,
    serial: String,
}

const LICENSES: &[Column] = &[
    Column::new("daemon", "Daemon", Kind::Text, 2),
    Column::new("feature", "Feature", Kind::Text, 0),
    Column::new("version", "Version", Kind::Text, 0),
    Column::new("licenses", "Licenses", Kind::Number, 0),
    Column::new("starts", "Starts", Kind::Text, 4),
    Column::new("expires", "Expires", Kind::Text, 0),
    Column::new("serial", "Serial", Kind::Text, 3),
];

/// The JSON fields beside the rows.
#[derive(Serialize)]
struct Beside {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<LicenseRow>,
    format: Option<&'static str>,
    unknown: Vec<String>,
    unrecognised: u64,
    samples: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let source = arguments.source.as_ref().map(|name| find(name, &arguments.configured)).transpose()?;
    let told = match (&arguments.file, &source) {
        (Some(file), source) => {
            let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            as_if_answered(file, text, source.as_ref())?
        }
        (None, Some(source)) => source.asker.ask(Known::default(), &AtomicBool::new(false))?,
        (None, None) => return Err(anyhow!("name a file, or a source")),
    };
    let format = told.format();
    let found = told.read()?;
    let rows: Vec<SeatRow> = found.seats.iter().map(row).collect();
    let unknown = found.unknown.iter().map(|(daemon, feature)| match (decode(daemon), decode(feature)) {
        (daemon, feature) if feature.is_empty() && daemon.is_empty() => "whatever it does not state".into(),
        (daemon, feature) if feature.is_empty() => format!("all of {daemon}"),
        (_, feature) => feature.into_owned(),
    });
    let beside = Beside {
        licenses: found.pools.iter().flatten().map(license_row).collect(),
        format,
        unknown: unknown.collect(),
        unrecognised: found.lines.unrecognised,
        samples: found.unrecognised.iter().map(|(line, _)| decode(line).into_owned()).collect(),
    };
    if !arguments.view.is_for_people() || !found.knows_nobody {
        arguments.view.print(SEATS, &rows, &beside, &TimeZone::UTC)?;
    }
    if arguments.view.is_for_people() {
        if !beside.licenses.is_empty() {
            answer!("");
            arguments.view.print(LICENSES, &beside.licenses, &(), &TimeZone::UTC)?;
        }
        summary(&found, &beside);
    }
    let is_whole = beside.unknown.is_empty() && found.troubles.is_empty();
    Ok(super::exit(is_whole && beside.unrecognised == 0))
}

/// Takes the text of a file for what a source was answered.
fn as_if_answered(file: &Path, text: Vec<u8>, source: Option<&PollSource>) -> Result<Told> {
    let reading = match source.map(|source| &source.asker) {
        None => Reading::ByContent,
        Some(Asker::Tool(_, reading) | Asker::Page(_, reading)) => reading.clone(),
        Some(Asker::Files(_)) => Reading::Known(AnswerFormat::LicenseFile),
        Some(Asker::Monitor(site)) => {
            let mut sessions = Sessions::default();
            sessions.add_page(&text, &site.features)?;
            return Ok(Told::Pages(sessions.into_answer()));
        }
    };
    Ok(Told::Text { text: in_utf8(text), by: file.display().to_string(), reading })
}

fn find(name: &str, configured: &crate::Configured) -> Result<PollSource> {
    let polls = Config::load(&configured.config)?.polls;
    let names: Vec<String> = polls.iter().map(|poll| format!("{:?}", poll.name)).collect();
    let is_named = |poll: &&PollSource| poll.name.rsplit_once(" (asked by ").is_some_and(|(own, _)| own == name);
    if let Some(found) = polls.iter().find(is_named) {
        return Ok(found.clone());
    }
    let mut beginning: Vec<PollSource> = polls.into_iter().filter(|poll| poll.name.starts_with(name)).collect();
    match (beginning.pop(), beginning.len()) {
        (Some(found), 0) => Ok(found),
        (Some(_), _) => Err(anyhow!("several sources begin with {name:?}: {}", names.join(", "))),
        (None, _) => Err(anyhow!("no source that asks is named {name:?}; there are: {}", names.join(", "))),
    }
}

fn summary(found: &Answer<'_>, beside: &Beside) {
    answer!("");
    answer!("format        {}", beside.format.unwrap_or("as the configuration declares it"));
    answer!(
        "lines         {} of {}, {} that tell of none, {} not recognised",
        thousands(found.lines.events),
        if found.knows_nobody { "licenses" } else { "seats" },
        thousands(found.lines.ignored),
        thousands(found.lines.unrecognised)
    );
    let assigned = found.seats.iter().filter(|seat| seat.holding == Holding::Assigned).count() as u64;
    let ended = found.seats.iter().filter(|seat| matches!(seat.holding, Holding::Until(_))).count() as u64;
    if assigned > 0 {
        answer!("assigned      {}: used when they say, and held by nobody", count(assigned, "license"));
    }
    if ended > 0 {
        answer!("ended         {}: held until they say", count(ended, "session"));
    }
    for trouble in &found.troubles {
        answer!("missing       {}", visible(trouble));
    }
    for feature in &beside.unknown {
        answer!("unknown       {}: the answer does not tell who holds it", visible(feature));
    }
    for (line, reason) in &found.unrecognised {
        answer!("not recognised: {} ({reason})", visible(&decode(line)));
    }
}

fn row(seat: &Seat<'_>) -> SeatRow {
    let text = |name: &[u8]| decode(name).into_owned();
    SeatRow {
        daemon: text(&seat.daemon),
        feature: text(&seat.feature),
        user: text(&seat.user),
        host: text(&seat.host),
        since: seat.since.map(shown).unwrap_or_default(),
        until: if let Holding::Until(until) = seat.holding { shown(until) } else { String::new() },
        seats: seat.seats,
        held: seat.holding == Holding::Held,
    }
}

fn license_row(pool: &Pool<'_>) -> LicenseRow {
    let text = |name: &[u8]| decode(name).into_owned();
    LicenseRow {
        daemon: text(&pool.daemon),
        feature: text(&pool.feature),
        version: text(&pool.version),
        licenses: pool.licenses,
        starts: pool.starts.map(|day| date_of(day).to_string()),
        expires: pool.expires.map(|expires| match expires {
            Expiry::Never => "never".into(),
            Expiry::On(day) => date_of(day).to_string(),
        }),
        serial: text(&pool.serial),
    }
}

fn shown(stamp: Stamp) -> String {
    let clock = |time: u32| format!("{:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60);
    match stamp {
        Stamp::Time(time) => clock(time),
        Stamp::MonthDay { month, day, time } => format!("{month:02}-{day:02} {}", clock(time)),
        Stamp::DateTime { day, time, .. } => format!("{} {}", date_of(day), clock(time)),
    }
}
