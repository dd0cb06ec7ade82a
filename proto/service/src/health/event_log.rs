//! The Windows Event Log.
//!
//! The log receives warnings, errors, and starts and stops of the service. `service install` registers the source with
//! the system's own `EventCreate.exe` as its message file. Messages 1 to 1000 of that file consist of the given text
//! alone, so the viewer need not load any file of Seatmeter.

use std::fmt::Write;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::EventLog::{
    DeregisterEventSource, EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, EVENTLOG_WARNING_TYPE, RegisterEventSourceW,
    ReportEventW,
};

use super::Service;
use super::code::Code;

/// An open event source. If the source cannot be opened, nothing is reported here; the health log file has every event.
pub(super) struct EventLog {
    source: Source,
    codes: &'static [Code],
}

struct Source(HANDLE);

// The system's functions for event sources may be called from any thread, and more than one at a time.
#[expect(unsafe_code, reason = "a handle of the system is a number, valid in the whole process")]
unsafe impl Send for Source {}
#[expect(unsafe_code, reason = "ReportEventW is safe to call from several threads with one handle")]
unsafe impl Sync for Source {}

impl EventLog {
    pub(super) fn open(service: &Service) -> Self {
        let name = wide(service.name);
        #[expect(unsafe_code, reason = "the name is a NUL-terminated string that outlives the call")]
        let handle = unsafe { RegisterEventSourceW(std::ptr::null(), name.as_ptr()) };
        Self { source: Source(handle), codes: service.codes }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if !self.0.is_null() {
            #[expect(unsafe_code, reason = "the handle is open, and closed nowhere else")]
            unsafe {
                DeregisterEventSource(self.0);
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for EventLog {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let is_milestone = matches!(text.code.as_str(), "started" | "stopped");
        let level = *event.metadata().level();
        if self.source.0.is_null() || (level > Level::WARN && !is_milestone) {
            return;
        }
        let number = self.codes.iter().find(|code| code.name == text.code).map_or(1000, |code| code.number);
        let kind = match level {
            Level::ERROR => EVENTLOG_ERROR_TYPE,
            Level::WARN => EVENTLOG_WARNING_TYPE,
            _ => EVENTLOG_INFORMATION_TYPE,
        };
        let line = wide(&format!("{}: {}{}", text.code, text.message, text.fields));
        let strings = [line.as_ptr()];
        #[expect(
            unsafe_code,
            reason = "the handle is open; one NUL-terminated string is said and given, and outlives the call; \
                      no user and no data are given, with lengths to match"
        )]
        unsafe {
            ReportEventW(
                self.source.0,
                kind,
                0,
                number.into(),
                std::ptr::null_mut(),
                1,
                0,
                strings.as_ptr(),
                std::ptr::null(),
            );
        }
    }
}

/// An event's fields, as text.
#[derive(Default)]
struct Text {
    code: String,
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "code" => self.code = value.into(),
            _ => self.record_debug(field, &format_args!("{value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, "\r\n{name}: {value:?}"),
        };
    }
}

/// Converts text to UTF-16 for Windows, with a NUL at the end and none within.
fn wide(text: &str) -> Vec<u16> {
    // The system refuses strings of more than 31,839 characters.
    text.encode_utf16().filter(|unit| *unit != 0).take(30_000).chain([0]).collect()
}
