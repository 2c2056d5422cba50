//! Traces for a collector that takes OpenTelemetry's protocol over HTTP: one span for each request, one for each of its
//! parts.
//!
//! Spans are made when a request has ended, with the times that were noted on its way; nothing is held meanwhile. They
//! wait in a bounded queue, from which a thread sends them: a collector that is slow or away costs spans, never requests.

use std::{
    cell::Cell,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use opentelemetry::{
    Context, KeyValue,
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags,
        TraceId, TraceState, TracerProvider as _,
    },
};
use opentelemetry_otlp::{Protocol, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, Sampler, SdkTracer,
        SdkTracerProvider, SpanData, SpanExporter,
    },
};
use server::{ParentSpan, RequestTrace, Traces};

/// Where collectors take traces, beneath their endpoint.
const PATH: &str = "/v1/traces";

/// The most spans that wait to be sent; later ones are lost. They take some 8 MiB.
const MAX_WAITING: usize = 8192;

/// How often spans are sent.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long the collector may take for an answer.
const EXPORT_PATIENCE: Duration = Duration::from_secs(5);

/// How long the last spans may take when the service ends.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// How long is not warned again of a collector that takes nothing.
const WARNING_PAUSE: Duration = Duration::from_secs(60);

/// What sends traces.
pub(crate) struct Telemetry {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Telemetry {
    /// Sends to the collector at `endpoint`, as in `http://127.0.0.1:4318`, in the name of `service_name`. Whether it is
    /// there shows when something is sent.
    pub(crate) fn start(endpoint: &str, service_name: &str) -> anyhow::Result<Arc<Self>> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(traces_url(endpoint))
            .with_timeout(EXPORT_PATIENCE)
            .build()
            .with_context(|| format!("cannot export traces to {endpoint}"))?;
        let exporter = Reported { exporter, warned: Mutex::new(None) };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_WAITING)
            .with_scheduled_delay(INTERVAL)
            .build();
        // Not the resource and sampler that variables of OpenTelemetry's own name.
        let resource = Resource::builder_empty()
            .with_service_name(service_name.to_owned())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            .with_id_generator(Ids(RandomIdGenerator::default()))
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("infra.operator");
        Ok(Arc::new(Self { provider, tracer }))
    }

    /// Sends what still waits, for some seconds at most.
    pub(crate) async fn end(&self) {
        let provider = self.provider.clone();
        // It waits for a thread.
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(END_PATIENCE)).await;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last traces were not sent"),
            Err(error) => tracing::warn!(%error, "the last traces were not sent"),
        }
    }

    /// Adds a part of a request.
    fn part(&self, name: &'static str, request: &Context, begun: SystemTime, took: Duration) {
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Internal).with_start_time(begun);
        builder.start_with_context(&self.tracer, request).end_with_timestamp(begun + took);
    }
}

impl Traces for Telemetry {
    fn request(&self, request: &RequestTrace<'_>) {
        let builder = SpanBuilder::from_name("run")
            .with_kind(SpanKind::Server)
            .with_start_time(request.began)
            .with_attributes(attributes(request));
        NEXT_TRACE.set(TraceId::from_hex(request.trace_id).ok().filter(|id| *id != TraceId::INVALID));
        let mut span = builder.start_with_context(&self.tracer, &parent(request.parent));
        NEXT_TRACE.set(None);
        if let (Some(queued), Some(phases)) = (request.queued, request.phases) {
            let within = Context::new().with_remote_span_context(span.span_context().clone());
            self.part("queue", &within, queued, phases.queue);
            self.part("execute", &within, queued + phases.queue, phases.run);
        }
        if request.failed {
            span.set_status(Status::error(request.outcome.to_owned()));
        }
        span.end_with_timestamp(request.ended);
    }
}

fn traces_url(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.ends_with(PATH) { endpoint.to_owned() } else { format!("{endpoint}{PATH}") }
}

/// What a request's span belongs to.
fn parent(parent: Option<ParentSpan>) -> Context {
    let Some(ParentSpan { trace_id, span_id, sampled }) = parent else { return Context::new() };
    let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace_id, span_id) = (TraceId::from(trace_id), SpanId::from(span_id));
    let span = SpanContext::new(trace_id, span_id, flags, true, TraceState::default());
    Context::new().with_remote_span_context(span)
}

fn attributes(request: &RequestTrace<'_>) -> Vec<KeyValue> {
    let mut attributes = vec![
        // Clients may bring ids that OpenTelemetry has no room for.
        KeyValue::new("trace_id", request.trace_id.to_owned()),
        KeyValue::new("outcome", request.outcome.to_owned()),
    ];
    attributes.extend(request.language.map(|language| KeyValue::new("language", language.to_string())));
    attributes.extend(request.restored.map(|restored| KeyValue::new("restored", restored)));
    if let Some(phases) = request.phases {
        let restore = phases.load + phases.resume.unwrap_or_default();
        for (name, took) in [
            ("queue_ms", phases.queue),
            ("start_ms", phases.process),
            ("restore_ms", restore),
            ("connect_ms", phases.connect),
            ("handshake_ms", phases.handshake),
            ("run_ms", phases.run),
        ] {
            attributes.push(KeyValue::new(name, took.as_secs_f64() * 1e3));
        }
    }
    attributes
}

thread_local! {
    /// The id of the trace that begins on this thread.
    static NEXT_TRACE: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Has traces begin under the id that everything else speaks of.
#[derive(Debug)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT_TRACE.take().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

/// Warns of batches that were lost, once in a while.
#[derive(Debug)]
struct Reported<E> {
    exporter: E,
    /// When, and how many spans were lost since.
    warned: Mutex<Option<(Instant, usize)>>,
}

impl<E> Reported<E> {
    /// How many spans to speak of, where it is time to.
    fn lost(&self, spans: usize) -> Option<usize> {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *warned {
            Some((when, unsaid)) if when.elapsed() < WARNING_PAUSE => {
                *unsaid += spans;
                None
            }
            warned => {
                let unsaid = warned.map_or(0, |(_, unsaid)| unsaid);
                *warned = Some((Instant::now(), 0));
                Some(unsaid + spans)
            }
        }
    }
}

impl<E: SpanExporter> SpanExporter for Reported<E> {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let spans = batch.len();
        let export = self.exporter.export(batch);
        async move {
            let exported = export.await;
            if let Err(error) = &exported
                && let Some(lost) = self.lost(spans)
            {
                tracing::warn!(%error, lost, "the collector takes no traces");
            }
            exported
        }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests;
