//! The license servers of the registry: what operators say of them, and which of them are one.
//!
//! A license server can get another name in its agent's configuration. If an agent reports for another license server than
//! before, and goes on with a log exactly where what it had sent of it ends, what it has sent moves along. Everything else is
//! an operator's to say: a copy of a log proves nothing.

use seatmeter_count::Day;
use seatmeter_count::name::fold_case;
use seatmeter_proto::v1::{Batch, Heartbeat, Hello, SourceStatus};

use super::{Key, SPEAKS_FOR, StreamRegistry};
use crate::codes;
use crate::store::StoreError;
use crate::store::agents::{self, Agent};
use crate::store::engine::Connection;
use crate::store::received::{self, LicenseServer, Log};
use crate::store::streams::{self, Stream};

impl StreamRegistry {
    /// Returns the id of the license server that an agent reports for. Adds a new server, and takes note of a changed realm. Of
    /// two agents that tell different ones, the one that spoke first is heard, for as long as it is there.
    pub(in crate::ingest) fn server(
        &mut self,
        connection: &mut dyn Connection,
        hello: &Hello,
        now: i64,
    ) -> Result<i64, StoreError> {
        self.heard.insert(hello.agent_id.clone(), now);
        let key = fold_case(&hello.license_server);
        let id = match self.servers.get(key.as_ref()) {
            Some(known) => known.id,
            None => self.add_server(connection, &hello.license_server, &hello.realm)?,
        };
        let first = self.realm_by.get(&id).filter(|first| **first != hello.agent_id);
        let is_there = first.and_then(|first| self.heard.get(first)).is_some_and(|at| now - at <= SPEAKS_FOR);
        let is_news = self.servers.get(key.as_ref()).is_some_and(|known| known.realm != hello.realm);
        match (is_there, is_news) {
            (false, _) => {
                self.realm_by.insert(id, hello.agent_id.clone());
                if is_news { self.set_realm(connection, &key, &hello.realm).map(|()| id) } else { Ok(id) }
            }
            (true, true) if self.contradicted.insert((-id, hello.agent_id.clone())) => {
                tracing::warn!(
                    code = codes::AGENTS_DIFFER,
                    license_server = hello.license_server,
                    agent_id = hello.agent_id,
                    realm = hello.realm,
                    "two agents tell different realms for one license server: the one that spoke first is heard"
                );
                Ok(id)
            }
            (true, _) => Ok(id),
        }
    }

    fn add_server(&mut self, connection: &mut dyn Connection, name: &str, realm: &str) -> Result<i64, StoreError> {
        self.next_server += 1;
        let server = LicenseServer {
            id: self.next_server,
            name: name.to_owned(),
            key: fold_case(name).into_owned(),
            realm: realm.to_owned(),
            expected_from: None,
            retired_from: None,
        };
        received::save_server(connection, &server)?;
        self.servers.insert(server.key.clone(), server);
        Ok(self.next_server)
    }

    /// Changes the realm of a license server's bare user names, in all that it has ever sent.
    fn set_realm(&mut self, connection: &mut dyn Connection, key: &str, realm: &str) -> Result<(), StoreError> {
        let Some(server) = self.servers.get_mut(key) else { return Ok(()) };
        tracing::warn!(
            code = codes::REALM_CHANGED,
            license_server = server.name,
            before = server.realm,
            now = realm,
            "the realm of a license server has changed: all its people are named anew"
        );
        realm.clone_into(&mut server.realm);
        received::save_server(connection, server)?;
        let id = server.id;
        let mut logs = Vec::new();
        for stream in self.streams.values_mut().filter(|stream| stream.server_id == id) {
            realm.clone_into(&mut stream.realm);
            streams::save_stream(connection, stream)?;
            logs.push(stream.log_id);
        }
        logs.into_iter().try_for_each(|log| self.request_rebuild(connection, log))
    }

    /// Takes note of the first day on which a license server must report; `None` takes it back, and forgets a server that has
    /// never reported.
    pub(in crate::ingest) fn expect(
        &mut self,
        connection: &mut dyn Connection,
        name: &str,
        day: Option<Day>,
    ) -> Result<(), StoreError> {
        let key = fold_case(name).into_owned();
        if !self.servers.contains_key(&key) {
            if day.is_none() {
                return Ok(());
            }
            self.add_server(connection, name, "")?;
        }
        let Some(server) = self.servers.get_mut(&key) else { return Ok(()) };
        server.expected_from = day;
        received::save_server(connection, server)?;
        let id = server.id;
        let has_logs = self.logs.values().any(|log| log.server_id == id);
        let has_agents = agents::agents(connection)?.iter().any(|agent| agent.server_id == id);
        if day.is_none() && !has_logs && !has_agents { self.forget(connection, &key, id) } else { Ok(()) }
    }

    /// Takes note of the first day on which a license server need not report any more; `None` takes it back.
    pub(in crate::ingest) fn retire(
        &mut self,
        connection: &mut dyn Connection,
        name: &str,
        day: Option<Day>,
    ) -> Result<(), StoreError> {
        let Some(server) = self.servers.get_mut(fold_case(name).as_ref()) else { return Ok(()) };
        server.retired_from = day;
        received::save_server(connection, server)
    }

    /// Gives a license server another name. If one has that name already, both become one.
    pub(in crate::ingest) fn rename(
        &mut self,
        connection: &mut dyn Connection,
        name: &str,
        new_name: &str,
    ) -> Result<(), StoreError> {
        let (key, new_key) = (fold_case(name).into_owned(), fold_case(new_name).into_owned());
        let Some(mut server) = self.servers.get(&key).cloned() else { return Ok(()) };
        match self.servers.get(&new_key).map(|other| other.id) {
            Some(other) if other != server.id => {
                let logs = self.logs_of(server.id);
                self.move_logs(connection, logs, other)?;
                self.inherit(connection, &server, other)
            }
            _ => {
                self.servers.remove(&key);
                new_name.clone_into(&mut server.name);
                server.key.clone_from(&new_key);
                received::save_server(connection, &server)?;
                self.servers.insert(new_key, server);
                Ok(())
            }
        }
    }

    fn logs_of(&self, server_id: i64) -> Vec<Log> {
        self.logs.values().filter(|log| log.server_id == server_id).cloned().collect()
    }

    /// Gives logs to another license server, with all that came of them.
    fn move_logs(&mut self, connection: &mut dyn Connection, logs: Vec<Log>, to: i64) -> Result<(), StoreError> {
        let mut moved = Vec::new();
        let realm = self.servers.values().find(|server| server.id == to).map(|server| server.realm.clone());
        let realm = realm.unwrap_or_default();
        for log in &logs {
            let known = self.log_ids.get(&(to, log.name.clone())).copied();
            let log_id = known.unwrap_or(log.id);
            let mut has_other_realm = false;
            for key in self.of_log.get(&log.id).cloned().unwrap_or_default() {
                let Some(stream) = self.streams.get(&key) else { continue };
                has_other_realm |= stream.realm != realm;
                let mut stream = Stream { server_id: to, log_id, realm: realm.clone(), ..stream.clone() };
                while self.streams.contains_key(&(to, stream.fingerprint.clone())) {
                    // Both have sent this file, or one that begins so. What they have in common counts once.
                    stream.fingerprint = another_name(&stream);
                }
                streams::save_stream(connection, &stream)?;
                moved.push((to, stream.fingerprint));
            }
            match known {
                None => {
                    received::move_log(connection, log.id, to)?;
                    if has_other_realm {
                        self.request_rebuild(connection, log.id)?;
                    }
                }
                Some(_) => {
                    received::forget_log(connection, log.id)?;
                    // Its facts go with it.
                    self.rebuilds.insert(log.id);
                    self.request_rebuild(connection, log_id)?;
                }
            }
        }
        self.load_again(connection)?;
        for key in moved {
            let Some(stream) = self.streams.get(&key).cloned() else { continue };
            self.date_anew(connection, &stream, stream.mark)?;
            self.note_order(connection, &stream)?;
        }
        Ok(())
    }

    /// Forgets a license server that has no logs any more. Its agents, and what operators have said of it, are those of another
    /// one.
    fn inherit(&mut self, connection: &mut dyn Connection, from: &LicenseServer, to: i64) -> Result<(), StoreError> {
        agents::move_agents(connection, from.id, to)?;
        self.forget(connection, &from.key, from.id)?;
        let Some(heir) = self.servers.values_mut().find(|server| server.id == to) else { return Ok(()) };
        heir.expected_from = heir.expected_from.or(from.expected_from);
        heir.retired_from = heir.retired_from.or(from.retired_from);
        received::save_server(connection, heir)
    }

    fn forget(&mut self, connection: &mut dyn Connection, key: &str, id: i64) -> Result<(), StoreError> {
        self.servers.remove(key);
        agents::forget_previous_server(connection, id)?;
        received::forget_server(connection, id)
    }

    fn load_again(&mut self, connection: &mut dyn Connection) -> Result<(), StoreError> {
        let mut again = Self::load(connection, self.horizon)?;
        std::mem::swap(&mut again.rebuilds, &mut self.rebuilds);
        std::mem::swap(&mut again.heard, &mut self.heard);
        std::mem::swap(&mut again.readers, &mut self.readers);
        *self = again;
        Ok(())
    }

    /// Takes the logs that an agent sent under another name, if it still reads them, and has read just as far as came of them.
    pub(in crate::ingest) fn find_own(
        &mut self,
        connection: &mut dyn Connection,
        (hello, heartbeat): (&Hello, &Heartbeat),
        now: i64,
    ) -> Result<(), StoreError> {
        let Some(server) = self.servers.get(fold_case(&hello.license_server).as_ref()).cloned() else { return Ok(()) };
        let previous = agents::previous_server(connection, &hello.agent_id)?;
        let Some(other) = previous.filter(|other| *other != server.id) else { return Ok(()) };
        for log in self.logs_of(other) {
            // The last stream's mark proves more than that any stream of the log has one.
            let keys = self.of_log.get(&log.id).map(Vec::as_slice).unwrap_or_default();
            let latest = self.latest.get(&log.id).map(|(_, _, name)| name);
            let keys = keys.iter().filter(|(_, name)| latest.is_none_or(|latest| latest == name));
            let marks: Vec<u64> = keys.filter_map(|key| Some(self.streams.get(key)?.mark)).collect();
            // An agent that asks the same license manager by the same name is certainly the one that did.
            let is_asked = log.configured.poll_interval > 0 && log.configured.agent == hello.agent_id;
            let is_read = |source: &SourceStatus| {
                let goes_on = source.position > 0 && marks.contains(&source.position);
                source.log == log.name && (goes_on || (is_asked && source.poll_interval_seconds > 0))
            };
            // It may have moved with the one before.
            let is_here = self.logs.get(&log.id).is_some_and(|log| log.server_id == other);
            if is_here && heartbeat.sources.iter().any(is_read) {
                self.take_over(connection, &log, &server, (&hello.agent_id, now))?;
            }
        }
        Ok(())
    }

    /// Takes the log that an agent sent under another name, if a batch goes on exactly where that ends.
    pub(super) fn find_continued(
        &mut self,
        connection: &mut dyn Connection,
        hello: &Hello,
        (key, batch): (&Key, &Batch),
        now: i64,
    ) -> Result<(), StoreError> {
        if batch.start_position == 0 || batch.start_check.is_empty() || self.streams.contains_key(key) {
            return Ok(());
        }
        let previous = agents::previous_server(connection, &hello.agent_id)?;
        let Some(other) = previous.filter(|other| *other != key.0) else { return Ok(()) };
        let continued = |stream: &&Stream| stream.mark == batch.start_position && stream.check == batch.start_check;
        let found = self.streams.get(&(other, key.1.clone())).filter(continued);
        let log = found.and_then(|stream| self.logs.get(&stream.log_id)).cloned();
        let server = self.servers.values().find(|server| server.id == key.0).cloned();
        match (log, server) {
            (Some(log), Some(server)) => self.take_over(connection, &log, &server, (&hello.agent_id, now)),
            _ => Ok(()),
        }
    }

    /// Gives a log to a license server, unless another agent speaks for it under its other name; all logs of the other name,
    /// if nobody speaks for that one at all.
    fn take_over(
        &mut self,
        connection: &mut dyn Connection,
        log: &Log,
        server: &LicenseServer,
        (agent, now): (&str, i64),
    ) -> Result<(), StoreError> {
        let other = log.server_id;
        let agents = agents::agents(connection)?;
        let is_there =
            |found: &Agent| found.server_id == other && found.id != agent && now - found.last_report <= SPEAKS_FOR;
        let is_whole = !agents.iter().any(is_there);
        let is_taken =
            self.log_ids.get(&(server.id, log.name.clone())).is_some_and(|taken| self.of_log.contains_key(taken));
        if !is_whole && (is_taken || self.is_spoken_for(connection, log, (agent, now))?) {
            return Ok(());
        }
        let before = self.servers.values().find(|known| known.id == other).map(|known| known.name.clone());
        tracing::warn!(
            code = codes::SERVER_RENAMED,
            before = before.unwrap_or_default(),
            now = server.name,
            log = log.name,
            "a license server reports under another name: what it has sent under the first one moves along"
        );
        let logs = if is_whole { self.logs_of(other) } else { vec![log.clone()] };
        self.move_logs(connection, logs, server.id)?;
        let before = self.servers.values().find(|known| known.id == other).cloned();
        match before.filter(|_| is_whole) {
            Some(before) => self.inherit(connection, &before, server.id),
            None => Ok(()),
        }
    }

    /// Whether another agent than this one reports for the license server of a log, and reads the log.
    fn is_spoken_for(
        &self,
        connection: &mut dyn Connection,
        log: &Log,
        (agent, now): (&str, i64),
    ) -> Result<bool, StoreError> {
        let readers = self.readers.get(&log.id);
        let reads = |other: &Agent| match readers {
            Some(readers) => readers.contains(&other.id),
            // Nothing has come of it since the start: what its agents list must do.
            None => other.heartbeat.sources.iter().any(|source| source.log == log.name),
        };
        let agents = agents::agents(connection)?;
        let others = agents.iter().filter(|other| other.server_id == log.server_id && other.id != agent);
        Ok(others.filter(|other| now - other.last_report <= SPEAKS_FOR).any(reads))
    }
}

/// Returns a name for a stream that another one has the name of.
fn another_name(stream: &Stream) -> Vec<u8> {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    hash.update(&stream.fingerprint);
    hash.update(&stream.check);
    hash.finish().as_ref().to_vec()
}
