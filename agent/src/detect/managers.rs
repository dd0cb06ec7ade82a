//! What the command line of a license manager tells.
//!
//! A log is better than a tool: it tells who came and went between two questions. A tool is proposed where there is no log.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Finding, Proposal};

/// A running process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// Its command line, the program first.
    pub arguments: Vec<String>,
    /// The folder in which it runs; `None` if it is not told to this account.
    pub folder: Option<PathBuf>,
    /// The file to which it prints, if it is one.
    pub output: Option<PathBuf>,
}

/// A license manager: its daemon, the tool that asks it, and how the daemon is told where to log.
struct Manager {
    name: &'static str,
    daemons: &'static [&'static str],
    /// The option before the path of the log; `None` if there is no log to be read.
    log: Option<&'static str>,
    /// The option before the license file.
    license: &'static str,
    tool: &'static str,
    /// The arguments of the tool; the license file, if it is known, follows after `-c`.
    question: &'static [&'static str],
    takes_license: bool,
    /// Whether its license files can be read.
    has_known_licenses: bool,
}

const MANAGERS: [Manager; 4] = [
    Manager {
        name: "FlexNet",
        daemons: &["lmgrd", "lmgrd.exe"],
        log: Some("-l"),
        license: "-c",
        tool: "lmutil",
        question: &["lmstat", "-a"],
        takes_license: true,
        has_known_licenses: true,
    },
    Manager {
        name: "RLM",
        daemons: &["rlm", "rlm.exe"],
        log: Some("-dlog"),
        license: "-c",
        tool: "rlmutil",
        question: &["rlmstat", "-a"],
        takes_license: true,
        has_known_licenses: false,
    },
    Manager {
        name: "LM-X",
        daemons: &["lmx-serv", "lmx-serv.exe"],
        log: None,
        license: "-l",
        tool: "lmxendutil",
        question: &["-licstatxml", "-host", "localhost"],
        takes_license: false,
        has_known_licenses: false,
    },
    Manager {
        name: "LS-Dyna",
        daemons: &["lstc_server", "lstc_server.exe"],
        log: None,
        license: "-l",
        tool: "lstc_qrun",
        question: &["-r"],
        takes_license: false,
        has_known_licenses: false,
    },
];

/// Returns what a process tells, if it is a license manager.
pub fn of_process(process: &Process) -> Vec<Finding> {
    // Behind an interpreter, or a program that starts another one.
    let program = process.arguments.iter().take(2).position(|argument| manager(argument).is_some());
    let Some(place) = program else { return Vec::new() };
    let (program, arguments) = (Path::new(&process.arguments[place]), &process.arguments[place + 1..]);
    let Some(manager) = manager(&process.arguments[place]) else { return Vec::new() };
    let folder = process.folder.as_deref();
    let by = format!("{} of {} runs as process {}", file_name(program), manager.name, process.id);
    found(manager, &by, (program, folder), arguments, process.output.as_deref())
}

/// Returns what a service tells whose command line is in parts: its program, its log and its license file.
pub fn of_service(name: &str, program: &Path, log: Option<&str>, license: Option<&str>) -> Vec<Finding> {
    let Some(manager) = manager(&program.to_string_lossy()) else { return Vec::new() };
    let option = |option: Option<&str>, value: Option<&str>| {
        option.zip(value).map(|(option, value)| vec![option.to_owned(), value.to_owned()]).unwrap_or_default()
    };
    let arguments = [option(manager.log, log), option(Some(manager.license), license)].concat();
    found(manager, &format!("the service {name:?} is {}", manager.name), (program, None), &arguments, None)
}

fn found(
    manager: &Manager,
    by: &str,
    (program, folder): (&Path, Option<&Path>),
    arguments: &[String],
    output: Option<&Path>,
) -> Vec<Finding> {
    let license = value_of(manager.license, arguments);
    let mut logs = Vec::new();
    if let Some(log) = manager.log.and_then(|option| value_of(option, arguments)) {
        // A plus sign appends to the log.
        logs.push((absolute(log.trim_start_matches('+'), folder), format!("{by}, and logs there")));
    } else if let (Some(output), Some(_)) = (output, manager.log) {
        logs.push((output.to_owned(), format!("{by}, and prints there")));
    }
    for file in license.iter().flat_map(|license| license.split(LIST)) {
        logs.extend(logs_of_vendors(&absolute(file, folder), by));
    }
    let named = license.filter(|_| manager.has_known_licenses).into_iter().flat_map(|license| license.split(LIST));
    // A list can name ports of license servers, too.
    let files = named.map(|file| absolute(file, folder)).filter(|file| file.exists());
    let licenses = files
        .map(|file| Finding { why: format!("{by}, and has these licenses"), source: Proposal::LicenseFiles(file) });
    let findings: Vec<Finding> =
        logs.into_iter().map(|(log, why)| Finding { why, source: Proposal::Log(log) }).collect();
    if !findings.is_empty() {
        return findings.into_iter().chain(licenses).collect();
    }
    let beside = program.parent().filter(|parent| !parent.as_os_str().is_empty());
    let tool =
        beside.map(|beside| absolute(&beside.to_string_lossy(), folder)).map(|beside| beside.join(tool_name(manager)));
    let source = match tool.filter(|tool| tool.is_file()) {
        Some(tool) => {
            let question = manager.question.iter().map(|part| (*part).to_owned());
            let mut command: Vec<String> = std::iter::once(tool.display().to_string()).chain(question).collect();
            if let Some(license) = license.filter(|_| manager.takes_license) {
                let files = license.split(LIST).map(|file| absolute(file, folder).display().to_string());
                command.extend(["-c".into(), files.collect::<Vec<_>>().join(&LIST.to_string())]);
            }
            Proposal::Command(command)
        }
        None => Proposal::Nothing(format!(
            "let it write a log, or name the path of {} in `command`: it is not beside {}",
            manager.tool,
            program.display()
        )),
    };
    std::iter::once(Finding { why: format!("{by}, and tells no log"), source }).chain(licenses).collect()
}

/// What separates the files of a list of licenses.
const LIST: char = if cfg!(windows) { ';' } else { ':' };

/// The largest license file that is read.
const LARGEST: u64 = 16 << 20;

/// Returns the debug logs that the options files of vendor daemons name, which a license file names. The options of a daemon lie
/// in its own file beside the license file, if no other one is named.
fn logs_of_vendors(license: &Path, by: &str) -> Vec<(PathBuf, String)> {
    let mut logs = Vec::new();
    let is_small = fs::metadata(license).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= LARGEST);
    let text = if is_small { fs::read(license).unwrap_or_default() } else { Vec::new() };
    let text = String::from_utf8_lossy(&text);
    let folder = license.parent();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("VENDOR") || word.eq_ignore_ascii_case("DAEMON"))
        {
            continue;
        }
        let Some(vendor) = words.next() else { continue };
        let named = words.clone().find_map(|word| strip_prefix_of_any_case(word, "OPTIONS="));
        // The older form: the path of the daemon, then that of its options.
        let second = words.filter(|word| !word.contains('=')).nth(1);
        let own = format!("{vendor}.opt");
        let options = absolute(named.or(second).unwrap_or(&own).trim_matches('"'), folder);
        for line in fs::read_to_string(&options).unwrap_or_default().lines() {
            let mut words = line.split_whitespace();
            if words.next().is_some_and(|word| word.eq_ignore_ascii_case("DEBUGLOG")) {
                let path = words.collect::<Vec<_>>().join(" ");
                let path = path.trim_start_matches('+').trim_matches('"');
                logs.push((absolute(path, folder), format!("{by}, and {} lets {vendor} log there", options.display())));
            }
        }
    }
    logs
}

fn strip_prefix_of_any_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn manager(program: &str) -> Option<&'static Manager> {
    // A path of Windows is one on any system.
    let name = program.rsplit(['/', '\\']).next()?;
    MANAGERS.iter().find(|manager| manager.daemons.iter().any(|daemon| name.eq_ignore_ascii_case(daemon)))
}

fn tool_name(manager: &Manager) -> String {
    format!("{}{}", manager.tool, std::env::consts::EXE_SUFFIX)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the value of an option: the argument behind it.
fn value_of<'a>(option: &str, arguments: &'a [String]) -> Option<&'a str> {
    let place = arguments.iter().position(|argument| argument == option)?;
    arguments.get(place + 1).map(String::as_str).filter(|value| !value.is_empty())
}

fn absolute(path: &str, folder: Option<&Path>) -> PathBuf {
    folder.map_or_else(|| PathBuf::from(path), |folder| folder.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(line: &str, folder: &Path) -> Process {
        let arguments = line.split(' ').map(str::to_owned).collect();
        Process { id: 7, arguments, folder: Some(folder.to_owned()), output: None }
    }

    fn sources(process: &Process) -> Vec<Proposal> {
        of_process(process).into_iter().map(|finding| finding.source).collect()
    }

    #[test]
    fn a_log_that_a_daemon_is_told_is_followed() {
        let folder = Path::new("/opt/flexlm");
        for (line, log) in [
            ("/opt/flexlm/lmgrd -c a.lic -l +debug.log", "/opt/flexlm/debug.log"),
            ("lmgrd -z -l /var/log/a.log -c a.lic", "/var/log/a.log"),
            ("/bin/sh ./lmgrd -l b.log", "/opt/flexlm/b.log"),
            ("/opt/rlm/rlm -dlog +isv.dlog", "/opt/flexlm/isv.dlog"),
        ] {
            assert_eq!(sources(&process(line, folder)), [Proposal::Log(log.into())], "{line}");
        }
        for line in ["vi lmgrd.log", "/usr/bin/grep -c x lmgrd", "sleep 7", ""] {
            assert_eq!(sources(&process(line, folder)), [], "{line}");
        }
    }

    #[test]
    fn a_daemon_that_prints_to_a_file_logs_there() {
        let printing = Process { output: Some("/var/log/lm.log".into()), ..process("lmgrd -z", Path::new("/")) };
        assert_eq!(sources(&printing), [Proposal::Log("/var/log/lm.log".into())]);
    }

    #[test]
    fn logs_of_vendor_daemons_are_named_by_their_options() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        file(
            "a.lic",
            "SERVER lic ANY\nVENDOR ugslmd\nDAEMON adskflex /opt/adskflex other.opt\nvendor x options=\"x y.opt\"\n",
        );
        file("ugslmd.opt", "# none\nREPORTLOG +r.rl\ndebuglog +ugs.log\n");
        file("other.opt", "DEBUGLOG /var/log/adsk.log\n");
        let found = sources(&process("/nowhere/lmgrd -c a.lic", folder.path()));
        let licenses = Proposal::LicenseFiles(folder.path().join("a.lic"));
        let logs = [Proposal::Log(folder.path().join("ugs.log")), Proposal::Log("/var/log/adsk.log".into())];
        assert_eq!(found, [&logs[..], &[licenses]].concat());
    }

    #[test]
    fn a_license_manager_without_a_log_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let tool = folder.path().join(tool_name(&MANAGERS[0]));
        let line = format!("{}/lmgrd -c a.lic", folder.path().display());
        assert!(matches!(&sources(&process(&line, folder.path()))[..], [Proposal::Nothing(_)]));
        fs::write(&tool, "").unwrap();
        let license = folder.path().join("a.lic").display().to_string();
        let command = [tool.display().to_string(), "lmstat".into(), "-a".into(), "-c".into(), license];
        assert_eq!(sources(&process(&line, folder.path())), [Proposal::Command(command.to_vec())]);
    }

    #[test]
    fn a_service_tells_the_same() {
        let program = Path::new(r"C:\flexlm\lmgrd.exe");
        let found = of_service("Licenses", program, Some(r"+C:\flexlm\debug.log"), Some(r"C:\flexlm\a.lic"));
        assert_eq!(found[0].source, Proposal::Log(r"C:\flexlm\debug.log".into()));
        assert_eq!(of_service("Spooler", Path::new(r"C:\Windows\spoolsv.exe"), None, None), []);
    }
}
