//! Maps the names of a batch, which the batch numbers by its own indexes, to the ids of the store.

use hashbrown::HashMap;
use seatmeter_count::interner::Interned;
use seatmeter_count::name::fold_case;
use seatmeter_count::{ClientId, FeatureId, InternQueue, Interner};
use seatmeter_proto::v1::Columns;

use crate::store::StoreError;
use crate::store::engine::Connection;
use crate::store::names::{self, Client, Feature, NO_DEVICE, Name, NameKind};

/// All names, in memory. The registry assigns ids to new names, and saves them with the first facts that use them.
#[derive(Default)]
pub struct NameRegistry {
    realms: HashMap<String, Realm>,
    features: HashMap<(String, String), FeatureId>,
    /// By feature id: the id of the vendor daemon's own entry.
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

/// The ids of a realm's names, by case-folded name.
#[derive(Default)]
struct Known(HashMap<Box<str>, u32>);

/// A cache of pairs of user and host, spelled as in the logs: most pairs recur in the same spelling.
#[derive(Default)]
struct Written {
    pairs: Interner,
    /// The client of each pair, by the pair's number.
    clients: Vec<ClientId>,
}

/// The size in bytes at which the caches of pairs are emptied. Their names can still be found in [`Known`].
const MANY_BYTES_WRITTEN: usize = 64 << 20;

#[derive(Default)]
struct Unsaved {
    identities: Vec<Name>,
    devices: Vec<Name>,
    features: Vec<Feature>,
}

/// The ids of a batch's features and clients.
pub struct Resolved {
    /// The id of each feature, by its index in the batch.
    pub features: Vec<FeatureId>,
    /// The id of each client, by its index in the batch.
    pub clients: Vec<ClientId>,
}

impl NameRegistry {
    /// Reads all names from the database.
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

    /// Writes the new names to the database.
    pub fn save(&mut self, connection: &mut dyn Connection) -> Result<(), StoreError> {
        names::add_names(connection, NameKind::Identity, &self.unsaved.identities)?;
        names::add_names(connection, NameKind::Device, &self.unsaved.devices)?;
        names::add_features(connection, &self.unsaved.features)
    }

    /// Forgets the list of new names, once the transaction of [`NameRegistry::save`] is committed.
    pub fn saved(&mut self) {
        self.unsaved = Unsaved::default();
    }

    /// Returns how many identities have got an id.
    pub fn identities(&self) -> u32 {
        self.next_identity
    }

    /// Returns the ids of a batch's names, assigning new ids to new names. Features that name no daemon are those of `daemon`.
    pub fn resolve(&mut self, columns: &Columns, realm: &str, daemon: &str) -> Resolved {
        let string = |index: u32| columns.strings[index as usize].as_str();
        let named = |index: u32| Some(string(index)).filter(|named| !named.is_empty()).unwrap_or(daemon);
        let features = columns
            .feature_daemons
            .iter()
            .zip(&columns.feature_names)
            .map(|(daemon, name)| self.feature(named(*daemon), string(*name)))
            .collect();
        // Taken out of the registry, since new clients need the registry's other parts.
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

    /// Looks up the clients in the queue and appends them to `clients`, which holds the earlier clients of the batch.
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
                let device = match name(&columns.client_hosts) {
                    "" => NO_DEVICE,
                    host => self.device(realm, host),
                };
                written.clients.push(self.client(Client { identity, device }));
            }
            clients.push(written.clients[*number as usize]);
        }
        if written.pairs.size() > MANY_BYTES_WRITTEN {
            *written = Written::default();
        }
    }

    /// Returns the id of the vendor daemon's own entry for each feature, by feature id.
    pub fn daemon_of(&self) -> &[u32] {
        &self.daemon_of
    }

    /// Returns all clients, by their ids.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Returns the id of a client. The id is valid in this process only; the store keeps the client's identity and
    /// device instead.
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

    /// Sets the vendor daemon of a feature. Ids can have gaps, which belong to no feature.
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
    /// Returns the id of `name`. A new name gets the id `next`, and is returned too, to be saved.
    fn id(&mut self, realm: &str, name: &str, next: u32) -> (u32, Option<Name>) {
        let key = fold_case(name);
        if let Some(id) = self.0.get(key.as_ref()) {
            return (*id, None);
        }
        self.0.insert(key.as_ref().into(), next);
        (next, Some(Name { id: next, realm: realm.into(), name: name.into(), key: key.into_owned() }))
    }
}
