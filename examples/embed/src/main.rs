//! A tidings hub inside an axum application.
//!
//! The application publishes from its own code and keeps its own routes; everything of the hub is
//! mounted under `/hub`. `cargo run -p embed`, then:
//!
//! ```console
//! $ curl -N 'http://127.0.0.1:3000/hub/events?topic=orders/%7Bid%7D' &
//! $ curl -X POST http://127.0.0.1:3000/orders/42/ship
//! ```

use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use tidings::{EventType, Hub, HubOptions, MemoryLog, Record, Topic};
use tidings_http::HttpOptions;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<()> {
    let log = MemoryLog::new(tidings::random_epoch()?, Default::default());
    let hub = Hub::start(HubOptions::default(), Arc::new(log))?;
    let application = application(hub);
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, application).await?;
    Ok(())
}

fn application(hub: Hub) -> Router {
    Router::new()
        .route("/orders/{id}/ship", post(ship))
        .with_state(hub.clone())
        .nest("/hub", tidings_http::router(hub, HttpOptions::default()))
}

/// Does the work, then tells whoever watches the order.
async fn ship(State(hub): State<Hub>, Path(id): Path<String>) -> Result<String, StatusCode> {
    let topic = Topic::parse(&format!("orders/{id}")).map_err(|_| StatusCode::BAD_REQUEST)?;
    let shipped = Record {
        event_type: EventType::parse("order-update").ok(),
        ..Record::new([topic], r#"{"status":"shipped"}"#)
    };
    let published = hub.publish(vec![shipped]).await;
    let published = published.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(published.ids().map(|id| format!("{id}\n")).collect())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tidings::{Delivered, Interest, Rights, Selector};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn what_the_application_publishes_reaches_the_subscribers_of_the_hub() {
        let log = MemoryLog::new(tidings::random_epoch().unwrap(), Default::default());
        let hub = Hub::start(HubOptions::default(), Arc::new(log)).unwrap();
        let selector = Selector::parse("orders/{id}").unwrap();
        let interest = Interest::new(vec![selector], vec![], Rights::everything());
        let mut subscription = hub.subscribe(interest, Default::default()).unwrap();

        ship(State(hub.clone()), Path("42".into())).await.unwrap();

        let Some(Delivered::Event(event)) = subscription.next().await else { panic!("no event") };
        assert_eq!(event.topics[0].as_str(), "orders/42");
        assert_eq!(event.data, r#"{"status":"shipped"}"#);
    }

    #[tokio::test]
    async fn the_hub_is_mounted_beside_the_routes_of_the_application() {
        let log = MemoryLog::new(tidings::random_epoch().unwrap(), Default::default());
        let hub = Hub::start(HubOptions::default(), Arc::new(log)).unwrap();
        let application = application(hub);
        let post = |path: &str, body| {
            let form = "application/x-www-form-urlencoded";
            Request::post(path).header("content-type", form).body(Body::from(body)).unwrap()
        };
        for (request, expected) in [
            (post("/orders/42/ship", ""), StatusCode::OK),
            (post("/hub/events", "topic=a"), StatusCode::OK),
            (post("/events", "topic=a"), StatusCode::NOT_FOUND),
            (Request::get("/hub/health/ready").body(Body::empty()).unwrap(), StatusCode::OK),
            (Request::get("/hub/ui/app.js").body(Body::empty()).unwrap(), StatusCode::OK),
            (Request::get("/hub/nothing").body(Body::empty()).unwrap(), StatusCode::NOT_FOUND),
        ] {
            let path = request.uri().path().to_owned();
            let response = application.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), expected, "{path}");
        }
    }
}
