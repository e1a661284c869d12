//! Metrics as Prometheus reads them: a page made anew for each question, from what a program knows anyway, so that no
//! counting stands in the way of any work; and the small HTTP server that gives it.

mod process;

use std::{
    convert::Infallible,
    fmt::{self, Write},
    sync::Arc,
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text::encode_registry},
    metrics::MetricType,
    registry::Registry,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

pub use process::process;

/// Connections at once: a few Prometheus servers and a curious person.
const CONNECTIONS_MAX: usize = 16;
/// A connection ends with its answer; one that takes longer is stuck.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted: the process is out of files, and trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a metric's value does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only goes up while the program runs. Its samples are called `NAME_total`.
    Counter,
}

/// One metric. Labels are few and fixed: never an instance, a host or anything else that grows with the fleet.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Its name, with its unit, without `_total`.
    pub name: &'static str,
    /// What it says, in one sentence without its full stop.
    pub help: &'static str,
    /// What its value does.
    pub kind: Kind,
    /// Labels and value of each sample.
    pub samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Metric {
    /// A gauge of one sample without labels.
    pub fn gauge(name: &'static str, help: &'static str, value: impl Number) -> Self {
        Self { name, help, kind: Kind::Gauge, samples: vec![(Vec::new(), value.number())] }
    }

    /// A counter of one sample without labels.
    pub fn counter(name: &'static str, help: &'static str, value: impl Number) -> Self {
        Self { kind: Kind::Counter, ..Self::gauge(name, help, value) }
    }

    /// A gauge with one sample for each value of one label.
    pub fn by<V: Number>(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        samples: impl IntoIterator<Item = (impl Into<String>, V)>,
    ) -> Self {
        let sample = |(value, number): (_, V)| (vec![(label, Into::into(value))], number.number());
        Self { name, help, kind: Kind::Gauge, samples: samples.into_iter().map(sample).collect() }
    }
}

/// What a sample's value may be made of.
pub trait Number {
    /// As Prometheus has it; whole numbers are exact up to 2^53.
    fn number(self) -> f64;
}

impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
}

impl Number for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for u32 {
    fn number(self) -> f64 {
        f64::from(self)
    }
}

impl Number for usize {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for bool {
    fn number(self) -> f64 {
        f64::from(u8::from(self))
    }
}

impl Number for Duration {
    /// In seconds.
    fn number(self) -> f64 {
        self.as_secs_f64()
    }
}

/// The page, in the text form of OpenMetrics.
pub fn text(metrics: Vec<Metric>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(metrics)));
    let mut text = String::new();
    // A string takes everything.
    let _ = encode_registry(&mut text, &registry);
    let _ = text.write_str("# EOF\n");
    text
}

#[derive(Debug)]
struct Page(Vec<Metric>);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in &self.0 {
            let kind = match metric.kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Counter => MetricType::Counter,
            };
            let mut family = encoder.encode_descriptor(metric.name, &format!("{}.", metric.help), None, kind)?;
            for (labels, value) in &metric.samples {
                match labels.is_empty() {
                    true => sample(metric.kind, *value, &mut family)?,
                    false => sample(metric.kind, *value, &mut family.encode_family(labels)?)?,
                }
            }
        }
        Ok(())
    }
}

fn sample(kind: Kind, value: f64, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    match kind {
        Kind::Gauge => encoder.encode_gauge(&value),
        Kind::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
    }
}

/// Answers `GET /metrics` with a page made by `make`, for ever.
pub async fn serve(listener: TcpListener, make: impl Fn() -> Vec<Metric> + Send + Sync + 'static) {
    let make = Arc::new(make);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let make = make.clone();
                tokio::spawn(async move {
                    let _place = place;
                    // However it ends, whoever asked sees it.
                    let _ = tokio::time::timeout(CONNECTION_DEADLINE, converse(stream, &*make)).await;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn converse(stream: TcpStream, make: &impl Fn() -> Vec<Metric>) -> Result<(), hyper::Error> {
    let service = service_fn(|request: Request<Incoming>| async move { Ok::<_, Infallible>(answer(&request, make)) });
    http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await
}

fn answer<B>(request: &Request<B>, make: &impl Fn() -> Vec<Metric>) -> Response<String> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text(make()))
        }
        _ => (StatusCode::NOT_FOUND, "text/plain", "there is only /metrics here\n".into()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let page = vec![
            Metric::gauge("minder_up", "Whether it is up", true),
            Metric::counter("minder_syncs", "Syncs of the log", 3_u64),
            Metric::by("minder_hosts", "Hosts", "condition", [("lost", 1_u64), ("say \"so\"", 2)]),
        ];
        let expected = "# HELP minder_up Whether it is up.\n# TYPE minder_up gauge\nminder_up 1.0\n\
                        # HELP minder_syncs Syncs of the log.\n# TYPE minder_syncs counter\nminder_syncs_total 3.0\n\
                        # HELP minder_hosts Hosts.\n# TYPE minder_hosts gauge\nminder_hosts{condition=\"lost\"} 1.0\n\
                        minder_hosts{condition=\"say \\\"so\\\"\"} 2.0\n# EOF\n";
        assert_eq!(text(page), expected);
    }

    #[test]
    fn only_one_path_is_answered() {
        let ask = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            answer(&request, &|| vec![Metric::gauge("x", "X", 1_u64)])
        };
        assert!(ask(Method::GET, "/metrics").body().contains("x 1.0"));
        assert_eq!(ask(Method::GET, "/").status(), StatusCode::NOT_FOUND);
        assert_eq!(ask(Method::POST, "/metrics").status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn a_process_knows_itself() {
        let own = process();
        // It has had no time for a tick of processor time yet.
        assert!(own.len() == 4 && own[1..].iter().all(|metric| metric.samples[0].1 > 0.0), "{own:?}");
    }
}
