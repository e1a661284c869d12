//! How a running process is asked how it is: for its health, which may end it, and for its readiness, which never does.
//!
//! A probe goes to the process's own host, so its address is a port, an IP address or `localhost`: no look-up of a name
//! can hold up a slave.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use minicbor::{CborLen, Decode, Encode};
use serde::{Deserialize, Serialize};

use super::document::{some_list_or_shell_words, text_or_number};
use crate::duration::Millis;

/// One question. Its texts may hold the built-in variables.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
pub enum Probe {
    /// A command that exits 0, run as the process's user in its environment.
    #[n(0)]
    Exec(#[n(0)] Vec<String>),
    /// A connection that is taken: `8080`, `127.0.0.1:8080`, `localhost:8080` or `[::1]:8080`.
    #[n(1)]
    Tcp(#[n(0)] String),
    /// A GET that is answered with a status from 200 to 399: `http://127.0.0.1:8080/health`.
    #[n(2)]
    Http(#[n(0)] String),
    /// grpc.health.v1 that answers SERVING: an address as for `tcp`, and `/SERVICE` where one service is meant.
    #[n(3)]
    Grpc(#[n(0)] String),
}

/// A probe's texts understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// This program with these arguments.
    Exec(Vec<String>),
    /// This address.
    Tcp(SocketAddr),
    /// This path at this address, asked for under this name.
    Http {
        /// Where.
        address: SocketAddr,
        /// The `Host` header.
        authority: String,
        /// Path and query.
        path: String,
    },
    /// This service at this address; empty means the whole server.
    Grpc {
        /// Where.
        address: SocketAddr,
        /// Which.
        service: String,
    },
}

impl Probe {
    /// The field that says it in documents.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Tcp(_) => "tcp",
            Self::Http(_) => "http",
            Self::Grpc(_) => "grpc",
        }
    }

    /// The same probe with `change` made to each of its texts.
    pub fn map(&self, change: impl Fn(&str) -> String) -> Self {
        match self {
            Self::Exec(words) => Self::Exec(words.iter().map(|word| change(word)).collect()),
            Self::Tcp(address) => Self::Tcp(change(address)),
            Self::Http(url) => Self::Http(change(url)),
            Self::Grpc(address) => Self::Grpc(change(address)),
        }
    }

    /// Understands the texts, after variables were filled in. The error says what is allowed.
    pub fn target(&self) -> Result<Target, String> {
        match self {
            Self::Exec(words) if words.first().is_none_or(String::is_empty) => Err("is empty; name a command".into()),
            Self::Exec(words) => Ok(Target::Exec(words.clone())),
            Self::Tcp(text) => Ok(Target::Tcp(address(text, None)?)),
            Self::Http(url) => http(url),
            Self::Grpc(text) => {
                let (place, service) = text.split_once('/').unwrap_or((text, ""));
                Ok(Target::Grpc { address: address(place, None)?, service: service.into() })
            }
        }
    }
}

fn http(url: &str) -> Result<Target, String> {
    let Some(rest) = url.strip_prefix("http://") else {
        return Err(format!("{url:?} does not begin with \"http://\"; write for example http://127.0.0.1:8080/health"));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = if path.starts_with('/') { path.into() } else { format!("/{path}") };
    if path.contains(|c: char| !c.is_ascii_graphic() || c == '#') {
        return Err(format!("{path:?} is no path of a URL: no blanks, '#' or characters beyond ASCII"));
    }
    Ok(Target::Http { address: address(authority, Some(80))?, authority: authority.into(), path })
}

/// Reads `PORT`, `ADDRESS:PORT` or `localhost:PORT`; where there is a usual port, it may be left out.
fn address(text: &str, usual_port: Option<u16>) -> Result<SocketAddr, String> {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let bad = || {
        format!(
            "{text:?} is no address of this host; write a port, or an IP address or localhost with a port, \
             for example 8080 or 127.0.0.1:8080"
        )
    };
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() > 0 { Ok(address) } else { Err(bad()) };
    }
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    if let Some(port) = port(text).filter(|_| usual_port.is_none()) {
        return Ok(SocketAddr::new(local, port));
    }
    let (place, port) = match (text.strip_prefix("localhost"), usual_port) {
        (Some(""), Some(usual)) => (Some(local), Some(usual)),
        (Some(rest), _) => (Some(local), rest.strip_prefix(':').and_then(port)),
        (None, usual) => (text.trim_matches(['[', ']']).parse().ok(), usual),
    };
    place.zip(port).map(|(place, port)| SocketAddr::new(place, port)).ok_or_else(bad)
}

/// What happens to a process whose health check fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum OnUnhealthy {
    /// It is stopped as its `stop` says, and its restart policy goes on from there.
    #[default]
    #[n(0)]
    Restart,
    /// It is shown as unhealthy and goes on.
    #[n(1)]
    Mark,
}

/// Whether a running process is well. One question at a time; a late one is never made up for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(try_from = "HealthDocument", into = "HealthDocument")]
pub struct Health {
    /// How it is asked.
    #[n(0)]
    pub probe: Probe,
    /// Wait between an answer and the next question.
    #[n(1)]
    pub interval: Millis,
    /// An answer that takes longer is a failure.
    #[n(2)]
    pub timeout: Millis,
    /// After a start failures do not count for this long, or until the first success.
    #[n(3)]
    pub start_grace: Millis,
    /// Failures in a row that make it unhealthy.
    #[n(4)]
    pub threshold: u32,
    /// What follows.
    #[n(5)]
    pub on_failure: OnUnhealthy,
}

impl Health {
    /// This probe with every default.
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            interval: Millis::from_secs(10),
            timeout: Millis::from_secs(2),
            start_grace: Millis::from_secs(30),
            threshold: 3,
            on_failure: OnUnhealthy::Restart,
        }
    }
}

/// Whether a running process can serve: RUNNING becomes READY, and RUNNING again. It is never restarted for it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen, Serialize, Deserialize)]
#[cbor(map)]
#[serde(try_from = "ReadyDocument", into = "ReadyDocument")]
pub struct Ready {
    /// How it is asked.
    #[n(0)]
    pub probe: Probe,
    /// Wait between an answer and the next question.
    #[n(1)]
    pub interval: Millis,
    /// An answer that takes longer is a failure.
    #[n(2)]
    pub timeout: Millis,
    /// Failures in a row after which it is ready no more.
    #[n(3)]
    pub threshold: u32,
}

impl Ready {
    /// This probe with every default.
    pub fn new(probe: Probe) -> Self {
        Self { probe, interval: Millis::from_secs(5), timeout: Millis::from_secs(2), threshold: 3 }
    }
}

/// The fields of [`Health`] as documents write them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthDocument {
    #[serde(default, deserialize_with = "some_list_or_shell_words", skip_serializing_if = "Option::is_none")]
    exec: Option<Vec<String>>,
    #[serde(default, deserialize_with = "text_or_number", skip_serializing_if = "Option::is_none")]
    tcp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    #[serde(default, deserialize_with = "text_or_number", skip_serializing_if = "Option::is_none")]
    grpc: Option<String>,
    interval: Option<Millis>,
    timeout: Option<Millis>,
    start_grace: Option<Millis>,
    threshold: Option<u32>,
    on_failure: Option<OnUnhealthy>,
}

/// The fields of [`Ready`] as documents write them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadyDocument {
    #[serde(default, deserialize_with = "some_list_or_shell_words", skip_serializing_if = "Option::is_none")]
    exec: Option<Vec<String>>,
    #[serde(default, deserialize_with = "text_or_number", skip_serializing_if = "Option::is_none")]
    tcp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    #[serde(default, deserialize_with = "text_or_number", skip_serializing_if = "Option::is_none")]
    grpc: Option<String>,
    interval: Option<Millis>,
    timeout: Option<Millis>,
    threshold: Option<u32>,
}

/// A probe as the four ways to say it.
type Ways = (Option<Vec<String>>, Option<String>, Option<String>, Option<String>);

/// The one probe of the four ways to say it.
fn only((exec, tcp, http, grpc): Ways) -> Result<Probe, String> {
    let said = [exec.map(Probe::Exec), tcp.map(Probe::Tcp), http.map(Probe::Http), grpc.map(Probe::Grpc)];
    let mut said = said.into_iter().flatten();
    match (said.next(), said.next()) {
        (Some(probe), None) => Ok(probe),
        (Some(one), Some(other)) => {
            Err(format!("`{}` stands beside `{}`; ask in one way only", other.word(), one.word()))
        }
        (None, _) => Err("says no way to ask; write one of exec, tcp, http, grpc".to_string()),
    }
}

fn ways(probe: Probe) -> Ways {
    match probe {
        Probe::Exec(words) => (Some(words), None, None, None),
        Probe::Tcp(text) => (None, Some(text), None, None),
        Probe::Http(text) => (None, None, Some(text), None),
        Probe::Grpc(text) => (None, None, None, Some(text)),
    }
}

impl TryFrom<HealthDocument> for Health {
    type Error = String;

    fn try_from(said: HealthDocument) -> Result<Self, String> {
        let default = Self::new(only((said.exec, said.tcp, said.http, said.grpc))?);
        Ok(Self {
            interval: said.interval.unwrap_or(default.interval),
            timeout: said.timeout.unwrap_or(default.timeout),
            start_grace: said.start_grace.unwrap_or(default.start_grace),
            threshold: said.threshold.unwrap_or(default.threshold),
            on_failure: said.on_failure.unwrap_or(default.on_failure),
            ..default
        })
    }
}

impl From<Health> for HealthDocument {
    fn from(health: Health) -> Self {
        let (exec, tcp, http, grpc) = ways(health.probe);
        Self {
            exec,
            tcp,
            http,
            grpc,
            interval: Some(health.interval),
            timeout: Some(health.timeout),
            start_grace: Some(health.start_grace),
            threshold: Some(health.threshold),
            on_failure: Some(health.on_failure),
        }
    }
}

impl TryFrom<ReadyDocument> for Ready {
    type Error = String;

    fn try_from(said: ReadyDocument) -> Result<Self, String> {
        let default = Self::new(only((said.exec, said.tcp, said.http, said.grpc))?);
        Ok(Self {
            interval: said.interval.unwrap_or(default.interval),
            timeout: said.timeout.unwrap_or(default.timeout),
            threshold: said.threshold.unwrap_or(default.threshold),
            ..default
        })
    }
}

impl From<Ready> for ReadyDocument {
    fn from(ready: Ready) -> Self {
        let (exec, tcp, http, grpc) = ways(ready.probe);
        Self {
            exec,
            tcp,
            http,
            grpc,
            interval: Some(ready.interval),
            timeout: Some(ready.timeout),
            threshold: Some(ready.threshold),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_this_host_and_need_no_look_up() {
        let tcp = |text: &str| Probe::Tcp(text.into()).target().map_err(|_| ());
        for (text, expected) in [
            ("8080", Some("127.0.0.1:8080")),
            ("localhost:80", Some("127.0.0.1:80")),
            ("10.0.0.1:80", Some("10.0.0.1:80")),
            ("[::1]:80", Some("[::1]:80")),
            ("0", None),
            ("127.0.0.1:0", None),
            ("70000", None),
            ("localhost", None),
            ("127.0.0.1", None),
            ("web-1:80", None),
            ("", None),
        ] {
            assert_eq!(tcp(text).ok(), expected.map(|address| Target::Tcp(address.parse().unwrap())), "{text}");
        }
        let http = |text: &str| Probe::Http(text.into()).target();
        let at = |address: &str, authority: &str, path: &str| Target::Http {
            address: address.parse().unwrap(),
            authority: authority.into(),
            path: path.into(),
        };
        assert_eq!(http("http://localhost:81/a?b").unwrap(), at("127.0.0.1:81", "localhost:81", "/a?b"));
        assert_eq!(http("http://localhost").unwrap(), at("127.0.0.1:80", "localhost", "/"));
        assert_eq!(http("http://[::1]?x").unwrap(), at("[::1]:80", "[::1]", "/?x"));
        for bad in ["https://localhost/", "localhost:80", "http://web-1/", "http://localhost:80/a b", "http://8080/"] {
            assert!(http(bad).is_err(), "{bad}");
        }
        let grpc = Probe::Grpc("50051/app.Api".into()).target().unwrap();
        assert_eq!(grpc, Target::Grpc { address: "127.0.0.1:50051".parse().unwrap(), service: "app.Api".into() });
        assert!(Probe::Exec(Vec::new()).target().is_err());
    }

    #[test]
    fn documents_ask_in_one_way_and_read_back() {
        let read = |yaml: &str| serde_yaml_ng::from_str::<Health>(yaml).map_err(|error| error.to_string());
        let health = read("{exec: 'check --port \"1 2\"', interval: 500ms, threshold: 5, on_failure: mark}").unwrap();
        assert_eq!(health.probe, Probe::Exec(["check", "--port", "1 2"].map(String::from).to_vec()));
        assert_eq!((health.interval, health.timeout, health.threshold), (Millis(500), Millis(2_000), 5));
        assert_eq!(serde_yaml_ng::from_str::<Health>(&serde_yaml_ng::to_string(&health).unwrap()).unwrap(), health);
        assert_eq!(read("{tcp: 80}").unwrap(), Health::new(Probe::Tcp("80".into())));
        assert!(read("{interval: 5}").unwrap_err().contains("write one of exec, tcp, http, grpc"));
        assert!(read("{tcp: 80, grpc: 81}").unwrap_err().contains("`grpc` stands beside `tcp`"));
        assert!(read("{tcp: 80, treshold: 3}").unwrap_err().contains("unknown field `treshold`"));
        let ready: Ready = serde_yaml_ng::from_str("{http: 'http://localhost/'}").unwrap();
        assert_eq!(serde_yaml_ng::from_str::<Ready>(&serde_yaml_ng::to_string(&ready).unwrap()).unwrap(), ready);
        assert!(serde_yaml_ng::from_str::<Ready>("{tcp: 80, on_failure: mark}").is_err());
    }
}
