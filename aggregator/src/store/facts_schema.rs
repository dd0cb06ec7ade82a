//! The tables of the facts. They have no migrations: facts of another version are discarded, and made of the archive again.

use super::engine::{Connection, Engine, Role};
use super::sql::statements;
use super::{Failure, StoreError, in_transaction};

statements! {
    CREATE_FACTS_SETTING = "CREATE TABLE IF NOT EXISTS facts_setting (name TEXT PRIMARY KEY, value TEXT NOT NULL)";
    SELECT_FACTS_SETTING = "SELECT value FROM facts_setting WHERE name = $1";
    UPSERT_FACTS_SETTING = "INSERT INTO facts_setting (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value";
}

/// The version of the tables, and of what projections make of batches. Raise it whenever either changes.
const VERSION: &str = "6";

/// The statements that create the tables.
pub(super) const DEFINITIONS: &[&str] = &[
    // How far the facts of each log go.
    "CREATE TABLE projection (
         log_id            BIGINT PRIMARY KEY,
         rebuilds          BIGINT NOT NULL,         -- log.rebuilds when the facts were last rebuilt
         projected_through BIGINT NOT NULL,         -- the last batch that the facts contain
         last_line_at      BIGINT NOT NULL,
         state             {blob} NOT NULL          -- open sessions, and denials that can still be retried
     )",
    // When the lines of gaps were written.
    "CREATE TABLE gap_moment (
         stream_id    BIGINT NOT NULL,
         end_position BIGINT NOT NULL,
         log_id       BIGINT NOT NULL,
         after_at     BIGINT NOT NULL,
         before_at    BIGINT,                       -- NULL: before the gap was noticed
         PRIMARY KEY (stream_id, end_position)
     )",
    // Times in which a log that has a line every six hours has none, though no daemon started after them.
    "CREATE TABLE silence (
         log_id    BIGINT NOT NULL,
         after_at  BIGINT NOT NULL,
         before_at BIGINT NOT NULL,
         PRIMARY KEY (log_id, after_at)
     )",
    // The licenses that sources tell, whenever they are others than before.
    "CREATE TABLE licenses (
         log_id       BIGINT NOT NULL,
         told_at      BIGINT NOT NULL,
         knows_nobody BIGINT NOT NULL,              -- 1: the source tells nothing of who uses them
         expires_on   BIGINT,                       -- the first day through which any of them can be used; NULL: none expire
         pools        {blob} NOT NULL,              -- a seatmeter.v1.Licenses: all that there were
         PRIMARY KEY (log_id, told_at)
     )",
    // How many names that nobody had before came with each log in a day.
    "CREATE TABLE new_names (
         log_id BIGINT NOT NULL,
         day    BIGINT NOT NULL,                    -- on which they were received: since 1970, of UTC
         names  BIGINT NOT NULL,
         PRIMARY KEY (log_id, day)
     )",
    // Names, each once.
    "CREATE TABLE identity (
         id       BIGINT PRIMARY KEY,
         realm    TEXT NOT NULL,
         name     TEXT NOT NULL,                    -- as first written
         name_key TEXT NOT NULL,                    -- case folded
         UNIQUE (realm, name_key)
     )",
    "CREATE TABLE device (
         id       BIGINT PRIMARY KEY,
         realm    TEXT NOT NULL,
         name     TEXT NOT NULL,
         name_key TEXT NOT NULL,
         UNIQUE (realm, name_key)
     )",
    "CREATE TABLE feature (
         id     BIGINT PRIMARY KEY,
         daemon TEXT NOT NULL,
         name   TEXT NOT NULL,                      -- empty: the daemon itself
         UNIQUE (daemon, name)
     )",
    "CREATE TABLE fact (
         log_id     BIGINT NOT NULL,
         month      BIGINT NOT NULL,                -- 12 * year + month - 1, of the billing time zone
         feature_id BIGINT NOT NULL,
         block      BIGINT NOT NULL,                -- identity / 32
         figures    {blob} NOT NULL,                -- of those identities: days, moments, checkouts, seat-seconds, flags
         PRIMARY KEY (log_id, month, feature_id, block)
     ) {clustered}",
    "CREATE TABLE usage (
         log_id       BIGINT NOT NULL,
         month        BIGINT NOT NULL,
         feature_id   BIGINT NOT NULL,
         outs         BIGINT NOT NULL,
         ins          BIGINT NOT NULL,
         denial_lines BIGINT NOT NULL,
         denials      BIGINT NOT NULL,
         seat_seconds BIGINT NOT NULL,
         peak         BIGINT NOT NULL,
         peak_at      BIGINT NOT NULL,
         held         {blob} NOT NULL,              -- roaring bitmaps of identities
         checked_out  {blob} NOT NULL,
         devices      {blob} NOT NULL,              -- and of devices
         PRIMARY KEY (month, log_id, feature_id)
     ) {clustered}",
    "CREATE TABLE concurrency (
         log_id     BIGINT NOT NULL,
         hour       BIGINT NOT NULL,                -- hours since 1970 UTC
         feature_id BIGINT NOT NULL,
         peak       BIGINT NOT NULL,
         peak_at    BIGINT NOT NULL,
         PRIMARY KEY (log_id, hour, feature_id)
     ) {clustered}",
];

/// What facts are made of, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The incarnation of the archive.
    pub incarnation: String,
    /// The IANA name of the time zone whose days and months the facts are made of.
    pub time_zone: String,
}

/// Why facts were discarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// There were none.
    Missing,
    /// They could not be read; the text is the database's.
    Damaged(String),
    /// Another version has made them.
    OtherVersion,
    /// They were made of another archive, or of an older state of this one.
    OtherArchive,
    /// They have the days of another time zone, which is named.
    OtherTimeZone(String),
}

/// Opens the facts for writing. If they are not of this origin, they are discarded, and empty then.
pub(super) fn open(
    engine: &dyn Engine,
    origin: &Origin,
) -> Result<(Box<dyn Connection>, Option<Discarded>), StoreError> {
    let found = engine.connect(Role::Projector).and_then(|mut connection| {
        let unfit = unfit(connection.as_mut(), origin)?;
        Ok((connection, unfit))
    });
    let unfit = match found {
        Ok((connection, None)) => return Ok((connection, None)),
        Ok((connection, Some(unfit))) => {
            // Windows removes no file that is open.
            drop(connection);
            unfit
        }
        Err(error) if error.failure == Failure::Corrupt => Discarded::Damaged(error.reason),
        Err(error) => return Err(error),
    };
    engine.discard_facts()?;
    let mut connection = engine.connect(Role::Projector)?;
    in_transaction(connection.as_mut(), |connection| {
        connection.execute(CREATE_FACTS_SETTING, &[])?;
        for definition in DEFINITIONS {
            connection.execute(&engine.dialect().definition(definition), &[])?;
        }
        set(connection, "version", VERSION)?;
        set(connection, "generation", &uuid::Uuid::new_v4().to_string())?;
        set(connection, "incarnation", &origin.incarnation)?;
        set(connection, "time_zone", &origin.time_zone)
    })?;
    Ok((connection, Some(unfit)))
}

fn unfit(connection: &mut dyn Connection, origin: &Origin) -> Result<Option<Discarded>, StoreError> {
    connection.execute(CREATE_FACTS_SETTING, &[])?;
    let Some(version) = get(connection, "version")? else { return Ok(Some(Discarded::Missing)) };
    let (incarnation, zone) = (get(connection, "incarnation")?, time_zone(connection)?);
    Ok(if version != VERSION {
        Some(Discarded::OtherVersion)
    } else if incarnation.as_ref() != Some(&origin.incarnation) {
        Some(Discarded::OtherArchive)
    } else {
        zone.filter(|zone| *zone != origin.time_zone).map(Discarded::OtherTimeZone)
    })
}

/// Refuses facts that another version has made.
pub(super) fn must_be_current(connection: &mut dyn Connection) -> Result<(), StoreError> {
    if get(connection, "version")?.as_deref() == Some(VERSION) {
        return Ok(());
    }
    let reason = "the figures are of another version: start or restart the aggregator, which makes them again";
    Err(StoreError::new(Failure::Permanent, reason))
}

/// Fixes the state of the facts that a transaction reads.
pub(super) fn pin(connection: &mut dyn Connection) -> Result<(), StoreError> {
    get(connection, "version").map(drop)
}

/// Returns the IANA name of the time zone whose days the facts are made of.
pub fn time_zone(connection: &mut dyn Connection) -> Result<Option<String>, StoreError> {
    get(connection, "time_zone")
}

/// Returns what tells these facts from those that were discarded before them: ids mean something else in each.
pub fn generation(connection: &mut dyn Connection) -> Result<Option<String>, StoreError> {
    get(connection, "generation")
}

/// Returns the last batch of the archive up to which the facts of all logs go that need no rebuild; 0 if there is none.
pub fn projected_through(connection: &mut dyn Connection) -> Result<i64, StoreError> {
    Ok(get(connection, "projected_through")?.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Saves up to which batch of the archive the facts go.
pub fn set_projected_through(connection: &mut dyn Connection, batch: i64) -> Result<(), StoreError> {
    set(connection, "projected_through", &batch.to_string())
}

fn get(connection: &mut dyn Connection, name: &str) -> Result<Option<String>, StoreError> {
    let mut value = None;
    connection.query(SELECT_FACTS_SETTING, &[name.into()], &mut |row| {
        value = Some(row.text(0)?.to_owned());
        Ok(())
    })?;
    Ok(value)
}

fn set(connection: &mut dyn Connection, name: &str, value: &str) -> Result<(), StoreError> {
    connection.execute(UPSERT_FACTS_SETTING, &[name.into(), value.into()]).map(drop)
}
