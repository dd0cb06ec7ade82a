//! The book of rules: all versions, each with its author and its reason, and the rules that are in force.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;

use super::check::check;
use super::rule::Rule;
use super::set::{Numbered, RuleSet};
use crate::store::engine::Connection;
use crate::store::rules::{self as store, StoredRule, StoredVersion};
use crate::store::{Failure, Store, StoreError, in_transaction};

/// Where rules of the aggregator's configuration come from.
pub const CONFIGURATION: &str = "configuration";

/// The most rules of a version.
const MOST_RULES: usize = 1_000_000;

/// Why rules are not changed.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rules would contradict each other, or make no sense.
    #[error("{}", .0.join("\n"))]
    Problems(Vec<String>),
    /// There is no such rule.
    #[error("there is no rule {0}: `seatmeter rules list` has their numbers")]
    NoRule(u64),
    /// The configuration says it.
    #[error("rule {0} stands in the aggregator's configuration: change it there, and restart the aggregator")]
    Configured(u64),
    /// There is no such version.
    #[error("there is no version {0}: `seatmeter rules log` has them")]
    NoVersion(u64),
    /// The rules have changed since somebody looked at them.
    #[error(
        "the rules have changed meanwhile: they are of version {0} now; look at them again (`seatmeter rules preview`)"
    )]
    Changed(String),
    /// The change would change nothing.
    #[error("nothing would change: these rules are in force already")]
    Nothing,
    /// There would be too many.
    #[error("there would be more than {MOST_RULES} rules")]
    TooMany,
}

/// A change of the rules.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The rules to add.
    pub add: Vec<Rule>,
    /// The numbers of those to remove.
    pub remove: Vec<u64>,
    /// What the rules to add come from, if they are an import: it takes the place of the import before it.
    pub origin: String,
}

/// A version of the rules, and what it changes.
pub struct VersionChange {
    /// The version.
    pub version: StoredVersion,
    /// The rules that it has added.
    pub added: Vec<Numbered>,
    /// Those that it has removed.
    pub removed: Vec<Numbered>,
}

/// All versions of the rules.
#[derive(Clone)]
pub struct RuleBook {
    writer: Arc<Mutex<Box<dyn Connection>>>,
    current: Arc<RwLock<Arc<RuleSet>>>,
}

impl RuleBook {
    /// Opens the book, with the last version's rules.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        let mut writer = store.clerk()?;
        let rules = numbered(store::rules_at(writer.as_mut(), i64::MAX as u64)?)?;
        let number = store::versions(writer.as_mut())?.last().map_or(0, |last| last.number);
        let current = Arc::new(RwLock::new(Arc::new(RuleSet::new(number, rules))));
        Ok(Self { writer: Arc::new(Mutex::new(writer)), current })
    }

    /// Returns the connection to the database of rules and months, of which there can be only one.
    pub fn writer(&self) -> Arc<Mutex<Box<dyn Connection>>> {
        self.writer.clone()
    }

    /// Returns the rules that are in force.
    pub fn current(&self) -> Arc<RuleSet> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes rules those of the configuration: a version of their own, if they are others than before.
    pub fn configure(&self, rules: Vec<Rule>) -> Result<(), RuleError> {
        let change = Change { add: rules, remove: Vec::new(), origin: CONFIGURATION.into() };
        match self.change(&change, "", "aggregator.toml", "") {
            Ok(_) | Err(RuleError::Nothing) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns the rules as they would be after a change, which is not made.
    pub fn preview(&self, change: &Change) -> Result<RuleSet, RuleError> {
        let current = self.current();
        let planned = Plan::of(&current, change)?;
        Ok(planned.apply(&current, 0, current.rules.last().map_or(0, |last| last.number)))
    }

    /// Changes the rules. `seen` is the version that the author has seen; empty if any will do. Returns the new rules.
    pub fn change(&self, change: &Change, author: &str, reason: &str, seen: &str) -> Result<Arc<RuleSet>, RuleError> {
        self.make(change, author, reason, seen, None)
    }

    /// Takes a version back: removes what it has added, and adds what it has removed. That is a new version.
    pub fn undo(&self, version: u64, author: &str, reason: &str) -> Result<Arc<RuleSet>, RuleError> {
        let change = self.undoing(version)?;
        self.make(&change, author, reason, "", Some(version))
    }

    /// Returns the change that takes a version back.
    pub fn undoing(&self, version: u64) -> Result<Change, RuleError> {
        let changed = store::rules_of(self.lock().as_mut(), version)?;
        if changed.is_empty() {
            return Err(RuleError::NoVersion(version));
        }
        let is_in_force = |rule: &&StoredRule| rule.added_in == version && rule.removed_in.is_none();
        let remove = changed.iter().filter(is_in_force).map(|rule| rule.number).collect();
        let removed = changed.iter().filter(|rule| rule.removed_in == Some(version)).cloned().collect();
        let add = numbered(removed)?.into_iter().map(|numbered| numbered.rule).collect();
        Ok(Change { add, remove, origin: String::new() })
    }

    fn make(
        &self,
        change: &Change,
        author: &str,
        reason: &str,
        seen: &str,
        undoes: Option<u64>,
    ) -> Result<Arc<RuleSet>, RuleError> {
        let mut writer = self.lock();
        let current = self.current();
        if !seen.is_empty() && seen != current.version() {
            return Err(RuleError::Changed(current.version()));
        }
        let plan = Plan::of(&current, change)?;
        let made = in_transaction(writer.as_mut(), |connection| {
            let last = store::last_number(connection)?;
            let number = store::versions(connection)?.last().map_or(1, |last| last.number + 1);
            let made = plan.apply(&current, number, last);
            for number_removed in &plan.remove {
                store::remove(connection, *number_removed, number)?;
            }
            for Numbered { number: own, origin, rule } in made.rules.iter().filter(|rule| rule.number > last) {
                let (origin, body) = (origin.clone(), rule.canonical());
                store::add(connection, &StoredRule { number: *own, origin, body, added_in: number, removed_in: None })?;
            }
            let version = StoredVersion {
                number,
                hash: made.hash.to_vec(),
                author: author.to_owned(),
                reason: reason.to_owned(),
                at: Timestamp::now().as_second(),
                undoes,
                added: 0,
                removed: 0,
            };
            store::add_version(connection, &version)?;
            Ok::<_, StoreError>(made)
        })?;
        let made = Arc::new(made);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = made.clone();
        Ok(made)
    }

    /// Returns all versions, the first one first.
    pub fn versions(&self) -> Result<Vec<StoredVersion>, RuleError> {
        Ok(store::versions(self.lock().as_mut())?)
    }

    /// Returns the rules of a version.
    pub fn rules_of(&self, number: u64) -> Result<Vec<Numbered>, RuleError> {
        Ok(numbered(store::rules_at(self.lock().as_mut(), number)?)?)
    }

    /// Returns a version and what it changes.
    pub fn version(&self, number: u64) -> Result<VersionChange, RuleError> {
        let mut writer = self.lock();
        let version = store::versions(writer.as_mut())?.into_iter().find(|version| version.number == number);
        let version = version.ok_or(RuleError::NoVersion(number))?;
        let changed = store::rules_of(writer.as_mut(), number)?;
        let (added, removed) = changed.into_iter().partition(|rule| rule.added_in == number);
        Ok(VersionChange { version, added: numbered(added)?, removed: numbered(removed)? })
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Connection>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a change comes to.
struct Plan {
    add: Vec<Rule>,
    remove: HashSet<u64>,
    origin: String,
}

impl Plan {
    /// Plans a change of rules, if it leaves rules that make sense.
    fn of(current: &RuleSet, change: &Change) -> Result<Self, RuleError> {
        let known: HashMap<u64, &Numbered> = current.rules.iter().map(|rule| (rule.number, rule)).collect();
        let mut remove = HashSet::new();
        for number in &change.remove {
            let rule = known.get(number).ok_or(RuleError::NoRule(*number))?;
            if rule.origin == CONFIGURATION {
                return Err(RuleError::Configured(*number));
            }
            remove.insert(*number);
        }
        // Of an import, what is there already stays as it is, and what is not in it any more goes.
        let mut there: HashMap<String, u64> =
            current.rules.iter().filter(|rule| !remove.contains(&rule.number)).map(of_origin).collect();
        let mut add = Vec::new();
        for rule in &change.add {
            if there.remove(&keyed(&change.origin, rule)).is_none() {
                add.push(rule.clone());
            }
        }
        if !change.origin.is_empty() {
            let is_left =
                |rule: &&Numbered| rule.origin == change.origin && there.contains_key(&keyed(&rule.origin, &rule.rule));
            remove.extend(current.rules.iter().filter(is_left).map(|rule| rule.number));
        }
        if add.is_empty() && remove.is_empty() {
            return Err(RuleError::Nothing);
        }
        let plan = Self { add, remove, origin: change.origin.clone() };
        plan.must_make_sense(current)?;
        Ok(plan)
    }

    fn must_make_sense(&self, current: &RuleSet) -> Result<(), RuleError> {
        let kept: Vec<&Numbered> = current.rules.iter().filter(|rule| !self.remove.contains(&rule.number)).collect();
        if kept.len() + self.add.len() > MOST_RULES {
            return Err(RuleError::TooMany);
        }
        let rules: Vec<&Rule> = kept.iter().map(|numbered| &numbered.rule).chain(&self.add).collect();
        let name = |index: usize| match kept.get(index) {
            Some(numbered) if numbered.origin == CONFIGURATION => {
                format!("rule {} (of the configuration) {}", numbered.number, rules[index].canonical())
            }
            Some(numbered) => format!("rule {} {}", numbered.number, rules[index].canonical()),
            None => rules[index].canonical(),
        };
        let problems: Vec<String> = check(&rules)
            .into_iter()
            .map(|problem| match problem.other {
                Some(other) => format!("{}: {} (it is {})", name(problem.rule), problem.text, name(other)),
                None => format!("{}: {}", name(problem.rule), problem.text),
            })
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(RuleError::Problems(problems)) }
    }

    /// Returns the rules after the change, as a version of this number; those that are new have the numbers after the last one.
    fn apply(&self, current: &RuleSet, version: u64, last: u64) -> RuleSet {
        let kept = current.rules.iter().filter(|rule| !self.remove.contains(&rule.number)).cloned();
        let new = (last + 1..).zip(&self.add).map(|(number, rule)| Numbered {
            number,
            origin: self.origin.clone(),
            rule: rule.clone(),
        });
        RuleSet::new(version, kept.chain(new).collect())
    }
}

fn of_origin(rule: &Numbered) -> (String, u64) {
    (keyed(&rule.origin, &rule.rule), rule.number)
}

fn keyed(origin: &str, rule: &Rule) -> String {
    format!("{origin}\n{}", rule.canonical())
}

fn numbered(stored: Vec<StoredRule>) -> Result<Vec<Numbered>, StoreError> {
    let read = |StoredRule { number, origin, body, .. }| {
        let rule = serde_json::from_str(&body).map_err(|error| {
            let text = format!("rule {number} cannot be read: {error}; it was written by another version");
            StoreError::new(Failure::Permanent, text)
        })?;
        Ok(Numbered { number, origin, rule })
    };
    stored.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        serde_json::from_str(text).unwrap()
    }

    fn add(rules: &[&str]) -> Change {
        Change { add: rules.iter().map(|text| rule(text)).collect(), ..Change::default() }
    }

    const JO: &str = r#"{"free":{"who":{"user":"jo"},"cause":"test"}}"#;
    const KIM: &str = r#"{"free":{"who":{"user":"kim"},"cause":"test"}}"#;

    #[test]
    fn a_change_is_a_version_that_lasts_and_can_be_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_embedded(folder.path()).unwrap();
        let book = RuleBook::open(&store).unwrap();
        let empty = book.current().version();
        let one = book.change(&add(&[JO]), "ann", "asked for", &empty).unwrap();
        assert!(matches!(book.change(&add(&[KIM]), "bob", "", &empty), Err(RuleError::Changed(_))));
        assert!(matches!(book.change(&add(&[JO]), "bob", "", ""), Err(RuleError::Nothing)));
        assert!(matches!(
            book.change(&add(&[&JO.replace("test", "trial")]), "bob", "", ""),
            Err(RuleError::Problems(_))
        ));
        let change = Change { remove: vec![1], ..add(&[KIM]) };
        let planned = book.preview(&change).unwrap();
        assert_eq!(book.current().hash, one.hash, "a preview changes nothing");
        let two = book.change(&change, "bob", "", "").unwrap();
        assert_eq!(planned.hash, two.hash);
        drop(book);
        let book = RuleBook::open(&store).unwrap();
        assert_eq!(book.current().hash, two.hash);
        assert_eq!(book.undo(2, "ann", "").unwrap().hash, one.hash);
        assert_eq!(book.undo(3, "ann", "").unwrap().hash, two.hash);
        let versions = book.versions().unwrap();
        let told: Vec<(u64, &str, u64, u64, Option<u64>)> =
            versions.iter().map(|v| (v.number, &*v.author, v.added, v.removed, v.undoes)).collect();
        assert_eq!(
            told,
            [(1, "ann", 1, 0, None), (2, "bob", 1, 1, None), (3, "ann", 1, 1, Some(2)), (4, "ann", 1, 1, Some(3))]
        );
        let changed = book.version(2).unwrap();
        assert_eq!((changed.added[0].rule.clone(), changed.removed[0].rule.clone()), (rule(KIM), rule(JO)));
        assert!(matches!(book.undo(9, "ann", ""), Err(RuleError::NoVersion(9))));
        assert!(matches!(
            book.change(&Change { remove: vec![1], ..Change::default() }, "", "", ""),
            Err(RuleError::NoRule(1))
        ));
    }

    #[test]
    fn an_import_takes_the_place_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let book = RuleBook::open(&Store::open_embedded(folder.path()).unwrap()).unwrap();
        let import = |rules: &[&str]| Change { origin: "list".into(), ..add(rules) };
        book.change(&import(&[JO]), "ann", "", "").unwrap();
        let kept = book.current().rules[0].number;
        book.change(&import(&[JO, KIM]), "ann", "", "").unwrap();
        assert_eq!(book.current().rules[0].number, kept, "what is there stays");
        book.change(&import(&[KIM]), "ann", "", "").unwrap();
        assert_eq!(book.current().rules.len(), 1);
        book.configure(vec![rule(r#"{"domains":{"rule":"keep"}}"#)]).unwrap();
        book.configure(vec![rule(r#"{"domains":{"rule":"truncate"}}"#)]).unwrap();
        book.configure(vec![rule(r#"{"domains":{"rule":"truncate"}}"#)]).unwrap();
        assert_eq!((book.current().rules.len(), book.versions().unwrap().len()), (2, 5));
        let configured = book.current().rules.iter().find(|rule| rule.origin == CONFIGURATION).unwrap().number;
        let remove = Change { remove: vec![configured], ..Change::default() };
        assert!(matches!(book.change(&remove, "ann", "", ""), Err(RuleError::Configured(_))));
        let wrong = book.change(&add(&[r#"{"domains":{"rule":"keep"}}"#]), "ann", "", "").unwrap_err().to_string();
        assert!(wrong.contains("of the configuration"), "{wrong}");
    }
}
