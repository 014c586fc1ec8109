//! What goes out beside the spans, if it is wished: the process's metrics as OTLP metrics, and its events as OTLP logs. The registry and the
//! events are offered when a role has made them.

use super::ship::Letter;
use hesper_observe::{
    events::{Begin, Events, otlp::log_record},
    metrics::Registry,
};
use hesper_otlp::Signal;
use hesper_prometheus::own::OwnMetrics;
use hesper_telemetry::export::Exporter;
use hesper_trace::settings::Settings;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::{ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message as _;
use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// A destination that does not take events is told of again after so many.
const TRIES: u32 = 5;
/// The pause between them.
const PAUSE: Duration = Duration::from_secs(2);

static REGISTRY: LazyLock<watch::Sender<Option<Registry>>> = LazyLock::new(watch::Sender::default);
static EVENTS: LazyLock<watch::Sender<Option<Events>>> = LazyLock::new(watch::Sender::default);

/// The metrics of this process.
pub(crate) fn offer_metrics(registry: &Registry) {
    REGISTRY.send_replace(Some(registry.clone()));
}

/// The events of this process.
pub(crate) fn offer_events(events: &Events) {
    EVENTS.send_replace(Some(events.clone()));
}

/// Whose they are.
pub(super) type Attributes = Vec<(String, String)>;

/// The resource of a process of this name.
pub(super) fn resource(name: &str, settings: &Settings) -> Attributes {
    let own = [("service.name", name), ("service.version", env!("CARGO_PKG_VERSION"))];
    let mut all: Attributes = own.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    all.retain(|(key, _)| !settings.resource.iter().any(|(other, _)| other == key));
    all.extend(settings.resource.iter().cloned());
    all
}

async fn offered<T: Clone>(from: &watch::Sender<Option<T>>) -> T {
    let mut from = from.subscribe();
    loop {
        if let Some(offered) = &*from.borrow_and_update() {
            return offered.clone();
        }
        // The sender is static.
        let _ = from.changed().await;
    }
}

/// Sends the metrics every so often. What is not taken is not sent again: the next ones say it all.
pub(super) async fn metrics(exporter: Arc<dyn Exporter>, resource: Attributes, every: Duration) {
    let registry = offered(&REGISTRY).await;
    let mut own = match OwnMetrics::new(resource) {
        Ok(own) => own,
        Err(reason) => return tracing::warn!(reason, "no metrics are exported"),
    };
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tick.tick().await;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let sent = match own.request(&registry.encode(), at_ms) {
            Ok(request) => {
                let letter = Letter::new(Signal::Metrics, request.encode_to_vec(), 1);
                letter.send(&*exporter).await.map_err(|failure| failure.to_string())
            }
            Err(reason) => Err(reason),
        };
        match sent {
            Ok(()) => failing = false,
            Err(reason) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!(reason, "the metrics were not exported; trying on");
            }
            Err(_) => {}
        }
    }
}

/// Sends the events as they happen. What happens while the destination does not take them waits in the ring, which counts what it forgets.
pub(super) async fn events(exporter: Arc<dyn Exporter>, resource: Attributes) {
    let events = offered(&EVENTS).await;
    let resource =
        Resource { attributes: resource.into_iter().map(attribute).collect(), ..Resource::default() };
    let mut follower = events.subscribe(Begin::Oldest);
    loop {
        let batch = follower.next().await;
        if batch.missed > 0 {
            tracing::warn!(events = batch.missed, "the exporter is slow: events were not exported");
        }
        let now = OffsetDateTime::now_utc();
        let log_records: Vec<_> =
            batch.events.iter().map(|recorded| log_record(&recorded.event, now)).collect();
        if log_records.is_empty() {
            continue;
        }
        let items = log_records.len() as u64;
        let scope =
            Some(InstrumentationScope { name: "hesper".to_owned(), ..InstrumentationScope::default() });
        let scope_logs = vec![ScopeLogs { scope, log_records, ..ScopeLogs::default() }];
        let resource_logs =
            vec![ResourceLogs { resource: Some(resource.clone()), scope_logs, ..ResourceLogs::default() }];
        let request = ExportLogsServiceRequest { resource_logs };
        let letter = Letter::new(Signal::Logs, request.encode_to_vec(), items);
        if let Err(reason) = letter.send_again(&*exporter, TRIES, PAUSE).await {
            tracing::warn!(events = items, reason, "events were not exported");
        }
    }
}

fn attribute((key, value): (String, String)) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value)) });
    KeyValue { key, value, ..KeyValue::default() }
}
