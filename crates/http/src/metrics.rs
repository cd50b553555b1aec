//! `GET /metrics`: what the hub counts, for Prometheus. Never labelled by topic or user.

mod access;
mod process;

use std::fmt;
use std::sync::atomic::AtomicI64;

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use tidings::{Figures, HistogramFigures, PresenceFigures, StoreFigures};

use crate::Tls;
use crate::app::App;
use crate::authorize::FiguresReader;
use crate::health;

pub(crate) async fn metrics(State(app): State<App>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    if let Err(problem) = FiguresReader::of(&app, &head).await {
        return problem.into_response();
    }
    let mut registry = Registry::default();
    let tickets = Gauge::<i64, AtomicI64>::default();
    tickets.set(app.tickets().count() as i64);
    registry.register("tidings_tickets", "Tickets that are out", tickets);
    registry.register_collector(Box::new(HubCollector(app)));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes everything");
    let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (content_type, text) = if accept.contains("application/openmetrics-text") {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", text)
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", to_text_format(&text))
    };
    ([(CONTENT_TYPE, HeaderValue::from_static(content_type))], text).into_response()
}

/// Says OpenMetrics in the older text format: there a counter is described under the name that its
/// samples have, and units and the end are not marked.
fn to_text_format(open_metrics: &str) -> String {
    let lines: Vec<&str> = open_metrics.lines().collect();
    let is_counter = |name: &str| lines.contains(&&*format!("# TYPE {name} counter"));
    let mut text = String::with_capacity(open_metrics.len());
    for line in &lines {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT" | "EOF"), ..) => continue,
            (Some("#"), Some(kind), Some(name), Some(rest)) if is_counter(name) => {
                text.push_str(&format!("# {kind} {name}_total {rest}"));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

struct HubCollector(App);

impl fmt::Debug for HubCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HubCollector").field(self.0.hub()).finish()
    }
}

impl Collector for HubCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(app) = self;
        let figures = app.hub().figures();
        encode_refusals(&mut encoder, app)?;
        encode_lines(&mut encoder, app)?;
        encode_reloads(&mut encoder, app)?;
        access::encode(&mut encoder, app)?;
        process::encode(&mut encoder)?;
        encode_totals(&mut encoder, &figures)?;
        encode_families(&mut encoder, &figures)?;
        if let Some(figures) = app.hub().presence_figures() {
            encode_presence(&mut encoder, &figures)?;
        }
        let bounds = app.hub().bounds();
        for (name, help, value) in [
            ("tidings_log_events", "Offsets the log spans", bounds.next - bounds.oldest),
            ("tidings_log_oldest_offset", "Offset of the oldest kept event", bounds.oldest),
            ("tidings_log_next_offset", "Offset of the next event", bounds.next),
            (
                "tidings_ready",
                "1 if the hub should be sent new clients, else 0, see /health/ready",
                u64::from(health::why_unready(app).is_none()),
            ),
            (
                "tidings_connections_max",
                "Subscriptions that may be open at once",
                app.hub().connections_max() as u64,
            ),
            (
                "tidings_log_writable",
                "1 if the log can be written, else 0",
                u64::from(app.hub().failure().is_none()),
            ),
            (
                "tidings_replay_bytes",
                "Bytes of events held that were read back from the log",
                figures.replay_held_bytes,
            ),
        ] {
            gauge(&mut encoder, name, help, value as i64)?;
        }
        if let Some(store) = &figures.store {
            encode_store(&mut encoder, &figures, store)?;
        }
        histogram(
            &mut encoder,
            "tidings_delivery_latency",
            "From publish to the transport, for live events",
            &figures.delivery_latency,
        )?;
        histogram(
            &mut encoder,
            "tidings_connection_duration",
            "How long subscriptions lasted",
            &figures.connection_duration,
        )
    }
}

/// What is known of the store of a log that several nodes share.
fn encode_store(
    encoder: &mut DescriptorEncoder<'_>,
    figures: &Figures,
    store: &StoreFigures,
) -> fmt::Result {
    let reached = "1 if the store of the shared log answered the last time, else 0";
    gauge(encoder, "tidings_log_reached", reached, i64::from(store.is_reached))?;
    let behind = "Events that the store is known to hold and that are not delivered here yet";
    gauge(encoder, "tidings_log_behind_events", behind, store.behind as i64)?;
    if let Some(silent_for) = store.silent_for {
        let metric = ConstGauge::new(silent_for.as_secs_f64());
        let (name, unit) = ("tidings_log_silent", Some(&Unit::Seconds));
        let help = "How long ago the store answered last";
        metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)?;
    }
    for (name, help, total) in [
        ("tidings_log_followed_events", "Events taken from the shared log", figures.followed),
        ("tidings_log_store_failures", "Calls that the store did not answer", store.failures),
        ("tidings_log_lives", "Times that the shared log began another life", figures.lives),
    ] {
        counter(encoder, name, help, total)?;
    }
    Ok(())
}

/// What is known of connections rather than of subscriptions.
fn encode_lines(encoder: &mut DescriptorEncoder<'_>, app: &App) -> fmt::Result {
    let figures = app.line_figures();
    let help = "Connections without a request under way";
    gauge(encoder, "tidings_waiting_connections", help, figures.waiting() as i64)?;
    for (name, help, total) in figures.totals() {
        counter(encoder, name, help, total)?;
    }
    let Some(expires_at) = app.options().tls.as_ref().and_then(Tls::expires_at) else {
        return Ok(());
    };
    let metric = ConstGauge::new(expires_at as i64);
    let name = "tidings_certificate_expiry_timestamp";
    let help = "When the certificate in use expires, since 1970";
    let unit = Some(&Unit::Seconds);
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

fn encode_reloads(encoder: &mut DescriptorEncoder<'_>, app: &App) -> fmt::Result {
    let reloads = &app.options().reloads;
    let help = "Times the configuration was read again, by what came of it";
    family(encoder, "tidings_config_reloads", help, "outcome", reloads.all())?;
    let help = "1 if the configuration that was read last is in effect, else 0";
    gauge(encoder, "tidings_config_current", help, reloads.is_current().into())
}

fn encode_refusals(encoder: &mut DescriptorEncoder<'_>, app: &App) -> fmt::Result {
    let turned_away = app.turned_away();
    counter(encoder, "tidings_turned_away", "Subscriptions refused for a limit", turned_away)?;
    let refused = app.client_limits().refused().map(|(limit, total)| (limit.as_str(), total));
    let all = [("connections", app.hub().figures().turned_away)].into_iter().chain(refused);
    family(
        encoder,
        "tidings_refused",
        "Subscriptions and publishes refused, by limit",
        "reason",
        all,
    )?;
    let problems = app.problem_counts().all();
    family(encoder, "tidings_problems", "Requests answered with a problem", "type", problems)
}

fn encode_totals(encoder: &mut DescriptorEncoder<'_>, figures: &Figures) -> fmt::Result {
    gauge(
        encoder,
        "tidings_active_connections",
        "Subscriptions open now",
        figures.subscribers as i64,
    )?;
    for (name, help, total) in [
        ("tidings_connections", "Subscriptions opened", figures.subscribed),
        ("tidings_reconnects", "Subscriptions opened with an id to resume after", figures.resumed),
        ("tidings_events_published", "Events published", figures.published),
        ("tidings_published_bytes", "Bytes of data published", figures.published_bytes),
        ("tidings_publish_failures", "Events the log did not take", figures.publish_failed),
        ("tidings_events_repeated", "Events not published again for their key", figures.repeated),
        ("tidings_events_refused", "Events refused because a topic is finished", figures.refused),
        ("tidings_events_delivered", "Events delivered, replayed ones included", figures.delivered),
        ("tidings_delivered_bytes", "Bytes delivered", figures.delivered_bytes),
        ("tidings_events_replayed", "Events delivered from what is kept", figures.replayed),
        ("tidings_lagged", "Subscribers that fell behind what is kept", figures.lagged),
        ("tidings_conflated", "Events left out for readers who conflate", figures.conflated),
    ] {
        counter(encoder, name, help, total)?;
    }
    Ok(())
}

fn encode_families(encoder: &mut DescriptorEncoder<'_>, figures: &Figures) -> fmt::Result {
    let ended = figures.ended.iter().map(|(reason, total)| (reason.as_str(), *total));
    family(
        encoder,
        "tidings_connections_closed",
        "Subscriptions ended, by reason",
        "reason",
        ended,
    )?;
    let gaps = figures.gaps.iter().map(|(reason, total)| (reason.as_str(), *total));
    family(encoder, "tidings_gaps", "Gaps announced, by reason", "reason", gaps)
}

/// There only where it is known of some topics who is there.
fn encode_presence(encoder: &mut DescriptorEncoder<'_>, figures: &PresenceFigures) -> fmt::Result {
    for (name, help, value) in [
        (
            "tidings_presence_members",
            "Members on this node, counted on each topic",
            figures.members,
        ),
        ("tidings_presence_nodes", "Other nodes known to live", figures.nodes),
        (
            "tidings_presence_leader",
            "1 if this node tells who joined and left, else 0",
            u64::from(figures.leads),
        ),
    ] {
        gauge(encoder, name, help, value as i64)?;
    }
    let help = "Streams of users who are not named for a limit";
    counter(encoder, "tidings_presence_unnamed", help, figures.unnamed)?;
    let help = "Notes of who is present not exchanged, and changes not told at once";
    counter(encoder, "tidings_presence_failures", help, figures.failures)?;
    let told = ["joined", "left"].into_iter().zip(figures.told);
    let help = "Changes of who is present that this node told";
    family(encoder, "tidings_presence_changes", help, "change", told)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, total: u64) -> fmt::Result {
    let metric = ConstCounter::new(total);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn family<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    totals: impl IntoIterator<Item = (&'a str, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, total) in totals {
        let labels = [(label, value)];
        ConstCounter::new(total).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    figures: &HistogramFigures,
) -> fmt::Result {
    let mut buckets = figures.buckets.clone();
    buckets.push((f64::INFINITY, figures.over));
    let count = buckets.iter().map(|(_, count)| count).sum();
    let unit = Some(&Unit::Seconds);
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
    metric.encode_histogram::<NoLabelSet>(figures.sum_seconds, count, &buckets, None)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidings::shared_log::{InMemoryStore, SharedLog, SharedLogOptions};
    use tidings::{Hub, HubOptions, MemoryLog, PresenceOptions, Selector, random_epoch};

    use super::*;
    use crate::HttpOptions;

    #[test]
    fn the_text_has_what_alerts_are_made_of() {
        let log = MemoryLog::new(random_epoch().unwrap(), Default::default());
        let presence = PresenceOptions { topics: vec![Selector::All], ..Default::default() };
        let options = HubOptions { presence, ..HubOptions::default() };
        let hub = Hub::start(options, Arc::new(log)).unwrap();
        let mut registry = Registry::default();
        let tls = Tls::self_signed(&[], None).unwrap();
        let expires_at = tls.expires_at().unwrap();
        let options = HttpOptions { tls: Some(tls), ..HttpOptions::default() };
        options.reloads.count(true);
        options.reloads.count(false);
        registry.register_collector(Box::new(HubCollector(App::new(hub, options))));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let text = to_text_format(&text);
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
        for line in [
            "# TYPE tidings_active_connections gauge",
            "# TYPE tidings_events_delivered_total counter",
            "# HELP tidings_gaps_total Gaps announced, by reason",
            "tidings_events_delivered_total 0",
            "# TYPE tidings_turned_away_total counter",
            "tidings_turned_away_total 0",
            "tidings_refused_total{reason=\"connections\"} 0",
            "tidings_refused_total{reason=\"address\"} 0",
            "tidings_refused_total{reason=\"user\"} 0",
            "tidings_refused_total{reason=\"connect_rate\"} 0",
            "tidings_refused_total{reason=\"publish_rate\"} 0",
            "tidings_connections_closed_total{reason=\"write_timeout\"} 0",
            "tidings_connections_closed_total{reason=\"finished\"} 0",
            "tidings_gaps_total{reason=\"trimmed\"} 0",
            "tidings_events_repeated_total 0",
            "tidings_waiting_connections 0",
            "tidings_config_reloads_total{outcome=\"applied\"} 1",
            "tidings_config_reloads_total{outcome=\"refused\"} 1",
            "tidings_config_current 0",
            "tidings_waiting_dropped_total 0",
            "tidings_head_timeouts_total 0",
            &format!("tidings_certificate_expiry_timestamp_seconds {expires_at}"),
            "tidings_ready 1",
            "tidings_connections_max 100000",
            "tidings_presence_members 0",
            "tidings_presence_nodes 0",
            "tidings_presence_changes_total{change=\"left\"} 0",
            "tidings_log_next_offset 1",
            "tidings_log_writable 1",
            "tidings_replay_bytes 0",
            "tidings_delivery_latency_seconds_bucket{le=\"0.25\"} 0",
            "tidings_delivery_latency_seconds_bucket{le=\"+Inf\"} 0",
            "tidings_delivery_latency_seconds_count 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("tidings_log_reached"), "it has no store");
    }

    #[test]
    fn a_log_that_is_shared_has_figures_of_its_store() {
        let store = InMemoryStore::new(true);
        let log = SharedLog::open(store.engine(), SharedLogOptions::default()).unwrap();
        let hub = Hub::start(HubOptions::default(), Arc::new(log)).unwrap();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(HubCollector(App::new(hub, HttpOptions::default()))));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let text = to_text_format(&text);
        for line in [
            "tidings_log_reached 1",
            "tidings_log_behind_events 0",
            "# TYPE tidings_log_silent_seconds gauge",
            "tidings_log_followed_events_total 0",
            "tidings_log_store_failures_total 0",
            "tidings_log_lives_total 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing in\n{text}");
        }
    }
}
