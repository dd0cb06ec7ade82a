//! Names to ids: what a batch calls by its own indexes, the store calls by ids.

use hashbrown::HashMap;
use seatmeter_count::interner::Interned;
use seatmeter_count::name::fold_case;
use seatmeter_count::{ClientId, FeatureId, InternQueue, Interner};
use seatmeter_proto::v1::Columns;

use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::names::{self, Client, Feature, Name, NameKind};

/// All names, in memory. New ones get their ids here, and are written with the first facts that use them.
#[derive(Default)]
pub struct NameRegistry {
    realms: HashMap<String, Realm>,
    features: HashMap<(String, String), FeatureId>,
    /// For each feature, the id of its daemon's own entry.
    daemon_of: Vec<u32>,
    clients: Vec<Client>,
    client_ids: HashMap<Client, ClientId>,
    next_identity: u32,
    next_device: u32,
    next_feature: u32,
    unsaved: Unsaved,
}

#[derive(Default)]
struct Realm {
    identities: Known,
    devices: Known,
    written: Written,
}

/// Names of a realm, with case folded.
#[derive(Default)]
struct Known(HashMap<Box<str>, u32>);

/// Users and hosts as they were written before, since most come as they came before.
#[derive(Default)]
struct Written {
    pairs: Interner,
    /// For each pair, its client.
    clients: Vec<ClientId>,
}

/// Users and hosts as written are forgotten when they take so many bytes: they can be found by their names.
const MANY_BYTES_WRITTEN: usize = 64 << 20;

#[derive(Default)]
struct Unsaved {
    identities: Vec<Name>,
    devices: Vec<Name>,
    features: Vec<Feature>,
}

/// A batch's features and clients, as the registry knows them.
pub struct Resolved {
    /// For each feature of the batch.
    pub features: Vec<FeatureId>,
    /// For each client of the batch.
    pub clients: Vec<ClientId>,
}

impl NameRegistry {
    /// Reads all names.
    pub fn load(connection: &mut dyn Connection) -> Result<Self, StoreError> {
        let mut registry = Self::default();
        for name in names::names_from(connection, NameKind::Identity, 0)? {
            registry.next_identity = name.id + 1;
            registry.realm(&name.realm).identities.0.insert(name.key.into(), name.id);
        }
        for name in names::names_from(connection, NameKind::Device, 0)? {
            registry.next_device = name.id + 1;
            registry.realm(&name.realm).devices.0.insert(name.key.into(), name.id);
        }
        let features = names::features_from(connection, 0)?;
        for feature in &features {
            registry.next_feature = feature.id + 1;
            registry.features.insert((feature.daemon.clone(), feature.name.clone()), feature.id);
        }
        for feature in features {
            let daemon = registry.features.get(&(feature.daemon, String::new())).copied();
            registry.set_daemon(feature.id, daemon.unwrap_or(feature.id));
        }
        Ok(registry)
    }

    /// Writes the new names.
    pub fn save(&mut self, connection: &mut dyn Connection) -> Result<(), StoreError> {
        names::add_names(connection, NameKind::Identity, &self.unsaved.identities)?;
        names::add_names(connection, NameKind::Device, &self.unsaved.devices)?;
        names::add_features(connection, &self.unsaved.features)
    }

    /// The names written by [`NameRegistry::save`] are committed.
    pub fn saved(&mut self) {
        self.unsaved = Unsaved::default();
    }

    /// Finds the ids of a batch's names, and gives ids to those that have none.
    pub fn resolve(&mut self, columns: &Columns, realm: &str) -> Resolved {
        let string = |index: u32| columns.strings[index as usize].as_str();
        let features = columns
            .feature_daemons
            .iter()
            .zip(&columns.feature_names)
            .map(|(daemon, name)| self.feature(string(*daemon), string(*name)))
            .collect();
        // Taken out, since its clients are made of the registry's other parts.
        let mut written =
            self.realms.get_mut(realm).map(|realm| std::mem::take(&mut realm.written)).unwrap_or_default();
        let mut clients = Vec::with_capacity(columns.client_users.len());
        let mut queue = InternQueue::default();
        for (user, host) in columns.client_users.iter().zip(&columns.client_hosts) {
            queue.push(&written.pairs, string(*user).as_bytes(), string(*host).as_bytes());
            if queue.is_full() {
                self.add_clients(&mut clients, &mut written, &mut queue, (columns, realm));
            }
        }
        self.add_clients(&mut clients, &mut written, &mut queue, (columns, realm));
        self.realm(realm).written = written;
        let bytes: usize = self.realms.values().map(|realm| realm.written.pairs.size()).sum();
        if bytes > MANY_BYTES_WRITTEN {
            self.realms.values_mut().for_each(|realm| realm.written = Written::default());
        }
        Resolved { features, clients }
    }

    /// Adds those clients of a batch that are being looked up, and come after the ones that there are.
    fn add_clients(
        &mut self,
        clients: &mut Vec<ClientId>,
        written: &mut Written,
        queue: &mut InternQueue,
        (columns, realm): (&Columns, &str),
    ) {
        for Interned { number, is_new } in queue.intern(&mut written.pairs) {
            if *is_new {
                let name = |table: &[u32]| columns.strings[table[clients.len()] as usize].as_str();
                let identity = self.identity(realm, name(&columns.client_users));
                let device = self.device(realm, name(&columns.client_hosts));
                written.clients.push(self.client(Client { identity, device }));
            }
            clients.push(written.clients[*number as usize]);
        }
        if written.pairs.size() > MANY_BYTES_WRITTEN {
            *written = Written::default();
        }
    }

    /// The daemon of each feature.
    pub fn daemon_of(&self) -> &[u32] {
        &self.daemon_of
    }

    /// All clients, by their ids.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// The id of a client. Ids of clients are this process's own: stored is what they are made of.
    pub fn client(&mut self, client: Client) -> ClientId {
        *self.client_ids.entry(client).or_insert_with(|| {
            self.clients.push(client);
            self.clients.len() as u32 - 1
        })
    }

    fn feature(&mut self, daemon: &str, name: &str) -> FeatureId {
        let key = (daemon.to_owned(), name.to_owned());
        if let Some(id) = self.features.get(&key) {
            return *id;
        }
        let id = self.next_feature;
        self.next_feature += 1;
        self.features.insert(key, id);
        self.unsaved.features.push(Feature { id, daemon: daemon.into(), name: name.into() });
        let daemon = if name.is_empty() { id } else { self.feature(daemon, "") };
        self.set_daemon(id, daemon);
        id
    }

    /// Notes the daemon of a feature. Ids can have holes, which stand for no feature.
    fn set_daemon(&mut self, feature: FeatureId, daemon: u32) {
        let index = feature as usize;
        if self.daemon_of.len() <= index {
            self.daemon_of.resize(index + 1, u32::MAX);
        }
        self.daemon_of[index] = daemon;
    }

    fn identity(&mut self, realm: &str, name: &str) -> u32 {
        let next = self.next_identity;
        let (id, new) = self.realm(realm).identities.id(realm, name, next);
        if let Some(new) = new {
            self.next_identity += 1;
            self.unsaved.identities.push(new);
        }
        id
    }

    fn device(&mut self, realm: &str, name: &str) -> u32 {
        let next = self.next_device;
        let (id, new) = self.realm(realm).devices.id(realm, name, next);
        if let Some(new) = new {
            self.next_device += 1;
            self.unsaved.devices.push(new);
        }
        id
    }

    fn realm(&mut self, realm: &str) -> &mut Realm {
        self.realms.entry_ref(realm).or_default()
    }
}

impl Known {
    /// The id of a name; `next` is that of the next new one.
    fn id(&mut self, realm: &str, name: &str, next: u32) -> (u32, Option<Name>) {
        let key = fold_case(name);
        if let Some(id) = self.0.get(key.as_ref()) {
            return (*id, None);
        }
        self.0.insert(key.as_ref().into(), next);
        (next, Some(Name { id: next, realm: realm.into(), name: name.into(), key: key.into_owned() }))
    }
}
