//! Which of the connections at the client address are other managers': what they ask there, such as calls that they pass
//! on, must stay away as well while this manager is cut off from them for a drill.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::header::USER_AGENT;
use minder_proto::isolation::{self, Line, MANAGER_AGENT};
use tonic::body::Body;
use tower::{Layer, Service};

/// Looks at the first request of each connection.
#[derive(Clone, Copy)]
pub struct ManagerLineLayer;

impl<S> Layer<S> for ManagerLineLayer {
    type Service = ManagerLine<S>;

    fn layer(&self, inner: S) -> ManagerLine<S> {
        ManagerLine { inner }
    }
}

/// A service that learns whose its connection is.
#[derive(Clone)]
pub struct ManagerLine<S> {
    inner: S,
}

impl<S> Service<http::Request<Body>> for ManagerLine<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let is_managers = is_managers(&request);
        // The service that is ready is the one to call; its clone waits for the next call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            if is_managers {
                // It came in before its connection was known for what it is, so it is as if it still were on its way.
                isolation::own().over().await;
            }
            inner.call(request).await
        })
    }
}

fn is_managers(request: &http::Request<Body>) -> bool {
    let Some(line) = request.extensions().get::<Line>() else { return false };
    if !line.is_managers() && asks_as_manager(request) {
        line.belongs_to_manager();
    }
    line.is_managers()
}

fn asks_as_manager(request: &http::Request<Body>) -> bool {
    let agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
    agent.is_some_and(|agent| agent.split_whitespace().any(|word| word == MANAGER_AGENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_from_a_user_whose_call_it_passes_on() {
        for (agent, expected) in [
            ("tonic/0.14", false),
            ("minder-manager tonic/0.14", true),
            ("grpc-go/1.60 minder-manager tonic/0.14", true),
            ("minder-managers/1", false),
        ] {
            let request = http::Request::builder().header(USER_AGENT, agent).body(Body::empty()).unwrap();
            assert_eq!(asks_as_manager(&request), expected, "{agent}");
        }
    }
}
