//! The rules of ARCHITECTURE.md's list "What is deliberately absent", held by reading the code.

use std::fs;
use std::path::{Path, PathBuf};

/// What must not stand in some files. The sentence is that of ARCHITECTURE.md.
struct Rule {
    sentence: &'static str,
    /// Files and folders that the rule is for, ...
    of: &'static [&'static str],
    /// ... but for these.
    but: &'static [&'static str],
    absent: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule {
        sentence: "`format` and `seatmeter-count` do no I/O and read no clock.",
        of: &["agent/src/format", "proto/count/src"],
        but: &[],
        absent: &["std::fs", "std::io", "std::net", "std::time", "::now()", "tokio", "tracing"],
    },
    Rule {
        sentence: "Only `agent/src/buffer` and `aggregator/src/store/sqlite.rs` open SQLite.",
        of: &["agent/src", "aggregator/src", "aggregator/cli/src", "proto"],
        but: &["agent/src/buffer", "aggregator/src/store/sqlite.rs"],
        absent: &["rusqlite"],
    },
    Rule {
        sentence: "Domain modules of the aggregator know neither `api`, nor tonic, nor a response message, nor an engine.",
        of: &["aggregator/src/access", "aggregator/src/ingest", "aggregator/src/usage", "aggregator/src/fleet"],
        but: &[],
        absent: &["crate::api", "tonic", "Response", "crate::store::sqlite"],
    },
    Rule {
        sentence: "The store knows nothing of what is built on it.",
        of: &["aggregator/src/store"],
        but: &[],
        absent: &["crate::api", "crate::ingest", "crate::usage", "crate::fleet", "crate::serve", "tonic"],
    },
    Rule {
        sentence: "Questions do not reach into ingest: `usage` and `fleet` read the store, and `fleet` does not know `usage`.",
        of: &["aggregator/src/usage", "aggregator/src/fleet"],
        but: &[],
        absent: &["crate::ingest"],
    },
    Rule {
        sentence: "Questions do not reach into ingest: `usage` and `fleet` read the store, and `fleet` does not know `usage`.",
        of: &["aggregator/src/fleet", "aggregator/src/ingest"],
        but: &[],
        absent: &["crate::usage"],
    },
    Rule {
        sentence: "The buffer knows no source; no source knows capture or delivery.",
        of: &["agent/src/buffer"],
        but: &[],
        absent: &["crate::source", "crate::capture", "crate::uplink", "crate::health", "crate::run"],
    },
    Rule {
        sentence: "The buffer knows no source; no source knows capture or delivery.",
        of: &["agent/src/source", "agent/src/format", "agent/src/batcher.rs", "agent/src/checkpoint.rs"],
        but: &[],
        absent: &["crate::capture", "crate::uplink", "crate::health", "crate::run"],
    },
    Rule {
        sentence: "Nothing outside `format` names a format, and nothing but `detect` a license manager.",
        of: &["agent/src"],
        but: &["agent/src/format", "agent/src/detect"],
        absent: &["FlexNet", "flexnet"],
    },
    Rule {
        sentence: "Imports run down: the contract knows no program, counting knows no contract.",
        of: &["proto"],
        but: &[],
        absent: &["seatmeter_agent", "seatmeter_aggregator"],
    },
    Rule {
        sentence: "Imports run down: the contract knows no program, counting knows no contract.",
        of: &["proto/count/src", "proto/service/src"],
        but: &[],
        absent: &["seatmeter_proto", "tonic"],
    },
    Rule {
        sentence: "The command line `seatmeter` is a client of the API and nothing else; its own files are logins, exports, and what it imports.",
        of: &["aggregator/cli/src"],
        but: &[
            "aggregator/cli/src/login.rs",
            "aggregator/cli/src/profile.rs",
            "aggregator/cli/src/audit.rs",
            "aggregator/cli/src/import.rs",
            "aggregator/cli/src/rules.rs",
            "aggregator/cli/src/evidence.rs",
            "aggregator/cli/src/files.rs",
        ],
        absent: &["seatmeter_aggregator", "seatmeter_count", "std::fs"],
    },
    Rule {
        sentence: "The simulator shares no code with the product.",
        of: &["xtask/src/sim"],
        but: &[],
        absent: &["seatmeter_"],
    },
    Rule {
        sentence: "No test looks for a free port.",
        of: &["tests/src", "tests/tests"],
        but: &["tests/tests/architecture.rs"],
        absent: &["free_port"],
    },
];

/// A file has one idea: more lines are usually two.
const MOST_LINES: usize = 500;

fn sources() -> Vec<(String, String)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && !["target", "generated"].iter().any(|name| path.ends_with(name)) {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = xtask::root();
    let mut found = Vec::new();
    for folder in ["agent", "aggregator", "proto", "tests", "xtask"] {
        collect(&root.join(folder), &mut found);
    }
    found.sort();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The lines of a file that are code of the product: no comment, and nothing of its tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let product = text.lines().take_while(|line| *line != "#[cfg(test)]");
    (1..).zip(product).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn what_is_deliberately_absent_is_absent() {
    let architecture = fs::read_to_string(xtask::root().join("ARCHITECTURE.md")).unwrap().replace("\n  ", " ");
    let mut broken = Vec::new();
    for rule in RULES {
        assert!(architecture.contains(rule.sentence), "ARCHITECTURE.md does not say: {}", rule.sentence);
        let is_in = |name: &str, places: &[&str]| places.iter().any(|place| Path::new(name).starts_with(place));
        for (name, text) in sources().iter().filter(|(name, _)| is_in(name, rule.of) && !is_in(name, rule.but)) {
            if name.ends_with("tests.rs") {
                continue;
            }
            for (number, line) in code(text) {
                if let Some(absent) = rule.absent.iter().find(|absent| line.contains(*absent)) {
                    broken.push(format!("{name}:{number}: {absent} is here, but: {}", rule.sentence));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn no_file_has_more_than_one_idea() {
    let sources = sources();
    let mut lengths: Vec<(usize, &str)> =
        sources.iter().map(|(name, text)| (text.lines().count(), name.as_str())).collect();
    lengths.sort_unstable();
    let (longest, name) = *lengths.last().unwrap();
    println!("the longest file is {name}, of {longest} lines");
    assert!(longest <= MOST_LINES, "{name} has {longest} lines: more than {MOST_LINES} are usually two ideas");
}

/// Every test of a fault is listed, and every listed test is there.
#[test]
fn the_list_of_faults_names_the_tests_there_are() {
    let list = fs::read_to_string(xtask::root().join("tests/FAULTS.md")).unwrap();
    let mut tests = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| name.starts_with("tests/tests/")) {
        let found = text.lines().filter_map(|line| {
            let line = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
            line.split('(').next().filter(|test| test.starts_with("fault_"))
        });
        tests.extend(found.map(|test| (name.clone(), test.to_owned())));
    }
    assert!(tests.len() > 20);
    for (file, test) in &tests {
        let number = &test[..8];
        assert!(
            list.contains(test.as_str()) || list.contains(&format!("`{number}_*`")),
            "FAULTS.md does not list {test} of {file}"
        );
    }
    for listed in list.split('`').filter(|part| part.starts_with("fault_") && !part.ends_with('*')) {
        assert!(tests.iter().any(|(_, test)| test == listed), "FAULTS.md lists {listed}, which is no test");
    }
}
