//! The log of the service: a line for each event, with its time, as text or as JSON; to stderr.
//!
//! Whatever is said inside of a span carries the fields of the span: of a request its `trace_id`. Programs, their input
//! and their output are never said. What cannot be written, for its disk is full or nobody reads it, is not said at all: the
//! service goes on.

use std::{fmt, sync::Arc};

use anyhow::Context as _;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{JsonFields, Writer},
    },
    registry::LookupSpan,
    reload,
};

use crate::{config::LogFormat, output};

/// What chooses what is said, to be changed while the service runs.
#[derive(Clone)]
pub(crate) struct LogLevel(Arc<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl LogLevel {
    /// From now on these directives hold.
    pub(crate) fn change(&self, directives: &str) -> anyhow::Result<()> {
        (self.0)(filter(directives)?).context("cannot change the level of the log")
    }
}

/// Begins to log. `directives` are those of [`EnvFilter`], such as `info` and `info,engine=debug`.
pub(crate) fn start(directives: &str, format: LogFormat) -> anyhow::Result<LogLevel> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(directives)?)
        .with_writer(std::io::stderr)
        // It would say so where it cannot, and panic over that.
        .log_internal_errors(false)
        .with_ansi(output::colours());
    let (begun, level) = match format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), LogLevel(Arc::new(move |filter| handle.reload(filter))))
        }
        LogFormat::Json => {
            let builder =
                builder.fmt_fields(JsonFields::new()).event_format(JsonLines).with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), LogLevel(Arc::new(move |filter| handle.reload(filter))))
        }
    };
    begun.map_err(|error| anyhow::anyhow!(error)).context("cannot begin to log")?;
    Ok(level)
}

fn filter(directives: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(directives).with_context(|| format!("{directives:?} is no level of the log"))
}

/// Writes each event as one object in one line, the fields of its spans beside its own: so `trace_id` is where programs
/// look for it, however deep the span is.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Map::new();
        for span in context.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<N>>().filter(|formatted| !formatted.is_empty());
            let parsed = formatted.and_then(|formatted| serde_json::from_str::<Map<_, _>>(formatted).ok());
            fields.extend(parsed.into_iter().flatten());
        }
        event.record(&mut Collect(&mut fields));
        let (metadata, now) = (event.metadata(), jiff::Timestamp::now());
        let head = [
            ("timestamp", format!("{now:.6}")),
            ("level", metadata.level().to_string()),
            ("target", metadata.target().to_owned()),
        ];
        let mut separator = '{';
        for (key, value) in head {
            fields.remove(key);
            write!(writer, "{separator}\"{key}\":{}", Value::from(value))?;
            separator = ',';
        }
        for (key, value) in fields {
            write!(writer, ",{}:{value}", Value::from(key))?;
        }
        writer.write_str("}\n")
    }
}

/// Collects the fields of an event.
struct Collect<'a>(&'a mut Map<String, Value>);

impl Collect<'_> {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Collect<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_line_carries_the_fields_of_its_spans_and_is_one_object() {
        let written = Written::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter("warn").unwrap())
            .with_writer(written.clone())
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::error_span!("request", trace_id = "mine-1", language = tracing::field::Empty);
            span.record("language", "python");
            span.in_scope(|| {
                tracing::info!("not asked for");
                tracing::error_span!("inner", vm = 7).in_scope(|| {
                    tracing::warn!(micros = 12_u64, error = "a \"quoted\"\nline", kind = ?Some(1), "it failed");
                });
            });
            tracing::warn!("outside");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        for (key, value) in [
            ("trace_id", Value::from("mine-1")),
            ("language", "python".into()),
            ("vm", 7.into()),
            ("micros", 12.into()),
            ("error", "a \"quoted\"\nline".into()),
            ("kind", "Some(1)".into()),
            ("message", "it failed".into()),
            ("level", "WARN".into()),
        ] {
            assert_eq!(lines[0][key], value, "{key}");
        }
        let time = lines[0]["timestamp"].as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        assert_eq!(lines[1].get("trace_id"), None);
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(filter("info,engine=debug").is_ok());
        assert!(filter("engine=loud").unwrap_err().to_string().contains("engine=loud"));
    }
}
