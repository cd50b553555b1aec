//! What every request passes before the routes.
//!
//! It names requests, refuses browsers that ask for another host, and gives problems their body.
//! From here a publish goes straight to its handler: there are far more of them than of anything
//! else, and the routes cost as much as the handler.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use tower::{Service, ServiceExt};
use tracing::Level;

use crate::app::App;
use crate::header_names::X_REQUEST_ID;
use crate::hosts::Hosts;
use crate::line_figures::LineFigures;
use crate::problem::{Kind, Problem};
use crate::{publish, request_id, response_headers, router};

/// A service that answers every request; cheap to clone.
#[derive(Clone)]
pub(crate) struct Front(Arc<Inner>);

struct Inner {
    app: App,
    hosts: Hosts,
    routes: Router,
    /// Publishes need not pass the routes: they have no layers.
    is_direct: bool,
}

impl Front {
    /// `routes` answers what is let through, a publish only if they have `layers`.
    pub(crate) fn new(app: App, hosts: Hosts, routes: Router, has_layers: bool) -> Self {
        Self(Arc::new(Inner { app, hosts, routes, is_direct: !has_layers }))
    }

    /// From now on no new clients are to be sent here.
    pub(crate) fn leave(&self) {
        self.0.app.leave();
    }

    /// What is counted of the connections that requests come on.
    pub(crate) fn line_figures(&self) -> &Arc<LineFigures> {
        self.0.app.line_figures()
    }

    pub(crate) async fn answer(self, request: Request) -> Response {
        let id = request_id::name(request.headers());
        let asked = tracing::enabled!(Level::DEBUG)
            .then(|| (request.method().clone(), request.uri().path().to_owned()));
        let mut response = self.0.pass(request).await;
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            self.0.app.problem_counts().count(&problem);
            let instance = id.to_str().unwrap_or_default();
            tracing::debug!(?asked, instance, ?problem, "refused");
            // The routes have told the length of the body that was there.
            response.headers_mut().remove(CONTENT_LENGTH);
            *response.body_mut() = problem.to_json(instance).into();
        }
        response_headers::finish(response.headers_mut());
        response.headers_mut().insert(X_REQUEST_ID, id);
        response
    }
}

impl Inner {
    async fn pass(&self, request: Request) -> Response {
        if self.hosts.refuse(&request) {
            let detail = "Reach the hub by an IP address or localhost, or add the name to hosts.";
            return Problem::new(Kind::UnknownHost, detail).closing().into_response();
        }
        if self.is_direct && router::is_publish(&request) {
            return publish::respond(&self.app, request).await;
        }
        match self.routes.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let front = self.clone();
        Box::pin(async move { Ok(front.answer(request).await) })
    }
}
