//! Who holds an agent's identity: the agent itself, or also a copy of it (a cloned machine, a snapshot that was restored).
//!
//! With each connection an agent gets a new *generation*, and comes with it the next time. Whoever comes with the last one that
//! was given is the same holder, and so is who comes with the one before it, unless the last one has certainly arrived. Whoever comes with an older one, or with none, is
//! another one. If nobody else is connected, it has taken the place of the one before: a snapshot was restored, or a buffer was lost.
//! Else it is on probation: the other's connection is ended, and if that comes back, there are two, and the later one is put into
//! quarantine. If it does not, its connection was dead, and the later one counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::store::holders::{Holder, Standing};

/// How many holders without a place are remembered, of an enrolment.
pub const REMEMBERED: i64 = 20;

/// How many holders of an enrolment can wait for an operator's word.
pub const UNDECIDED: usize = 20;

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
/// that a later certificate was used already; `is_open` says whether the holder of a number is connected.
pub fn place(
    holders: &mut Vec<Holder>,
    arrival: &Arrival,
    issued: Vec<u8>,
    is_outdated: bool,
    is_open: impl Fn(i64) -> bool,
    now: i64,
) -> usize {
    let known = holders.iter().position(|holder| holder.comes_with(&arrival.generation));
    let index = known.unwrap_or_else(|| {
        let is_second = holders.iter().any(|holder| holder.standing == Standing::Counted && is_open(holder.number));
        // A known copy can come without what tells it apart; one that knows a generation may have it from before a restored backup.
        let is_of_many = arrival.generation.is_empty() && holders.iter().any(Holder::is_copy);
        let standing = match is_outdated || is_of_many {
            true => Standing::Quarantined,
            false if is_second => Standing::Probation,
            false => Standing::Counted,
        };
        holders.push(Holder {
            number: holders.last().map_or(1, |last| last.number + 1),
            presented: Vec::new(),
            issued: Vec::new(),
            has_issued: false,
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
                Standing::Probation => holder.standing = Standing::Quarantined,
                Standing::Counted if other > index => holder.standing = Standing::Quarantined,
                Standing::Counted => holder.standing = Standing::Displaced,
                _ => {}
            }
        }
    }
    let holder = &mut holders[index];
    holder.standing = standing;
    holder.presented.clone_from(&arrival.generation);
    (holder.issued, holder.has_issued) = (issued, false);
    holder.host.clone_from(&arrival.host);
    holder.address.clone_from(&arrival.address);
    holder.seen_at = now;
    index
}

/// The last connection of each holder: a later one ends the one before it.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<Turns>>);

/// Changes when another connection takes the place of a holder's, by enrolment and number.
type Turns = HashMap<(String, i64), watch::Sender<()>>;

impl Connections {
    /// Takes note of a connection, and ends the one before. What is returned changes when another one takes the place of this one.
    pub fn enter(&self, enrolment: &str, number: i64) -> watch::Receiver<()> {
        let (sender, turn) = watch::channel(());
        if let Some(before) = self.lock().insert((enrolment.to_owned(), number), sender) {
            before.send_replace(());
        }
        turn
    }

    /// Ends the connection of a holder, if there is one.
    pub fn end(&self, enrolment: &str, number: i64) {
        if let Some(turn) = self.lock().get(&(enrolment.to_owned(), number)) {
            turn.send_replace(());
        }
    }

    /// Returns whether a holder is connected.
    pub fn is_open(&self, enrolment: &str, number: i64) -> bool {
        self.lock().get(&(enrolment.to_owned(), number)).is_some_and(|turn| turn.receiver_count() > 0)
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
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
        /// Whether whoever comes shows an outdated certificate.
        is_outdated: bool,
        now: i64,
    }

    impl World {
        /// Somebody comes with a generation, and stays. Returns the number of the holder, and the generation that it is given.
        fn arrive(&mut self, generation: &[u8]) -> (i64, Vec<u8>) {
            self.given += 1;
            let arrival = Arrival { generation: generation.to_vec(), ..Arrival::default() };
            let (issued, open) = (vec![self.given], self.open.clone());
            let is_open = |number| open.contains(&number);
            let index = place(&mut self.holders, &arrival, issued.clone(), self.is_outdated, is_open, self.now);
            self.holders[index].has_issued = self.is_known;
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

    #[test]
    fn an_outdated_certificate_never_counts_not_even_the_first_one_that_comes() {
        let mut world = World { is_outdated: true, ..World::default() };
        world.arrive(&[]);
        world.is_outdated = false;
        let (_, own) = world.arrive(&[]);
        assert_eq!(
            world.standings(),
            [Quarantined, Quarantined],
            "a copy is known: nobody is believed without a generation"
        );
        world.arrive(&own);
        world.arrive(&[7]);
        assert_eq!(world.standings(), [Quarantined, Quarantined, Counted]);
    }

    #[test]
    fn a_copy_that_forgets_its_generation_stays_a_copy() {
        let mut world = World::default();
        let (_, a) = world.arrive(&[]);
        world.arrive(&a);
        world.holders[0].has_issued = true;
        world.arrive(&a);
        world.holders[1].standing = Standing::Rejected;
        world.open.clear();
        world.arrive(&[]);
        assert_eq!(world.standings(), [Counted, Standing::Rejected, Quarantined]);
    }

    #[test]
    fn whoever_is_on_probation_is_a_copy_once_another_one_counts() {
        let mut world = World { is_known: true, ..World::default() };
        let (_, a) = world.arrive(&[]);
        let (_, b) = world.arrive(&a);
        world.arrive(&a);
        world.open.clear();
        world.arrive(&[9]);
        assert_eq!(world.standings(), [Displaced, Quarantined, Counted]);
        world.arrive(&b);
        assert_eq!(world.standings(), [Counted, Quarantined, Quarantined]);
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
