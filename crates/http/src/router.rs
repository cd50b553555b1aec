//! Which path does what.

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, post};
use tidings::Hub;

use crate::app::App;
use crate::front::Front;
use crate::hosts::Hosts;
use crate::{
    HttpOptions, connections, cors, health, metrics, page, presence, publish, revocations, stats,
    subscribe, tickets,
};

/// The routes of a hub, to be served by [`serve`](crate::serve) or mounted in an axum application.
///
/// Mounted elsewhere, a client that reads nothing is let go of, but its connection lasts until the
/// server that owns it notices.
pub fn router(hub: Hub, options: HttpOptions) -> Router {
    Router::new().fallback_service(front(hub, options))
}

/// The routes with what stands before them.
pub(crate) fn front(hub: Hub, options: HttpOptions) -> Front {
    let cors = cors::layer(&options.cors_origins);
    let hosts = Hosts(options.hosts.clone());
    let app = App::new(hub, options);
    let mut router = Router::new();
    for (path, methods) in routes() {
        router = router.route(path, methods);
    }
    let router = router
        .fallback(page::not_found)
        .method_not_allowed_fallback(page::method_not_allowed)
        .with_state(app.clone());
    match cors {
        Some(cors) => Front::new(app, hosts, router.layer(cors), true),
        None => Front::new(app, hosts, router, false),
    }
}

/// Whether a request is what `routes` has [`publish`](publish::publish) for.
pub(crate) fn is_publish(request: &Request) -> bool {
    request.method() == Method::POST && request.uri().path() == EVENTS
}

fn routes() -> [(&'static str, MethodRouter<App>); 13] {
    [
        (EVENTS, get(subscribe::subscribe).post(publish::publish)),
        ("/tickets", post(tickets::issue)),
        ("/presence", get(presence::list)),
        ("/connections", get(connections::list).delete(connections::close)),
        ("/connections/{id}", delete(connections::close_one)),
        ("/revocations", get(revocations::list).post(revocations::revoke)),
        ("/stats", get(stats::stats)),
        ("/health/live", get(health::live)),
        ("/health/ready", get(health::ready)),
        ("/metrics", get(metrics::metrics)),
        ("/openapi.json", get(page::openapi)),
        ("/", get(page::index)),
        ("/ui/{file}", get(page::asset)),
    ]
}

const EVENTS: &str = "/events";

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
