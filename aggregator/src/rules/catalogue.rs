//! The catalogue: which features make up which SKU.

use std::borrow::Cow;
use std::sync::LazyLock;

use hashbrown::{HashMap, HashSet};
use seatmeter_count::name::fold_case;

use super::file;
use super::rule::{Rule, Says, SkuRule, Unit};
use crate::store::names::Feature;

/// The built-in entries: the features of Citrix license servers.
pub const CITRIX: &str = include_str!("citrix.toml");

static BUILT_IN: LazyLock<Vec<Rule>> = LazyLock::new(|| file::parse(CITRIX).unwrap_or_default());

/// A SKU: the unit that is sold and reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sku {
    /// The id. It is a text, since leading zeros matter.
    pub id: String,
    /// The product's name; the feature's code if the catalogue has no entry.
    pub product: String,
    /// Whether the catalogue has an entry for the SKU.
    pub catalogued: bool,
    /// What is counted of it. Where seats in use at once are, its number of people is no license figure.
    pub unit: Unit,
    /// The number by which the distributor knows it; empty if there is none.
    pub part_number: String,
    /// The product of which it is an edition; empty if it is none.
    pub edition_of: String,
    /// The rank among the editions.
    pub rank: u32,
    /// The price of one; empty if it is not known.
    pub price: String,
}

impl Sku {
    /// Returns a SKU that the catalogue has no entry for.
    fn uncatalogued(id: String, product: String) -> Self {
        Self { id, product, ..Self::default() }
    }
}

impl Default for Sku {
    fn default() -> Self {
        let [id, product, part_number, edition_of, price] = Default::default();
        Self { id, product, catalogued: false, unit: Unit::User, part_number, edition_of, rank: 0, price }
    }
}

impl From<&SkuRule> for Sku {
    fn from(rule: &SkuRule) -> Self {
        Self {
            id: rule.id.clone(),
            product: rule.product.clone(),
            catalogued: true,
            unit: rule.unit,
            part_number: rule.part_number.clone(),
            edition_of: rule.edition_of.clone(),
            rank: rule.rank,
            price: rule.price.clone(),
        }
    }
}

/// Maps features to SKUs.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    skus: HashMap<(String, String), Sku>,
    never_counted: HashSet<(String, String)>,
}

impl Catalogue {
    /// Returns a catalogue of the built-in entries, overridden by what rules say of features.
    pub fn of<'a>(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let mut catalogue = Self::default();
        BUILT_IN.iter().for_each(|rule| catalogue.add(rule));
        rules.for_each(|rule| catalogue.add(rule));
        catalogue
    }

    fn add(&mut self, rule: &Rule) {
        match &rule.says {
            Says::Sku(sku) => {
                for feature in &sku.features {
                    let key = (sku.daemon.clone(), feature.clone());
                    self.never_counted.remove(&key);
                    self.skus.insert(key, sku.into());
                }
            }
            Says::NeverCounted(never) => {
                let key = |feature: &String| (never.daemon.clone(), feature.clone());
                self.never_counted.extend(never.features.iter().map(key));
            }
            _ => {}
        }
    }

    /// Returns the features that are licensed by concurrent use: daemon and code.
    pub fn concurrent(&self) -> impl Iterator<Item = &(String, String)> {
        self.skus.iter().filter(|(_, sku)| sku.unit == Unit::Concurrent).map(|(feature, _)| feature)
    }

    /// Returns the ids of all SKUs that have an entry.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.skus.values().map(|sku| sku.id.as_str())
    }

    /// Returns the SKU with an id that has an entry.
    pub fn sku(&self, id: &str) -> Option<&Sku> {
        self.skus.values().find(|sku| sku.id == id)
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
                Some((feature.id, Sku::uncatalogued(id, feature.name.clone())))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(daemon: &str, name: &str) -> Feature {
        Feature { id: 0, daemon: daemon.into(), name: name.into() }
    }

    fn with(text: &str) -> Catalogue {
        Catalogue::of(file::parse(text).unwrap().iter())
    }

    fn ids(catalogue: &Catalogue, features: &[Feature]) -> Vec<Option<String>> {
        let numbered = (0..).step_by(3).zip(features);
        let features: Vec<Feature> = numbered.map(|(id, feature)| Feature { id, ..feature.clone() }).collect();
        let skus = catalogue.assign(&features);
        features.iter().map(|feature| skus.get(&feature.id).map(|sku| sku.id.clone())).collect()
    }

    #[test]
    fn a_feature_that_is_called_like_a_sku_is_another_sku() {
        let text = "[[sku]]\nid = 'S1'\nproduct = 'P'\ndaemon = 'd'\nfeatures = ['f']\n";
        let features = [feature("d", "f"), feature("g", "S1"), feature("g", "s1")];
        let expected = [Some("S1".into()), Some("S1 (g)".into()), Some("s1 (g)".into())];
        assert_eq!(ids(&with(text), &features), expected);
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
        assert_eq!(ids(&with(""), &features), expected);
    }

    #[test]
    fn a_feature_without_an_entry_is_its_own_sku() {
        let features = [feature("a", "base"), feature("b", "base"), feature("a", "matk")];
        let catalogue = with("");
        assert_eq!(ids(&catalogue, &features), [Some("base".into()), Some("base (b)".into()), Some("matk".into())]);
        assert!(!catalogue.assign(&features)[&0].catalogued);
    }

    #[test]
    fn a_file_goes_over_the_built_in_entries() {
        let text =
            "[[sku]]\nid = 'MINE'\nproduct = 'My product'\ndaemon = 'CITRIX'\nfeatures = ['XDT_PLT_UD', 'CITRIX']";
        let features = [feature("CITRIX", "XDT_PLT_UD"), feature("CITRIX", "CITRIX")];
        assert_eq!(ids(&with(text), &features), [Some("MINE".into()), Some("MINE".into())]);
        assert!(file::parse("[[sku]]\nname = 'x'").is_err());
    }
}
