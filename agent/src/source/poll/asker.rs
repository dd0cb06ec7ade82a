//! The ways of asking a license manager.

use std::sync::atomic::AtomicBool;

use reqwest::Url;
use reqwest::header::HeaderMap;

use super::license_files::{LicenseFiles, LicenseFilesError};
use super::monitor::{Known, MonitorError, Site};
use super::tool::{Tool, ToolError};
use super::web::{Login, Web, WebError, shown};
use crate::format::answer::{Answer, AnswerFormat, NoAnswer, Reading, in_utf8};

/// A way of asking.
#[derive(Clone, Debug)]
pub enum Asker {
    /// A tool prints the answer.
    Tool(Tool, Reading),
    /// A server has the answer at an address.
    Page(Box<Page>, Reading),
    /// The Citrix Monitor service of a site.
    Monitor(Box<Site>),
    /// License files, which tell what there is and nothing of who uses it.
    Files(LicenseFiles),
}

/// An answer that a server has at an address.
#[derive(Clone, Debug)]
pub struct Page {
    /// The address.
    pub url: Url,
    /// How it is reached.
    pub web: Web,
    /// As whom.
    pub login: Login,
}

/// What was answered, before it is read.
pub enum Told {
    /// Text.
    Text {
        /// In UTF-8, unless it is in an encoding of bytes.
        text: Vec<u8>,
        /// Who told it, for people.
        by: String,
        /// How it is read.
        reading: Reading,
    },
    /// An answer that was read page by page.
    Pages(Answer<'static>),
}

/// Why a license manager was asked in vain.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The tool that asks failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The server gave no answer.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The site gave no answer.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// The license files cannot be read.
    #[error(transparent)]
    Files(#[from] LicenseFilesError),
    /// The answer does not tell who holds what.
    #[error("{by}: {reason}")]
    NoAnswer {
        /// The program, or the address.
        by: String,
        /// Why.
        reason: NoAnswer,
    },
}

impl Asker {
    /// Asks. Ends early, with an error, when `stop` becomes true.
    pub fn ask(&self, known: Known, stop: &AtomicBool) -> Result<Told, AskError> {
        Ok(match self {
            Self::Tool(tool, reading) => {
                Told::Text { text: in_utf8(tool.run(stop)?), by: self.name(), reading: reading.clone() }
            }
            Self::Page(page, reading) => {
                let visit = page.web.visit(stop)?;
                let text = in_utf8(visit.get(&page.url, &HeaderMap::new(), &page.login)?.body);
                Told::Text { text, by: self.name(), reading: reading.clone() }
            }
            Self::Monitor(site) => Told::Pages(site.ask(known, stop)?),
            Self::Files(files) => {
                let reading = Reading::Known(AnswerFormat::LicenseFile);
                Told::Text { text: files.read()?, by: self.name(), reading }
            }
        })
    }

    /// Whether it can tell again what it has told.
    pub fn keeps_history(&self) -> bool {
        matches!(self, Self::Monitor(_))
    }

    /// Returns who is asked, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Tool(tool, _) => tool.program.clone(),
            Self::Page(page, _) => shown(&page.url),
            Self::Monitor(site) => shown(&site.url),
            Self::Files(files) => files.name(),
        }
    }
}

impl Told {
    /// Returns the name of the format; `None` if the configuration declares it.
    pub fn format(&self) -> Option<&'static str> {
        match self {
            Self::Text { text, reading: Reading::ByContent, .. } => AnswerFormat::of(text).map(AnswerFormat::name),
            Self::Text { reading: Reading::Known(format), .. } => Some(format.name()),
            Self::Text { reading: Reading::Mapped(_), .. } => None,
            Self::Pages(_) => Some("citrix-monitor"),
        }
    }

    /// Reads it.
    pub fn read(&self) -> Result<Answer<'_>, AskError> {
        match self {
            Self::Text { text, by, reading } => {
                reading.read(text).map_err(|reason| AskError::NoAnswer { by: by.clone(), reason })
            }
            Self::Pages(answer) => Ok(answer.clone()),
        }
    }
}
