//! The log of a service: for people on a terminal, one JSON object a line otherwise (journald, containers).
//!
//! Whoever logs never waits for whoever reads: a terminal that is held, or a pipe that nobody empties, must not stop
//! the task that renews the duty lease.
//!
//! ```text
//!   any task ── line ──► bounded queue ──► one thread ──► standard error
//! ```

use std::io::IsTerminal as _;

use thiserror::Error;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::settings::{LogFormat, LogSettings};

/// Why there is no log.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// `log.level` cannot be understood; the check of the settings says so before.
    #[error("the log level `{0}` cannot be understood")]
    Level(String),
    /// The process already has one.
    #[error("the process already has a log")]
    Twice,
}

/// Lines that wait for a reader who is slow: minutes of a node's log. When full, further lines are dropped and
/// counted; what matters is in the journal too.
const LINES: usize = 4096;

/// The log of the process. Dropping it writes what still waits, for at most about a second.
#[must_use = "the log ends when this is dropped"]
#[derive(Debug)]
pub struct Log {
    lost: ErrorCounter,
    _writer: WorkerGuard,
}

impl Drop for Log {
    fn drop(&mut self) {
        let lines = self.lost.dropped_lines();
        if lines > 0 {
            tracing::warn!(lines, "the log lost lines because nobody read it; the journal has every event");
        }
    }
}

/// Starts the log of the process, on standard error: standard output belongs to the answers of commands.
///
/// # Errors
///
/// When the level cannot be understood, or the process already has a log.
pub fn start(settings: &LogSettings) -> Result<Log, TelemetryError> {
    let terminal = std::io::stderr().is_terminal();
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES)
        .thread_name("onduty-log")
        .finish(std::io::stderr());
    let lost = writer.error_counter();
    let subscriber = subscriber(settings, terminal, writer)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Twice)?;
    Ok(Log { lost, _writer: guard })
}

/// The subscriber that [`start`] installs, with another place to write to.
///
/// # Errors
///
/// When the level cannot be understood.
pub fn subscriber<W>(
    settings: &LogSettings,
    terminal: bool,
    writer: W,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter =
        EnvFilter::try_new(&settings.level).map_err(|_| TelemetryError::Level(settings.level.clone()))?;
    let human = match settings.format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    if human {
        // Colour is for terminals; `NO_COLOR` is honoured by the subscriber.
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        return Ok(Box::new(builder.with_ansi(colour).with_target(false).finish()));
    }
    Ok(Box::new(builder.json().flatten_event(true).finish()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, terminal: bool, level: &str) -> String {
        let page = Page::default();
        let for_log = page.clone();
        let settings = LogSettings { level: level.to_owned(), format };
        let subscriber = subscriber(&settings, terminal, move || for_log.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(epoch = 7, "the duty moved");
            tracing::debug!("details");
        });
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_where_nobody_looks_and_text_on_a_terminal() {
        let line: serde_json::Value = serde_json::from_str(&written(LogFormat::Auto, false, "info")).unwrap();
        assert_eq!((line["message"].as_str(), line["epoch"].as_u64()), (Some("the duty moved"), Some(7)));
        assert_eq!(line["level"], "INFO");
        for text in [written(LogFormat::Auto, true, "info"), written(LogFormat::Human, false, "info")] {
            assert!(text.contains("the duty moved") && !text.starts_with('{'), "{text}");
            assert_eq!(text.lines().count(), 1);
        }
        assert!(written(LogFormat::Json, true, "info").starts_with('{'));
    }

    #[test]
    fn the_level_decides_what_is_written() {
        assert!(written(LogFormat::Human, false, "debug").contains("details"));
        assert!(written(LogFormat::Human, false, "error").is_empty());
        let wrong = LogSettings { level: "a=b=c".to_owned(), format: LogFormat::Auto };
        let Err(error) = subscriber(&wrong, false, std::io::sink) else { panic!("accepted") };
        assert_eq!(error.to_string(), "the log level `a=b=c` cannot be understood");
    }
}
