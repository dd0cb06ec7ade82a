//! The license servers of the registry: what operators say of them, and which of them are one.
//!
//! A license server can get another name in an agent's configuration, or move to another machine. Then files arrive under its
//! new name of which the aggregator has the beginning under the old one. If all of what came under the old name is in them,
//! and nobody reports under the old name any more, it is the same license server, and what it has sent moves along.

use seatmeter_count::Day;
use seatmeter_count::name::fold_case;
use seatmeter_proto::v1::{Batch, Hello};

use super::{Key, SPEAKS_FOR, StreamRegistry};
use crate::codes;
use crate::ingest::content::{Archived, compare};
use crate::store::StoreError;
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
        let has_agents = received::agents(connection)?.iter().any(|agent| agent.server_id == id);
        if day.is_none() && !has_logs && !has_agents {
            self.servers.remove(&key);
            received::forget_server(connection, id)?;
        }
        Ok(())
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
            Some(other) if other != server.id => self.merge(connection, server.id, other),
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

    /// Gives all that came from a license server to another one, and forgets the first one.
    fn merge(&mut self, connection: &mut dyn Connection, from: i64, to: i64) -> Result<(), StoreError> {
        received::move_agents(connection, from, to)?;
        let logs: Vec<Log> = self.logs.values().filter(|log| log.server_id == from).cloned().collect();
        let mut moved = Vec::new();
        for log in &logs {
            let known = self.log_ids.get(&(to, log.name.clone())).copied();
            let log_id = known.unwrap_or(log.id);
            for key in self.of_log.get(&log.id).cloned().unwrap_or_default() {
                let Some(stream) = self.streams.get(&key) else { continue };
                let mut stream = Stream { server_id: to, log_id, ..stream.clone() };
                while self.streams.contains_key(&(to, stream.fingerprint.clone())) {
                    // Both have sent this file, or one that begins so. What they have in common counts once.
                    stream.fingerprint = another_name(&stream);
                }
                streams::save_stream(connection, &stream)?;
                moved.push((to, stream.fingerprint));
            }
            match known {
                None => received::move_log(connection, log.id, to)?,
                Some(_) => {
                    received::forget_log(connection, log.id)?;
                    // Its facts go with it.
                    self.rebuilds.insert(log.id);
                    self.request_rebuild(connection, log_id)?;
                }
            }
        }
        received::forget_server(connection, from)?;
        let rebuilds = std::mem::take(&mut self.rebuilds);
        let heard = std::mem::take(&mut self.heard);
        *self = Self { rebuilds, heard, ..Self::load(connection, self.horizon)? };
        for key in moved {
            let Some(stream) = self.streams.get(&key).cloned() else { continue };
            self.date_anew(connection, &stream, stream.mark)?;
            self.note_order(connection, &stream)?;
        }
        Ok(())
    }

    /// Takes what came under another name of a license server, if an agent's files prove that it is the same one: nobody
    /// reports under the other name any more, and all of one of its files, with a date in it, is in a file of this one.
    pub(in crate::ingest) fn find_other_name(
        &mut self,
        connection: &mut dyn Connection,
        hello: &Hello,
        now: i64,
    ) -> Result<(), StoreError> {
        let Some(server) = self.servers.get(fold_case(&hello.license_server).as_ref()).cloned() else { return Ok(()) };
        let pairs: Vec<(Stream, Stream)> = self
            .named_alike
            .iter()
            .filter_map(|name| self.streams.get(&(server.id, name.clone())))
            .flat_map(|ours| self.namesakes(ours).map(|theirs| (ours.clone(), theirs.clone())))
            .collect();
        for (ours, theirs) in pairs {
            let is_candidate = theirs.told_day.is_some() && (1..=ours.mark).contains(&theirs.mark);
            if !is_candidate || self.differ.contains(&(ours.id, theirs.id)) {
                continue;
            }
            if is_spoken_for(connection, theirs.server_id, &hello.agent_id, now)? {
                continue;
            }
            if has_all_of(connection, &ours, &theirs)? {
                return self.take_over(connection, theirs.server_id, &server);
            }
            self.differ.insert((ours.id, theirs.id));
        }
        Ok(())
    }

    /// Takes what came under another name of a license server, if a batch goes on where a file ends that came under it, and
    /// nobody reports under it any more.
    pub(super) fn find_continued(
        &mut self,
        connection: &mut dyn Connection,
        hello: &Hello,
        (key, batch): (&Key, &Batch),
        now: i64,
    ) -> Result<bool, StoreError> {
        if batch.start_position == 0 || batch.start_check.is_empty() || self.streams.contains_key(key) {
            return Ok(false);
        }
        let continued = |stream: &&Stream| stream.mark == batch.start_position && stream.check == batch.start_check;
        let found = self.others_named(key).find(continued).map(|stream| stream.server_id);
        let server = self.servers.values().find(|server| server.id == key.0).cloned();
        match (found, server) {
            (Some(other), Some(server)) if !is_spoken_for(connection, other, &hello.agent_id, now)? => {
                self.take_over(connection, other, &server)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn take_over(
        &mut self,
        connection: &mut dyn Connection,
        other: i64,
        server: &LicenseServer,
    ) -> Result<(), StoreError> {
        let before = self.servers.values().find(|known| known.id == other).map(|known| known.name.clone());
        tracing::warn!(
            code = codes::SERVER_RENAMED,
            before = before.unwrap_or_default(),
            now = server.name,
            "a license server reports under another name: what it has sent under the first one moves along"
        );
        self.merge(connection, other, server.id)
    }

    /// Returns the streams of other license servers that have the name of a stream.
    fn namesakes(&self, stream: &Stream) -> impl Iterator<Item = &Stream> {
        let key = (stream.server_id, stream.fingerprint.clone());
        self.others_named(&key).collect::<Vec<_>>().into_iter()
    }

    fn others_named(&self, key: &Key) -> impl Iterator<Item = &Stream> {
        let servers = self.servers_of.get(&key.1).map(Vec::as_slice).unwrap_or_default();
        let others = servers.iter().filter(move |server| **server != key.0);
        others.filter_map(|server| self.streams.get(&(*server, key.1.clone())))
    }
}

/// Whether another agent than this one reports for a license server.
fn is_spoken_for(connection: &mut dyn Connection, server: i64, agent: &str, now: i64) -> Result<bool, StoreError> {
    let mut others =
        received::agents(connection)?.into_iter().filter(|other| other.server_id == server && other.id != agent);
    Ok(others.any(|other| now - other.last_report <= SPEAKS_FOR))
}

/// Whether all of what came of one stream is in another one.
fn has_all_of(connection: &mut dyn Connection, ours: &Stream, theirs: &Stream) -> Result<bool, StoreError> {
    let to = theirs.mark;
    let (ours, theirs) = (Archived::read(connection, ours.id, 0, to)?, Archived::read(connection, theirs.id, 0, to)?);
    let common = compare(&ours.pieces(), &theirs.pieces(), 0, to);
    Ok(common.through >= to && !common.parted)
}

/// Returns a name for a stream that another one has the name of.
fn another_name(stream: &Stream) -> Vec<u8> {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    hash.update(&stream.fingerprint);
    hash.update(&stream.check);
    hash.finish().as_ref().to_vec()
}
