//! Where license managers are installed, if nobody has changed it.

use std::path::{Path, PathBuf};

use super::{Finding, Proposal};

/// A file that shows that a license manager is installed, and what it is good for.
pub struct Place {
    /// The license manager.
    name: &'static str,
    /// The file, or the folder.
    path: &'static str,
    is: Is,
}

/// What stands at a place.
enum Is {
    /// A log.
    Log,
    /// A tool that asks, with its arguments.
    Tool(&'static [&'static str]),
    /// A folder with license files.
    Licenses,
}

/// The places of Citrix's license server, which are published. Its log does not reliably name users, and its tool does.
pub const PLACES: [Place; 9] = [
    Place {
        name: "Citrix",
        path: r"C:\Program Files (x86)\Citrix\Licensing\LS\udadmin.exe",
        is: Is::Tool(&["-list", "-times"]),
    },
    Place {
        name: "Citrix",
        path: r"C:\Program Files\Citrix\Licensing\LS\udadmin.exe",
        is: Is::Tool(&["-list", "-times"]),
    },
    Place { name: "Citrix", path: r"C:\Program Files (x86)\Citrix\Licensing\LS\lmgrd_debug.log", is: Is::Log },
    Place { name: "Citrix", path: r"C:\Program Files\Citrix\Licensing\LS\lmgrd_debug.log", is: Is::Log },
    Place { name: "Citrix", path: "/opt/citrix/licensing/LS/udadmin", is: Is::Tool(&["-list", "-times"]) },
    Place { name: "Citrix", path: "/opt/citrix/licensing/LS/lmgrd_debug.log", is: Is::Log },
    Place { name: "Citrix", path: r"C:\Program Files (x86)\Citrix\Licensing\MyFiles", is: Is::Licenses },
    Place { name: "Citrix", path: r"C:\Program Files\Citrix\Licensing\MyFiles", is: Is::Licenses },
    Place { name: "Citrix", path: "/opt/citrix/licensing/myfiles", is: Is::Licenses },
];

/// Returns what is installed at these places.
pub fn installed(places: &[Place]) -> impl Iterator<Item = Finding> {
    let is_there = |place: &&Place| match place.is {
        Is::Log | Is::Tool(_) => Path::new(place.path).is_file(),
        Is::Licenses => Path::new(place.path).is_dir(),
    };
    places.iter().filter(is_there).map(|place| Finding {
        why: format!("{} is installed", place.name),
        source: match place.is {
            Is::Log => Proposal::Log(PathBuf::from(place.path)),
            Is::Licenses => Proposal::LicenseFiles(PathBuf::from(place.path)),
            Is::Tool(question) => {
                let question = question.iter().map(|part| (*part).to_owned());
                Proposal::Command(std::iter::once(place.path.to_owned()).chain(question).collect())
            }
        },
    })
}
