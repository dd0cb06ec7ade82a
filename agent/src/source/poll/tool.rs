//! Runs a tool without a shell, within limits of time and of output. At the end, the whole tree of its processes is ended: a
//! process group on Unix, a job object on Windows.

use std::io::{self, Read};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memchr::memmem;
#[cfg(windows)]
use process_wrap::std::JobObject;
#[cfg(unix)]
use process_wrap::std::ProcessGroup;
use process_wrap::std::{ChildWrapper, CommandWrap};
use seatmeter_count::name::decode;

/// The most bytes that a tool may print: 100,000 users take some 12 MB of lmstat's.
const MOST_PRINTED: u64 = 16 << 20;

/// The most readers of earlier runs that may still wait for output, because a process that left its group holds it open.
const MOST_READERS: usize = 8;

/// The most bytes of its error output that are kept.
const MOST_ERRORS: u64 = 64 << 10;

/// How often a running tool is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How long the output of a tool may stay open once the tool has ended, because a process that has left its group holds it.
const AFTER_ITS_END: Duration = Duration::from_secs(1);

/// A tool to run.
#[derive(Clone, Debug)]
pub struct Tool {
    /// The program: a path, or a name that is looked for in `PATH`.
    pub program: String,
    /// Its arguments, which no shell sees.
    pub arguments: Vec<String>,
    /// How long it may run.
    pub time_limit: Duration,
    /// The readers of its output, of all its runs.
    pub readers: Arc<AtomicUsize>,
}

/// Why a tool gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The program cannot be started.
    #[error("{program} cannot be started: {source}: is the path right, and may the agent's account run it?")]
    Start {
        /// The program.
        program: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// It ran longer than it may.
    #[error("{program} has not ended within {} seconds, and was ended; {printed}", .limit.as_secs())]
    TooLong {
        /// The program.
        program: String,
        /// How long it may run.
        limit: Duration,
        /// What it printed, for people.
        printed: String,
    },
    /// It printed more than it may.
    #[error("{program} printed more than {} MiB, and was ended; {printed}", MOST_PRINTED >> 20)]
    TooMuch {
        /// The program.
        program: String,
        /// What it printed, for people.
        printed: String,
    },
    /// It failed.
    #[error("{program} failed ({status}); {printed}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed, for people.
        printed: String,
    },
    /// It has ended, and a process that it started holds its output open.
    #[error("{program} has ended and left a process behind that holds its output open; {printed}")]
    HeldOpen {
        /// The program.
        program: String,
        /// What it printed, for people.
        printed: String,
    },
    /// It cannot be waited for.
    #[error("{program} cannot be waited for: {source}")]
    Wait {
        /// The program.
        program: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The agent stops.
    #[error("the agent stops")]
    Stopped,
}

impl Tool {
    /// Runs the tool, and returns what it printed. Ends it when `stop` becomes true.
    pub fn run(&self, stop: &AtomicBool) -> Result<Vec<u8>, ToolError> {
        let program = self.program.clone();
        if self.readers.load(Ordering::Relaxed) > MOST_READERS {
            return Err(ToolError::HeldOpen { program, printed: "it is not run again until these have ended".into() });
        }
        let mut command = CommandWrap::with_new(&self.program, |command| {
            command.args(&self.arguments);
            // Dates and messages as the parsers know them.
            command.env("LC_ALL", "C").env("LANG", "C");
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        });
        #[cfg(unix)]
        command.wrap(ProcessGroup::leader());
        #[cfg(windows)]
        command.wrap(JobObject);
        let mut child = command.spawn().map_err(|source| ToolError::Start { program: program.clone(), source })?;
        let printed = Output::read(child.stdout().take(), MOST_PRINTED + 1, &self.readers);
        let errors = Output::read(child.stderr().take(), MOST_ERRORS, &self.readers);
        let ended = self.wait(child.as_mut(), &printed, stop);
        // Also what it has left behind, which may hold its output open. Where nothing is left, that fails.
        let _ = child.start_kill();
        if !matches!(ended, Ok(End::Exit(_))) {
            let _ = child.wait();
        }
        let deadline = Instant::now() + AFTER_ITS_END;
        while !(printed.has_ended() && errors.has_ended()) && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        let is_whole = printed.has_ended() && errors.has_ended();
        let (printed, errors) = (printed.take(), errors.take());
        let shown = shown(&printed, &errors);
        match ended {
            Ok(End::Stopped) => Err(ToolError::Stopped),
            Ok(End::TooLong) => Err(ToolError::TooLong { program, limit: self.time_limit, printed: shown }),
            _ if printed.len() as u64 > MOST_PRINTED => Err(ToolError::TooMuch { program, printed: shown }),
            Ok(End::Exit(status)) if !status.success() => Err(ToolError::Failed { program, status, printed: shown }),
            Ok(End::Exit(_)) if !is_whole => Err(ToolError::HeldOpen { program, printed: shown }),
            Ok(_) => Ok(printed),
            Err(source) => Err(ToolError::Wait { program, source }),
        }
    }

    fn wait(&self, child: &mut dyn ChildWrapper, printed: &Output, stop: &AtomicBool) -> io::Result<End> {
        let deadline = Instant::now() + self.time_limit;
        // A tool that is quick is not waited for.
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(End::Exit(status));
            }
            if printed.len() > MOST_PRINTED {
                return Ok(End::TooMuch);
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(End::Stopped);
            }
            if Instant::now() >= deadline {
                return Ok(End::TooLong);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LOOK);
        }
    }
}

/// How a tool's run ended.
enum End {
    Exit(ExitStatus),
    TooMuch,
    TooLong,
    Stopped,
}

/// What a tool prints, read on a thread of its own, so that a tool that prints much is not held up.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Printed>>);

#[derive(Default)]
struct Printed {
    bytes: Vec<u8>,
    has_ended: bool,
    /// Whether what comes now is wanted by nobody.
    is_taken: bool,
}

impl Output {
    /// Reads an output to its end, and keeps at most so many bytes. A tool whose output nobody reads would be stopped by it.
    fn read(output: Option<impl Read + Send + 'static>, most: u64, readers: &Arc<AtomicUsize>) -> Self {
        let read = Self::default();
        let writer = read.clone();
        let Some(output) = output else {
            writer.lock().has_ended = true;
            return read;
        };
        let running = readers.clone();
        running.fetch_add(1, Ordering::Relaxed);
        let reader = std::thread::Builder::new().name("tool".into()).spawn(move || {
            let (mut output, mut buffer) = (output, vec![0; 64 << 10]);
            // An output that fails has ended.
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                let mut kept = writer.lock();
                let most = if kept.is_taken { 0 } else { usize::try_from(most).unwrap_or(usize::MAX) };
                let rest = most.saturating_sub(kept.bytes.len());
                kept.bytes.extend_from_slice(&buffer[..count.min(rest)]);
            }
            writer.lock().has_ended = true;
            running.fetch_sub(1, Ordering::Relaxed);
        });
        if reader.is_err() {
            // The system has no thread left: the run ends as one whose output is held open.
            readers.fetch_sub(1, Ordering::Relaxed);
        }
        read
    }

    fn lock(&self) -> MutexGuard<'_, Printed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self) -> u64 {
        self.lock().bytes.len() as u64
    }

    fn has_ended(&self) -> bool {
        self.lock().has_ended
    }

    fn take(&self) -> Vec<u8> {
        let mut read = self.lock();
        read.is_taken = true;
        std::mem::take(&mut read.bytes)
    }
}

/// Returns the lines that tell most of what a tool printed, for people: its errors, lines that speak of one, or the first ones.
fn shown(printed: &[u8], errors: &[u8]) -> String {
    const LINES: usize = 3;
    const CHARACTERS: usize = 300;
    const ERRORS: [&str; 6] = ["rror", "annot", "ailed", "enied", "efused", "not found"];
    let said = if errors.trim_ascii().is_empty() { printed } else { errors };
    let lines = said.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let speaks_of_error = |line: &&[u8]| ERRORS.iter().any(|word| memmem::find(line, word.as_bytes()).is_some());
    let mut told: Vec<&[u8]> = lines.clone().filter(speaks_of_error).take(LINES).collect();
    if told.is_empty() {
        told = lines.take(LINES).collect();
    }
    let lines: Vec<String> = told.into_iter().map(|line| decode(line).into_owned()).collect();
    match lines.join(" / ").chars().take(CHARACTERS).collect::<String>() {
        said if said.is_empty() => "it printed nothing".into(),
        said => format!("it says: {said}"),
    }
}
