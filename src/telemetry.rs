//! Logging set-up. Everything goes to stderr; stdout carries the ready lines alone.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Compact, DefaultFields, Format, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime as FullTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use crate::config::{Log, LogFormat, level};

/// Sets another level while the program runs.
type SetLevel = Box<dyn Fn(&str) + Send + Sync>;

static SET_LEVEL: OnceLock<SetLevel> = OnceLock::new();

/// Sets the level of a configuration that was read again. Its format stays as it was.
pub fn change(log: &Log) {
    if let Some(set) = SET_LEVEL.get() {
        set(&log.level);
    }
}

/// Starts logging. A second call changes nothing.
pub fn start(log: &Log) {
    let (level, handle) = reload::Layer::new(filter(&log.level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false);
    let human = Format::default().compact().with_target(false);
    let base = Registry::default().with(level);
    let result = match log.format {
        LogFormat::Json => base.with(lines.json().with_timer(FullTime)).try_init(),
        LogFormat::Auto if io::stderr().is_terminal() => {
            let ansi = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let format = human.with_timer(Clock).with_ansi(ansi);
            let format = Lines {
                format,
                journal: false,
            };
            base.with(lines.with_ansi(ansi).event_format(format))
                .try_init()
        }
        LogFormat::Auto => {
            // The journal and most supervisors stamp the lines themselves.
            let journal = in_journal();
            let format = human.without_time().with_level(!journal).with_ansi(false);
            let format = Lines { format, journal };
            base.with(lines.with_ansi(false).event_format(format))
                .try_init()
        }
    };
    // Only a second start fails, which tests do.
    if result.is_ok() {
        let set: SetLevel = Box::new(move |level| {
            // Fails only once nobody logs any more.
            let _ = handle.reload(filter(level));
        });
        let _ = SET_LEVEL.set(set);
    }
}

/// A bare level is meant for xbosh: its libraries then say only what is wrong.
fn filter(text: &str) -> Targets {
    let text = text.trim().to_lowercase();
    let bare = match text.as_str() {
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        _ => None,
    };
    let ours = |level| {
        let libraries = Targets::new().with_default(LevelFilter::WARN);
        libraries.with_target("xbosh", level)
    };
    match bare {
        Some(level) => ours(level),
        // The configuration has checked it.
        None => level::filter(&text).unwrap_or_else(|_| ours(LevelFilter::INFO)),
    }
}

/// Whether stderr itself is systemd's journal: `JOURNAL_STREAM` is inherited by what is started elsewhere, too.
fn in_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|meta| stream == *format!("{}:{}", meta.dev(), meta.ino()))
}

/// One event, one line; for the journal its priority in front, as sd-daemon(3) has it.
struct Lines<T> {
    format: Format<Compact, T>,
    journal: bool,
}

impl<S, T> FormatEvent<S, DefaultFields> for Lines<T>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    T: FormatTime,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.format
            .format_event(context, Writer::new(&mut line), event)?;
        if self.journal {
            writer.write_str(match *event.metadata().level() {
                Level::ERROR => "<3>",
                Level::WARN => "<4>",
                Level::INFO => "<6>",
                Level::DEBUG | Level::TRACE => "<7>",
            })?;
        }
        // What a proxy or server said may hold line breaks; a second line would pass for one of ours.
        for piece in line.trim().split_inclusive(['\n', '\r']) {
            match piece.strip_suffix('\n') {
                Some(text) => write!(writer, "{text}\\n")?,
                None => match piece.strip_suffix('\r') {
                    Some(text) => write!(writer, "{text}\\r")?,
                    None => writer.write_str(piece)?,
                },
            }
        }
        writer.write_char('\n')
    }
}

/// The time of day in UTC, for a person who looks on.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = since.as_secs() % 86_400;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        write!(writer, "{hours:02}:{minutes:02}:{:02}Z", seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_for_us() {
        assert_eq!(filter("debug").to_string(), "xbosh=debug,warn");
        assert_eq!(filter("INFO").to_string(), "xbosh=info,warn");
        assert_eq!(filter("error").to_string(), "error");
        assert_eq!(filter("warn,hyper=trace").to_string(), "hyper=trace,warn");
    }
}
