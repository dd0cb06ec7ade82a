//! The catalogue: which features make up which SKU.

use std::borrow::Cow;

use hashbrown::{HashMap, HashSet};
use seatmeter_count::name::fold_case;
use serde::Deserialize;

use crate::store::names::Feature;

/// The built-in entries: the features of Citrix license servers.
const CITRIX: &str = include_str!("citrix.toml");

/// A catalogue file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    sku: Vec<Entry>,
    #[serde(default)]
    never_counted: Vec<NeverCounted>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    product: String,
    daemon: String,
    features: Vec<String>,
    #[serde(default)]
    concurrent: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NeverCounted {
    daemon: String,
    features: Vec<String>,
}

/// A SKU: the unit that is sold and reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sku {
    /// The id. It is a text, since leading zeros matter.
    pub id: String,
    /// The product's name; the feature's code if the catalogue has no entry.
    pub product: String,
    /// Whether the catalogue has an entry for the SKU.
    pub catalogued: bool,
    /// Whether the SKU is licensed by concurrent use. Its number of people is then no license figure.
    pub concurrent: bool,
}

/// A catalogue that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The text is not a valid catalogue.
    #[error(transparent)]
    Syntax(#[from] toml::de::Error),
    /// One feature is in two SKUs, so that its users would count for one of them by chance.
    #[error("feature {feature:?} of daemon {daemon:?} is in two SKUs, {first:?} and {second:?}: leave it in one")]
    MappedTwice {
        /// The feature.
        feature: String,
        /// The feature's vendor daemon.
        daemon: String,
        /// The id of the SKU that lists the feature first.
        first: String,
        /// The id of the SKU that lists the feature again.
        second: String,
    },
    /// Two entries name one SKU differently, so that one of the names would never be shown.
    #[error("SKU {id:?} has two products, {first:?} and {second:?}: name it the same in both entries")]
    NamedTwice {
        /// The id of the SKU.
        id: String,
        /// The product in the first entry.
        first: String,
        /// The product in the later entry.
        second: String,
    },
    /// Two SKUs cannot be told apart when somebody asks for one of them.
    #[error("SKUs {first:?} and {second:?} differ in case alone: write the id in one way")]
    Alike {
        /// The id in the first entry.
        first: String,
        /// The id in the later entry.
        second: String,
    },
    /// An entry has no id or no features.
    #[error("the SKU {id:?} of product {product:?} has no {missing}")]
    Incomplete {
        /// The id of the SKU.
        id: String,
        /// The product.
        product: String,
        /// What is missing.
        missing: &'static str,
    },
}

/// Maps features to SKUs.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    skus: HashMap<(String, String), Sku>,
    never_counted: HashSet<(String, String)>,
}

impl Catalogue {
    /// Returns a catalogue of the built-in entries, overridden by the entries in the text of a catalogue file.
    pub fn with(text: &str) -> Result<Self, CatalogueError> {
        let mut catalogue = Self::default();
        catalogue.add(CITRIX)?;
        catalogue.add(text)?;
        Ok(catalogue)
    }

    fn add(&mut self, text: &str) -> Result<(), CatalogueError> {
        let file: File = toml::from_str(text)?;
        check(&file.sku)?;
        let mut mapped: HashMap<(String, String), String> = HashMap::new();
        for entry in file.sku {
            for feature in entry.features {
                let key = (entry.daemon.clone(), feature.clone());
                if let Some(first) = mapped.insert(key, entry.id.clone()).filter(|first| *first != entry.id) {
                    return Err(CatalogueError::MappedTwice { feature, daemon: entry.daemon, first, second: entry.id });
                }
                let sku = Sku {
                    id: entry.id.clone(),
                    product: entry.product.clone(),
                    catalogued: true,
                    concurrent: entry.concurrent,
                };
                let key = (entry.daemon.clone(), feature);
                self.never_counted.remove(&key);
                self.skus.insert(key, sku);
            }
        }
        for NeverCounted { daemon, features } in file.never_counted {
            self.never_counted.extend(features.into_iter().map(|feature| (daemon.clone(), feature)));
        }
        Ok(())
    }

    /// Returns the features that are licensed by concurrent use: daemon and code.
    pub fn concurrent(&self) -> impl Iterator<Item = &(String, String)> {
        self.skus.iter().filter(|(_, sku)| sku.concurrent).map(|(feature, _)| feature)
    }

    /// Returns the ids of all SKUs that have an entry.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.skus.values().map(|sku| sku.id.as_str())
    }

    /// Returns the SKU of each feature, by the feature's id. A feature that never counts has none. A feature without an
    /// entry is its own SKU: the id is the feature's code, followed by the vendor daemon if an earlier daemon has a
    /// feature of the same code, or if a SKU of the catalogue has that id.
    pub fn assign(&self, features: &[Feature]) -> HashMap<u32, Sku> {
        let mut first_daemon: HashMap<&str, &str> = HashMap::new();
        let taken: HashSet<Cow<'_, str>> = self.ids().map(fold_case).collect();
        features
            .iter()
            .filter_map(|feature| {
                let key = (feature.daemon.clone(), feature.name.clone());
                if feature.name.is_empty() || self.never_counted.contains(&key) {
                    return None;
                }
                if let Some(sku) = self.skus.get(&key) {
                    return Some((feature.id, sku.clone()));
                }
                let first = *first_daemon.entry(&feature.name).or_insert(&feature.daemon);
                let id = if first == feature.daemon && !taken.contains(&fold_case(&feature.name)) {
                    feature.name.clone()
                } else {
                    format!("{} ({})", feature.name, feature.daemon)
                };
                Some((feature.id, Sku { id, product: feature.name.clone(), catalogued: false, concurrent: false }))
            })
            .collect()
    }
}

/// Checks what the entries of a file say of their SKUs.
fn check(entries: &[Entry]) -> Result<(), CatalogueError> {
    let mut known: HashMap<Cow<'_, str>, &Entry> = HashMap::new();
    for entry in entries {
        let missing = match entry {
            Entry { id, .. } if id.trim().is_empty() => Some("id"),
            Entry { features, .. } if features.is_empty() => Some("features"),
            _ => None,
        };
        if let Some(missing) = missing {
            return Err(CatalogueError::Incomplete { id: entry.id.clone(), product: entry.product.clone(), missing });
        }
        let first = *known.entry(fold_case(&entry.id)).or_insert(entry);
        if first.id != entry.id {
            return Err(CatalogueError::Alike { first: first.id.clone(), second: entry.id.clone() });
        }
        if first.product != entry.product {
            let (id, first, second) = (entry.id.clone(), first.product.clone(), entry.product.clone());
            return Err(CatalogueError::NamedTwice { id, first, second });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(daemon: &str, name: &str) -> Feature {
        Feature { id: 0, daemon: daemon.into(), name: name.into() }
    }

    fn ids(catalogue: &Catalogue, features: &[Feature]) -> Vec<Option<String>> {
        let numbered = (0..).step_by(3).zip(features);
        let features: Vec<Feature> = numbered.map(|(id, feature)| Feature { id, ..feature.clone() }).collect();
        let skus = catalogue.assign(&features);
        features.iter().map(|feature| skus.get(&feature.id).map(|sku| sku.id.clone())).collect()
    }

    #[test]
    fn a_feature_in_two_skus_is_refused() {
        let text = "[[sku]]\nid = 'A'\nproduct = 'A'\ndaemon = 'd'\nfeatures = ['f']\n\
                    [[sku]]\nid = 'B'\nproduct = 'B'\ndaemon = 'd'\nfeatures = ['g', 'f']\n";
        let refused = Catalogue::with(text).unwrap_err().to_string();
        assert_eq!(refused, "feature \"f\" of daemon \"d\" is in two SKUs, \"A\" and \"B\": leave it in one");
    }

    #[test]
    fn entries_that_contradict_each_other_are_refused() {
        let entry = |id: &str, product: &str, features: &str| {
            format!("[[sku]]\nid = '{id}'\nproduct = '{product}'\ndaemon = 'd'\nfeatures = [{features}]\n")
        };
        for (second, reason) in [
            (entry("A", "Other", "'g'"), "has two products, \"One\" and \"Other\""),
            (entry("a", "One", "'g'"), "differ in case alone"),
            (entry(" ", "One", "'g'"), "has no id"),
            (entry("B", "Two", ""), "has no features"),
        ] {
            let refused = Catalogue::with(&format!("{}{second}", entry("A", "One", "'f'"))).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
        // Two entries of one SKU, for two daemons, are fine.
        assert!(Catalogue::with(&format!("{}{}", entry("A", "One", "'f'"), entry("A", "One", "'g'"))).is_ok());
    }

    #[test]
    fn a_feature_that_is_called_like_a_sku_is_another_sku() {
        let text = "[[sku]]\nid = 'S1'\nproduct = 'P'\ndaemon = 'd'\nfeatures = ['f']\n";
        let features = [feature("d", "f"), feature("g", "S1"), feature("g", "s1")];
        let expected = [Some("S1".into()), Some("S1 (g)".into()), Some("s1 (g)".into())];
        assert_eq!(ids(&Catalogue::with(text).unwrap(), &features), expected);
    }

    #[test]
    fn startup_licenses_never_count_and_codes_keep_their_zeros() {
        let features = [
            feature("CITRIX", "CITRIX"),
            feature("CITRIX", "CTXLSDIAG"),
            feature("CITRIX", "XDT_STD_UD"),
            feature("other", "CITRIX"),
            feature("other", ""),
        ];
        let expected = [None, None, Some("000000000004013543".into()), Some("CITRIX".into()), None];
        assert_eq!(ids(&Catalogue::with("").unwrap(), &features), expected);
    }

    #[test]
    fn a_feature_without_an_entry_is_its_own_sku() {
        let features = [feature("a", "base"), feature("b", "base"), feature("a", "matk")];
        let catalogue = Catalogue::with("").unwrap();
        assert_eq!(ids(&catalogue, &features), [Some("base".into()), Some("base (b)".into()), Some("matk".into())]);
        assert!(!catalogue.assign(&features)[&0].catalogued);
    }

    #[test]
    fn a_file_goes_over_the_built_in_entries() {
        let text =
            "[[sku]]\nid = 'MINE'\nproduct = 'My product'\ndaemon = 'CITRIX'\nfeatures = ['XDT_PLT_UD', 'CITRIX']";
        let features = [feature("CITRIX", "XDT_PLT_UD"), feature("CITRIX", "CITRIX")];
        assert_eq!(ids(&Catalogue::with(text).unwrap(), &features), [Some("MINE".into()), Some("MINE".into())]);
        assert!(Catalogue::with("[[sku]]\nname = 'x'").is_err());
    }
}
