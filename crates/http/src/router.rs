//! Which path does what.

use std::sync::Arc;

use axum::routing::{MethodRouter, get};
use axum::{Router, middleware};
use tidings::Hub;

use crate::app::App;
use crate::{
    HttpOptions, cors, health, hosts, metrics, page, publish, request_id, stats, subscribe,
};

/// The routes of a hub, to be served by [`serve`](crate::serve) or mounted in an axum application.
///
/// Mounted elsewhere, a client that reads nothing is let go of, but its connection lasts until the
/// server that owns it notices.
pub fn router(hub: Hub, options: HttpOptions) -> Router {
    let cors = cors::layer(&options.cors_origins);
    let hosts: Option<Arc<[String]>> = options.hosts.clone().map(Arc::from);
    let app = App::new(hub, options);
    let mut router = Router::new();
    for (path, methods) in routes() {
        router = router.route(path, methods);
    }
    let router =
        router.fallback(page::not_found).method_not_allowed_fallback(page::method_not_allowed);
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    let router = match hosts {
        Some(hosts) => router.layer(middleware::from_fn_with_state(hosts, hosts::refuse_unknown)),
        None => router,
    };
    router.layer(middleware::from_fn(request_id::name_request)).with_state(app)
}

fn routes() -> [(&'static str, MethodRouter<App>); 8] {
    [
        ("/events", get(subscribe::subscribe).post(publish::publish)),
        ("/stats", get(stats::stats)),
        ("/health/live", get(health::live)),
        ("/health/ready", get(health::ready)),
        ("/metrics", get(metrics::metrics)),
        ("/openapi.json", get(page::openapi)),
        ("/", get(page::index)),
        ("/ui/{file}", get(page::asset)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_description_has_these_paths_and_no_others() {
        let description: serde_json::Value =
            serde_json::from_str(include_str!("../openapi.json")).unwrap();
        let mut described: Vec<&str> =
            description["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut served: Vec<&str> = routes().iter().map(|(path, _)| *path).collect();
        described.sort_unstable();
        served.sort_unstable();
        assert_eq!(described, served);
    }
}
