//! The two workers, each on a thread of its own: the archiver makes durable what agents send, the projector makes facts of it.

use std::sync::Arc;
use std::thread::JoinHandle;

use seatmeter_count::Calendar;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::ingest::archiver::{Archiver, Command};
use crate::ingest::news::News;
use crate::ingest::projector::{Projector, Steps};
use crate::serve::ServeError;
use crate::store::{Store, StoreError};

/// The names of the workers' threads.
pub const WORKERS: [&str; 2] = ["archiver", "projector"];

/// The most commands that wait for the archiver: enough to keep it busy, few enough to take little memory.
const MAX_COMMANDS: usize = 32;

/// The running workers.
pub struct Workers {
    commands: mpsc::Sender<Command>,
    incarnation: String,
    progress: watch::Receiver<Option<Steps>>,
    news: Arc<News>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts both workers. The projector begins by bringing the facts up to date.
    pub fn start(store: &Store, calendar: Calendar) -> Result<Self, ServeError> {
        let (commands, received) = mpsc::channel(MAX_COMMANDS);
        let news = Arc::new(News::default());
        let archiver = Archiver::open(store.clone(), news.clone())?;
        let incarnation = archiver.incarnation().to_owned();
        let (told, progress) = watch::channel(Some(Steps::default()));
        let tell = Box::new(move |steps| {
            told.send_replace(steps);
        });
        let projector = Projector::open(store.clone(), calendar, incarnation.clone(), news.clone(), tell)?;
        let timers = Handle::current();
        let threads = vec![
            spawn(WORKERS[0], move || archiver.run(&timers, received))?,
            spawn(WORKERS[1], move || projector.run())?,
        ];
        Ok(Self { commands, incarnation, progress, news, threads })
    }

    /// Returns where commands to the archiver go.
    pub fn commands(&self) -> mpsc::Sender<Command> {
        self.commands.clone()
    }

    /// Returns the incarnation of the archive.
    pub fn incarnation(&self) -> String {
        self.incarnation.clone()
    }

    /// Returns how far the facts are brought up to date after the start.
    pub fn progress(&self) -> watch::Receiver<Option<Steps>> {
        self.progress.clone()
    }

    /// Tells the workers to stop, and waits until they have: the archiver first, so that the projector writes the last facts.
    pub async fn stop(self) {
        // The send fails if the archiver has already ended.
        let _ = self.commands.send(Command::Stop).await;
        let (news, threads) = (self.news, self.threads);
        let _ = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
                news.stop();
            }
        })
        .await;
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ServeError> {
    std::thread::Builder::new().name(name.into()).spawn(work).map_err(ServeError::Worker)
}

/// Makes all facts again, without serving. Calls `progress` whenever a log is done, or some batches are.
pub fn rebuild(store: &Store, calendar: Calendar, progress: impl Fn(Steps) + Send + 'static) -> Result<(), StoreError> {
    let news = Arc::new(News::default());
    let incarnation = Archiver::open(store.clone(), news.clone())?.incarnation().to_owned();
    let tell = Box::new(move |steps: Option<Steps>| steps.into_iter().for_each(&progress));
    Projector::open(store.clone(), calendar, incarnation, news, tell)?.bring_up_to_date()
}
