//! The processes of the fleet.

use minder_chaos_tests::crowd_host;
use minder_model::{ProcessName, Spec};

/// Instances that one request touches at most: a second of everybody's work here, and no manager is held up for longer.
const INSTANCES_A_REQUEST: usize = 50_000;
/// Specs of one request, each of its own.
const SPECS_A_REQUEST: usize = 1_000;

/// An ordinary spec: a command with arguments and a few variables.
pub fn spec(name: &str, value: u64) -> Spec {
    let mut spec = Spec::new(ProcessName::new(name).unwrap(), "/usr/local/bin/app");
    spec.args = ["--config", "/etc/app/app.toml", "--port", "8080"].map(String::from).to_vec();
    spec.env = [("MODE", "production".to_owned()), ("VALUE", value.to_string())]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
    spec
}

/// A process on one host.
pub fn on_host(name: &str, value: u64, host: usize) -> Spec {
    Spec { hosts: vec![crowd_host(host)], ..spec(name, value) }
}

/// A process on every host.
pub fn on_all(name: &str, value: u64) -> Spec {
    Spec { selector: [("all".to_owned(), "yes".to_owned())].into(), ..spec(name, value) }
}

/// Requests that bring in the instances from number `from` to before `to`, in the order of their processes.
pub fn requests(from: usize, to: usize, hosts: usize, own: bool) -> Vec<Vec<Spec>> {
    if own {
        let one = |number: usize| on_host(&format!("service-{number}"), 0, number % hosts + 1);
        return (from..to).map(one).collect::<Vec<_>>().chunks(SPECS_A_REQUEST).map(<[Spec]>::to_vec).collect();
    }
    let one = |process: usize| {
        let name = format!("service-{process}");
        match to - process * hosts {
            some if some < hosts => Spec { hosts: (1..=some).map(crowd_host).collect(), ..spec(&name, 0) },
            _ => on_all(&name, 0),
        }
    };
    let specs: Vec<Spec> = (from.div_ceil(hosts)..to.div_ceil(hosts)).map(one).collect();
    specs.chunks((INSTANCES_A_REQUEST / hosts).clamp(1, SPECS_A_REQUEST)).map(<[Spec]>::to_vec).collect()
}
