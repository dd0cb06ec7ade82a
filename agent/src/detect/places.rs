//! Where license managers are installed, if nobody has changed it.

use std::path::{Path, PathBuf};

use super::{Finding, Proposal};

/// A file that shows that a license manager is installed, and what it is good for.
pub struct Place {
    /// The license manager.
    name: &'static str,
    /// The file.
    path: &'static str,
    /// The arguments, if it is a tool that asks; `None` if it is a log.
    question: Option<&'static [&'static str]>,
}

/// The places of Citrix's license server, which are published. Its log does not reliably name users, and its tool does.
pub const PLACES: [Place; 6] = [
    Place {
        name: "Citrix",
        path: r"C:\Program Files (x86)\Citrix\Licensing\LS\udadmin.exe",
        question: Some(&["-list", "-times"]),
    },
    Place {
        name: "Citrix",
        path: r"C:\Program Files\Citrix\Licensing\LS\udadmin.exe",
        question: Some(&["-list", "-times"]),
    },
    Place { name: "Citrix", path: r"C:\Program Files (x86)\Citrix\Licensing\LS\lmgrd_debug.log", question: None },
    Place { name: "Citrix", path: r"C:\Program Files\Citrix\Licensing\LS\lmgrd_debug.log", question: None },
    Place { name: "Citrix", path: "/opt/citrix/licensing/LS/udadmin", question: Some(&["-list", "-times"]) },
    Place { name: "Citrix", path: "/opt/citrix/licensing/LS/lmgrd_debug.log", question: None },
];

/// Returns what is installed at these places.
pub fn installed(places: &[Place]) -> impl Iterator<Item = Finding> {
    let there = places.iter().filter(|place| Path::new(place.path).is_file());
    there.map(|place| Finding {
        why: format!("{} is installed", place.name),
        source: match place.question {
            None => Proposal::Log(PathBuf::from(place.path)),
            Some(question) => {
                let question = question.iter().map(|part| (*part).to_owned());
                Proposal::Command(std::iter::once(place.path.to_owned()).chain(question).collect())
            }
        },
    })
}
