//! Captures each log, and each license manager that is asked, with its own thread. The system wakes the thread of a log when a
//! file changes; a timer wakes it for safety, and asks license managers.
//!
//! A log on a drive that hangs blocks only its own thread.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::buffer::Buffer;
use crate::checkpoint::{Configured, Rewind};
use crate::codes;
use crate::source::file::status::{LogSource, LogState, SharedStatus};
use crate::source::file::tailer::{LogTailer, SAFETY_POLL};
use crate::source::poll::PollSource;
use crate::source::poll::poller::{Asked, PollError, Poller};
use crate::source::rewinds::Rewinds;

/// The shortest time between two polls of a log.
const PACE: Duration = Duration::from_millis(20);

/// How long reading waits after an error, such as a full buffer or a disk error.
const RETRY: Duration = Duration::from_secs(1);

/// How long a stop waits for the threads.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a log's thread wakes up.
enum Wake {
    /// The log may have been written to.
    Changed,
    /// A file beside the log was created, renamed or deleted.
    Listed,
    /// The agent stops.
    Stop,
}

/// A log being captured.
pub struct CapturedLog {
    /// The name of the log.
    pub name: String,
    /// What the configuration says of the log's times.
    pub configured: Configured,
    /// The state of the log.
    pub status: SharedStatus,
}

/// All logs being captured.
pub struct Capture {
    threads: Vec<JoinHandle<()>>,
    wakes: Vec<Sender<Wake>>,
    /// The logs.
    pub logs: Vec<CapturedLog>,
    rewinds: Arc<Rewinds>,
    /// The number of state changes of all logs since the start.
    changes: watch::Sender<u64>,
    /// Ends the tools that run.
    stop: Arc<AtomicBool>,
}

/// The folders that are watched, each with whom to wake.
type Folders = Arc<Mutex<Vec<(PathBuf, Sender<Wake>)>>>;

impl Capture {
    /// Starts capturing logs into a buffer.
    pub fn start(sources: &[LogSource], polls: &[PollSource], buffer: &Arc<Buffer>) -> std::io::Result<Self> {
        let names = sources.iter().map(|source| &source.name).chain(polls.iter().map(|source| &source.name));
        let rewinds = Arc::new(Rewinds::new(names.cloned().collect()));
        let (changes, _) = watch::channel(0);
        let folders = Folders::default();
        let watcher = watcher(folders.clone())
            .inspect_err(|error| {
                tracing::warn!(code = codes::WATCH_FAILED, reason = %error, "file change notifications are not available; logs are polled every 5 seconds");
            })
            .ok()
            .map(|watcher| Arc::new(Mutex::new(watcher)));
        let (mut threads, mut wakes, mut logs) = (Vec::new(), Vec::new(), Vec::new());
        for source in sources {
            let status = SharedStatus::default();
            let (wake, woken) = mpsc::channel();
            let tailer = LogTailer::new(source.clone(), buffer.clone(), status.clone(), rewinds.clone());
            status.lock().unwrap_or_else(PoisonError::into_inner).asked_since = Some(Instant::now());
            let (log, changes, path) = (source.name.clone(), changes.clone(), source.path.clone());
            let (watcher, folders, waker) = (watcher.clone(), folders.clone(), wake.clone());
            threads.push(std::thread::Builder::new().name("capture".into()).spawn(move || {
                // Here, and not where all logs are started: a drive that hangs must hold up no other log.
                if let Some(watcher) = watcher {
                    watch(&watcher, &folders, &path, waker);
                }
                follow(tailer, &log, &woken, &changes);
            })?);
            wakes.push(wake);
            logs.push(CapturedLog { name: source.name.clone(), configured: source.configured(), status });
        }
        let stop = Arc::new(AtomicBool::new(false));
        for source in polls {
            let status = SharedStatus::default();
            let (wake, woken) = mpsc::channel();
            let poller = Poller::new(source.clone(), buffer.clone(), status.clone(), rewinds.clone(), stop.clone());
            let (name, changes) = (source.name.clone(), changes.clone());
            let thread = std::thread::Builder::new().name("poll".into());
            threads.push(thread.spawn(move || ask(poller, &name, &woken, &changes))?);
            wakes.push(wake);
            logs.push(CapturedLog { name: source.name.clone(), configured: source.configured(), status });
        }
        Ok(Self { threads, wakes, logs, rewinds, changes, stop })
    }

    /// Returns a receiver that is notified when any log's state changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Requests that a stream be read again from its beginning.
    pub fn rewind(&self, rewind: Rewind) {
        self.rewinds.request(rewind);
        self.wake(|| Wake::Listed);
    }

    /// Whether every stream that was to be read again has been, or is known to be gone.
    pub fn has_rewound(&self) -> bool {
        self.rewinds.are_fulfilled()
    }

    /// Commits what was read and stops all threads. A thread that waits for a drive that hangs is left behind: what it has
    /// not committed is read again at the next start.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake(|| Wake::Stop);
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline && self.threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(PACE);
        }
        for thread in self.threads.into_iter().filter(JoinHandle::is_finished) {
            // A thread that panics ends the process.
            let _ = thread.join();
        }
    }

    fn wake(&self, wake: impl Fn() -> Wake) {
        for sender in &self.wakes {
            // A thread that is gone needs no waking.
            let _ = sender.send(wake());
        }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    // Events carry the path that was given to the watcher, so the watcher gets the canonical path.
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

/// Creates a watcher that wakes the threads of logs in whose folders something happens.
fn watcher(folders: Folders) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        for (folder, wake) in folders.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let wanted = match &event {
                Ok(event) if matches!(event.kind, EventKind::Access(_)) => None,
                Ok(event) if !event.paths.iter().any(|path| path.starts_with(folder)) => None,
                Ok(event) if matches!(event.kind, EventKind::Modify(notify::event::ModifyKind::Data(_))) => {
                    Some(Wake::Changed)
                }
                // Any other event, a lost event included, requires a scan of all files.
                _ => Some(Wake::Listed),
            };
            if let Some(wanted) = wanted {
                // A thread that is gone needs no waking.
                let _ = wake.send(wanted);
            }
        }
    })
}

/// Watches the folder of a log. Without that, the log is polled.
fn watch(watcher: &Mutex<RecommendedWatcher>, folders: &Folders, path: &Path, wake: Sender<Wake>) {
    let folder = folder_of(path);
    // A drive that hangs does so here, and not while others wait for the watcher.
    let is_there = folder.is_dir();
    folders.lock().unwrap_or_else(PoisonError::into_inner).push((folder.clone(), wake));
    let mut watcher = watcher.lock().unwrap_or_else(PoisonError::into_inner);
    if let (true, Err(error)) = (is_there, watcher.watch(&folder, RecursiveMode::NonRecursive)) {
        tracing::warn!(code = codes::WATCH_FAILED, folder = %folder.display(), reason = %error, "changes in a folder are not told; its logs are polled every 5 seconds");
    }
}

fn follow(mut tailer: LogTailer, log: &str, woken: &Receiver<Wake>, changes: &watch::Sender<u64>) {
    let mut reporter = ProblemReporter::default();
    let mut scan_files = true;
    let mut state = tailer.state();
    loop {
        let outcome = tailer.poll(scan_files);
        let pause = match &outcome {
            Ok(()) => None,
            Err(_) => Some(RETRY),
        };
        if tailer.state() != state {
            state = tailer.state();
            changes.send_modify(|count| *count += 1);
        }
        reporter.report(log, outcome.err().map(|error| error.to_string()), state);
        match wait(woken, pause, tailer.deadline()) {
            Some(all) => scan_files = all,
            None => break,
        }
    }
    if let Err(error) = tailer.commit() {
        tracing::warn!(code = codes::LOG_STATE, log, reason = %error, "what was read last will be read again at the next start");
    }
}

/// Waits until the log must be polled. Returns whether to scan all files; `None` if the agent stops.
fn wait(woken: &Receiver<Wake>, pause: Option<Duration>, deadline: Option<Instant>) -> Option<bool> {
    let now = Instant::now();
    let earliest = now + pause.unwrap_or(PACE);
    let safety = now + SAFETY_POLL;
    let latest = deadline.unwrap_or(safety).min(safety).max(earliest);
    let mut scan_files = false;
    let mut changed = false;
    loop {
        let until = if changed { earliest } else { latest };
        match woken.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Wake::Changed) => changed = true,
            Ok(Wake::Listed) => (changed, scan_files) = (true, true),
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => return Some(scan_files || until >= safety),
        }
    }
}

/// Asks a license manager when it is due, until the agent stops.
fn ask(mut poller: Poller, log: &str, woken: &Receiver<Wake>, changes: &watch::Sender<u64>) {
    let mut told = None;
    loop {
        let outcome = poller.poll();
        if poller.is_stopped() {
            return;
        }
        let pause = poller.due().saturating_duration_since(Instant::now());
        let pause = if outcome.is_err() { pause.max(RETRY) } else { pause };
        if report_poll(log, outcome, &mut told) {
            changes.send_modify(|count| *count += 1);
        }
        match woken.recv_timeout(pause) {
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Wake::Changed | Wake::Listed) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Reports what asking does when it begins, changes or ends, not each time. Returns whether it did.
fn report_poll(log: &str, outcome: Result<Asked, PollError>, told: &mut Option<Result<Asked, String>>) -> bool {
    let now = outcome.map_err(|error| error.to_string());
    if now == Ok(Asked::NotDue) || told.as_ref() == Some(&now) {
        return false;
    }
    match &now {
        Ok(Asked::Partly(missing)) => {
            tracing::warn!(code = codes::POLL_PARTIAL, log, reason = missing, "the license manager does not tell all");
        }
        Ok(_) => tracing::info!(code = codes::POLL_ANSWERED, log, "the license manager answers"),
        Err(reason) => {
            tracing::error!(code = codes::POLL_FAILED, log, reason, "the license manager was asked in vain");
        }
    }
    *told = Some(now);
    true
}

/// Reports what a log does when it begins, changes or ends, not each time it is polled.
#[derive(Default)]
struct ProblemReporter {
    told: Option<Told>,
}

#[derive(PartialEq)]
enum Told {
    Followed,
    /// How much of the disk or of the quota is used changes all the time, so the reason is no part of it.
    BufferFull,
    Unreadable(String),
}

impl ProblemReporter {
    fn report(&mut self, log: &str, problem: Option<String>, state: LogState) {
        let reason = problem.clone().unwrap_or_default();
        let now = match (problem, state) {
            (None, _) => Told::Followed,
            (Some(_), LogState::BufferFull) => Told::BufferFull,
            (Some(reason), _) => Told::Unreadable(reason),
        };
        if self.told.as_ref() == Some(&now) {
            return;
        }
        match now {
            Told::Followed => tracing::info!(code = codes::LOG_READABLE, log, %state, "the log is followed"),
            Told::BufferFull => {
                tracing::error!(
                    code = codes::BUFFER_FULL,
                    log,
                    reason,
                    "reading waits; the log keeps what is not read"
                );
            }
            Told::Unreadable(_) => {
                tracing::error!(code = codes::LOG_UNREADABLE, log, reason, "the log cannot be read; trying again");
            }
        }
        self.told = Some(now);
    }
}
