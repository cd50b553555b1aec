//! Who was believed, who was asked and who was told.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tidings_access::{AccessFigures, AuthorizationFigures, KeySetFigures, NewsFigures};

use super::{counter, family, gauge};
use crate::app::App;

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, app: &App) -> fmt::Result {
    let access = app.access();
    let figures = access.figures();
    gauge(
        encoder,
        "tidings_revocations",
        "Token ids that are blocked",
        figures.revocations as i64,
    )?;
    if access.has_authorities() {
        encode_tokens(encoder, &figures)?;
    }
    if !figures.key_sets.is_empty() {
        encode_key_sets(encoder, &figures.key_sets)?;
    }
    if access.has_authorization_webhook() {
        encode_authorization(encoder, &figures.authorization)?;
    }
    if access.has_connection_webhook() {
        encode_news(encoder, &figures.news)?;
    }
    Ok(())
}

fn encode_tokens(encoder: &mut DescriptorEncoder<'_>, figures: &AccessFigures) -> fmt::Result {
    let (accepted, cached) = (figures.tokens_accepted, figures.tokens_cached);
    counter(encoder, "tidings_tokens_accepted", "Tokens accepted", accepted)?;
    counter(encoder, "tidings_tokens_cached", "Tokens accepted that were known", cached)?;
    let refused = figures.tokens_refused.iter().copied();
    family(encoder, "tidings_tokens_refused", "Tokens refused, by reason", "reason", refused)
}

fn encode_key_sets(encoder: &mut DescriptorEncoder<'_>, sets: &[KeySetFigures]) -> fmt::Result {
    let of = |value: fn(&KeySetFigures) -> u64| sets.iter().map(move |set| (&*set.url, value(set)));
    let help = "Fetches of key sets that brought usable keys";
    family(encoder, "tidings_key_set_fetches", help, "url", of(|set| set.fetches))?;
    let help = "Fetches of key sets that did not";
    family(encoder, "tidings_key_set_failures", help, "url", of(|set| set.failed_fetches))?;
    let (name, help) = ("tidings_key_set_keys", "Keys in use");
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (url, keys) in of(|set| set.keys) {
        ConstGauge::new(keys as i64).encode(metric.encode_family(&[("url", url)])?)?;
    }
    let (name, help) = ("tidings_key_set_age", "Since the keys in use were last confirmed");
    let mut metric =
        encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
    for set in sets {
        if let Some(age) = set.age {
            let labels = [("url", &*set.url)];
            ConstGauge::new(age.as_secs_f64()).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_authorization(
    encoder: &mut DescriptorEncoder<'_>,
    figures: &AuthorizationFigures,
) -> fmt::Result {
    let calls =
        [("allowed", figures.allowed), ("denied", figures.denied), ("failed", figures.failed)];
    let help = "Calls of the authorisation webhook, by outcome";
    family(encoder, "tidings_authorizations", help, "outcome", calls)?;
    for (name, help, total) in [
        ("tidings_authorizations_cached", "Questions whose answer was known", figures.cached),
        ("tidings_authorizations_turned_away", "Questions over the limit", figures.turned_away),
    ] {
        counter(encoder, name, help, total)?;
    }
    let metric = ConstCounter::new(figures.latency_sum.as_secs_f64());
    let (name, help) = ("tidings_authorization_time", "How long all calls together took");
    let unit = Some(&Unit::Seconds);
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

fn encode_news(encoder: &mut DescriptorEncoder<'_>, figures: &NewsFigures) -> fmt::Result {
    for (name, help, value) in [
        ("tidings_present_users", "Users with a stream, or one within the debounce", figures.users),
        ("tidings_news_undelivered", "News of users that waits", figures.undelivered),
    ] {
        gauge(encoder, name, help, value as i64)?;
    }
    for (name, help, total) in [
        ("tidings_news_delivered", "News of users delivered", figures.delivered),
        ("tidings_news_failures", "Attempts to deliver that failed", figures.failed_attempts),
        ("tidings_news_dropped", "News of users that is never told", figures.dropped),
        ("tidings_news_unkept", "News of users that could not be written down", figures.unkept),
    ] {
        counter(encoder, name, help, total)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;
    use tidings::{Hub, HubOptions, MemoryLog, random_epoch};
    use tidings_access::{
        Access, AccessOptions, AuthorityOptions, AuthorizationWebhook, Backoff, ConnectionWebhook,
        JwksOptions,
    };
    use tidings_auth::{Authority, Key};

    use crate::HttpOptions;
    use crate::app::App;
    use crate::metrics::HubCollector;

    async fn text_of(options: AccessOptions) -> String {
        let log = MemoryLog::new(random_epoch().unwrap(), Default::default());
        let hub = Hub::start(HubOptions::default(), Arc::new(log)).unwrap();
        let access = Access::start(options).await.unwrap();
        let _ = access.verify("no token").await;
        let options = HttpOptions { access, ..HttpOptions::default() };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(HubCollector(App::new(hub, options))));
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text
    }

    #[tokio::test]
    async fn what_is_asked_and_told_is_counted() {
        // Nobody listens there.
        let url = "http://127.0.0.1:1/";
        let mut jwks = JwksOptions::new(url).unwrap();
        let hour = std::time::Duration::from_secs(3600);
        jwks.backoff = Backoff { first: hour, longest: hour };
        let keys = Key::parse(b"a secret of more than 32 bytes is long enough", None).unwrap();
        let mut options = AccessOptions::default();
        options.authorities =
            vec![AuthorityOptions { authority: Authority::default(), keys, jwks: vec![jwks] }];
        options.authorization_webhook = Some(AuthorizationWebhook::new(url).unwrap());
        options.connection_webhook = Some(ConnectionWebhook::new(url).unwrap());
        let text = text_of(options).await;
        for line in [
            "tidings_revocations 0",
            "tidings_tokens_accepted_total 0",
            "tidings_tokens_refused_total{reason=\"malformed\"} 1",
            "tidings_tokens_refused_total{reason=\"expired\"} 0",
            "tidings_key_set_failures_total{url=\"http://127.0.0.1:1/\"} 1",
            "tidings_key_set_keys{url=\"http://127.0.0.1:1/\"} 0",
            "# TYPE tidings_key_set_age_seconds gauge",
            "tidings_authorizations_total{outcome=\"failed\"} 0",
            "tidings_authorization_time_seconds_total 0.0",
            "tidings_present_users 0",
            "tidings_news_undelivered 0",
            "tidings_news_dropped_total 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing in\n{text}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_counted() {
        let text = text_of(AccessOptions::default()).await;
        assert!(text.contains("tidings_revocations 0"));
        for name in ["tokens", "key_set", "authorization", "news"] {
            assert!(!text.contains(&format!("tidings_{name}")), "{name} is in\n{text}");
        }
    }
}
