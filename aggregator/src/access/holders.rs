//! Who holds an agent's identity: the agent itself, or also a copy of it (a cloned machine, a snapshot that was restored).
//!
//! With each connection an agent gets a new *generation*, and comes with it the next time. Whoever comes with the last one that
//! was given is the same holder, and so is who comes with the one before it, unless the last one has certainly arrived. Whoever comes with an older one, or with none, is
//! another one. If nobody else is connected, it has taken the place of the one before: a snapshot was restored, or a buffer was lost.
//! Else it is on probation: the other's connection is ended, and if that comes back, there are two, and the later one is put into
//! quarantine. If it does not, its connection was dead, and the later one counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::store::holders::{Holder, Standing};

/// How many holders without a place are remembered, of an enrolment.
pub const REMEMBERED: i64 = 20;

/// How an agent comes.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// The generation that it was given last; empty if it knows none.
    pub generation: Vec<u8>,
    /// The machine that it says it runs on.
    pub host: String,
    /// The address that it comes from.
    pub address: String,
}

/// How long a holder has to come back, in seconds. An agent tries at least once a minute.
pub const PROBATION: i64 = 150;

/// Gives whoever comes a place among the holders of an enrolment, and the generation `issued`. Returns the index. `is_outdated` says
/// that a later certificate was used already; `link` says of a holder's number how it is connected.
pub fn place(
    holders: &mut Vec<Holder>,
    arrival: &Arrival,
    issued: Vec<u8>,
    is_outdated: bool,
    link: impl Fn(i64) -> Link,
    now: i64,
) -> usize {
    let comes_with = |holder: &Holder| {
        let is_answer_lost = holder.presented == arrival.generation && !link(holder.number).has_generation;
        holder.issued == arrival.generation || is_answer_lost
    };
    let known = holders.iter().position(|holder| !arrival.generation.is_empty() && comes_with(holder));
    let index = known.unwrap_or_else(|| {
        let is_second =
            holders.iter().any(|holder| holder.standing == Standing::Counted && link(holder.number).is_open);
        let standing = match (holders.is_empty(), is_outdated, is_second) {
            (true, ..) | (false, false, false) => Standing::Counted,
            (false, true, _) => Standing::Quarantined,
            (false, false, true) => Standing::Probation,
        };
        holders.push(Holder {
            number: holders.last().map_or(1, |last| last.number + 1),
            presented: Vec::new(),
            issued: Vec::new(),
            standing,
            host: String::new(),
            address: String::new(),
            since: now,
            seen_at: now,
        });
        holders.len() - 1
    });
    let standing = match holders[index].standing {
        Standing::Displaced => Standing::Counted,
        Standing::Probation if now - holders[index].since >= PROBATION => Standing::Counted,
        other => other,
    };
    if standing == Standing::Counted {
        for (other, holder) in holders.iter_mut().enumerate().filter(|(other, _)| *other != index) {
            // Of two that count, the later one is a copy; an earlier one has not come back.
            match holder.standing {
                Standing::Counted | Standing::Probation if other > index => holder.standing = Standing::Quarantined,
                Standing::Counted => holder.standing = Standing::Displaced,
                _ => {}
            }
        }
    }
    let holder = &mut holders[index];
    holder.standing = standing;
    holder.presented.clone_from(&arrival.generation);
    holder.issued = issued;
    holder.host.clone_from(&arrival.host);
    holder.address.clone_from(&arrival.address);
    holder.seen_at = now;
    index
}

/// How a holder is connected.
#[derive(Clone, Copy, Default)]
pub struct Link {
    /// Whether it is connected now.
    pub is_open: bool,
    /// Whether it has certainly got the last generation that it was given.
    pub has_generation: bool,
}

/// The connection of a holder.
#[derive(Debug)]
pub struct Connection {
    /// Changes when another connection takes the place of this one.
    pub turn: watch::Receiver<()>,
    /// Becomes true once the agent has sent something: it then has the generation that it was given.
    pub has_generation: Arc<AtomicBool>,
}

/// The last connection of each holder: a later one ends the one before it.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<HashMap<(String, i64), Known>>>);

struct Known {
    turn: watch::Sender<()>,
    has_generation: Arc<AtomicBool>,
}

impl Connections {
    /// Takes note of a connection, and ends the one before.
    pub fn enter(&self, enrolment: &str, number: i64) -> Connection {
        let (sender, turn) = watch::channel(());
        let has_generation = Arc::new(AtomicBool::new(false));
        let known = Known { turn: sender, has_generation: has_generation.clone() };
        if let Some(before) = self.lock().insert((enrolment.to_owned(), number), known) {
            before.turn.send_replace(());
        }
        Connection { turn, has_generation }
    }

    /// Ends the connection of a holder, if there is one.
    pub fn end(&self, enrolment: &str, number: i64) {
        if let Some(known) = self.lock().get(&(enrolment.to_owned(), number)) {
            known.turn.send_replace(());
        }
    }

    /// Returns how a holder is connected.
    pub fn link(&self, enrolment: &str, number: i64) -> Link {
        let known = self.lock();
        known.get(&(enrolment.to_owned(), number)).map_or_else(Link::default, |known| Link {
            is_open: known.turn.receiver_count() > 0,
            has_generation: known.has_generation.load(Ordering::Relaxed),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, i64), Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An aggregator's memory of one enrolment, and agents that come to it.
    #[derive(Default)]
    struct World {
        holders: Vec<Holder>,
        given: u8,
        open: Vec<i64>,
        /// Whether each agent has certainly got what it was given.
        is_known: bool,
        now: i64,
    }

    impl World {
        /// Somebody comes with a generation, and stays. Returns the number of the holder, and the generation that it is given.
        fn arrive(&mut self, generation: &[u8]) -> (i64, Vec<u8>) {
            self.given += 1;
            let arrival = Arrival { generation: generation.to_vec(), ..Arrival::default() };
            let (issued, open) = (vec![self.given], self.open.clone());
            let is_known = self.is_known;
            let link = |number| Link { is_open: open.contains(&number), has_generation: is_known };
            let index = place(&mut self.holders, &arrival, issued.clone(), false, link, self.now);
            let number = self.holders[index].number;
            self.open.push(number);
            (number, issued)
        }

        fn standings(&self) -> Vec<Standing> {
            self.holders.iter().map(|holder| holder.standing).collect()
        }
    }

    use Standing::{Counted, Displaced, Probation, Quarantined};

    #[test]
    fn an_agent_that_comes_again_is_the_same_even_if_an_answer_is_lost() {
        let mut world = World::default();
        let (first, a) = world.arrive(&[]);
        let (again, b) = world.arrive(&a);
        let (_, _lost) = world.arrive(&b);
        let (last, _) = world.arrive(&b);
        assert_eq!((first, again, last, world.standings()), (1, 1, 1, vec![Counted]));
    }

    #[test]
    fn a_snapshot_takes_the_place_of_what_it_was_made_of_unless_that_comes_back() {
        let mut world = World::default();
        let (_, a) = world.arrive(&[]);
        let (_, b) = world.arrive(&a);
        let (_, c) = world.arrive(&b);
        world.open.clear();
        let (_, d) = world.arrive(&a);
        assert_eq!(world.standings(), [Displaced, Counted]);
        world.arrive(&d);
        assert_eq!(world.standings(), [Displaced, Counted]);
        world.arrive(&c);
        assert_eq!(world.standings(), [Counted, Quarantined]);
    }

    #[test]
    fn a_copy_beside_a_connected_agent_is_on_probation_until_that_comes_back() {
        let mut world = World::default();
        let (_, a) = world.arrive(&[]);
        let (_, b) = world.arrive(&a);
        let (_, c) = world.arrive(&b);
        let (_, d) = world.arrive(&a);
        assert_eq!(world.standings(), [Counted, Probation]);
        world.arrive(&c);
        assert_eq!(world.standings(), [Counted, Quarantined]);
        world.now = PROBATION;
        world.arrive(&d);
        assert_eq!(world.standings(), [Counted, Quarantined], "it is known as a copy");
    }

    #[test]
    fn a_copy_that_was_made_of_an_agent_at_rest_is_the_later_one() {
        let mut world = World { is_known: true, ..World::default() };
        let (_, a) = world.arrive(&[]);
        let (own, b) = world.arrive(&a);
        let (copy, _) = world.arrive(&a);
        assert_eq!((own, copy, world.standings()), (1, 2, vec![Counted, Probation]));
        world.arrive(&b);
        assert_eq!(world.standings(), [Counted, Quarantined]);
    }

    #[test]
    fn a_snapshot_beside_a_dead_connection_counts_after_its_probation() {
        let mut world = World::default();
        let (_, a) = world.arrive(&[]);
        let (_, b) = world.arrive(&a);
        world.arrive(&b);
        let (_, d) = world.arrive(&a);
        world.now = PROBATION;
        world.arrive(&d);
        assert_eq!(world.standings(), [Displaced, Counted]);
    }

    proptest! {
        /// Two that come by turns, each with what it was given last, are known as two, and are never counted both.
        #[test]
        fn two_holders_are_never_counted_both(turns in prop::collection::vec(any::<(bool, bool)>(), 1..60), is_known: bool) {
            let mut world = World { is_known, ..World::default() };
            let (_, own) = world.arrive(&[]);
            let mut held = [own.clone(), own];
            let mut came = [0, 0];
            let by_turns = (0..6).map(|turn| (turn % 2 == 0, true));
            for (is_copy, is_open) in turns.into_iter().chain(by_turns) {
                let who = usize::from(is_copy);
                if !is_open {
                    world.open.clear();
                }
                (came[who], held[who]) = world.arrive(&held[who]);
                let counted = world.standings().iter().filter(|standing| **standing == Counted).count();
                prop_assert_eq!(counted, 1);
            }
            prop_assert_ne!(came[0], came[1]);
            let standing = |number| world.standings()[number as usize - 1];
            let both = [standing(came[0]), standing(came[1])];
            prop_assert!(both.contains(&Quarantined), "{:?}", both);
        }
    }
}
