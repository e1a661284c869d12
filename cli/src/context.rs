//! What every command works with.

use std::{env, time::Duration};

use minder_client::{Client, Write, v1};
use minder_model::Selection;

use crate::{
    failure::Failure,
    flags::{Change, Global, Output, Select},
    screen::Screen,
    settings, waiting,
};

/// Limit on one call unless a smaller one is asked for.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);

/// The cluster, the screen and the limits.
pub struct Context {
    pub client: Client,
    pub output: Output,
    pub screen: Screen,
    pub wait_limit: Duration,
}

impl Context {
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let servers = settings::servers(&global.server)?;
        let deadline = global.timeout.map_or(CALL_LIMIT, |timeout| timeout.min(CALL_LIMIT));
        let actor = env::var("USER").or_else(|_| env::var("LOGNAME")).unwrap_or_default();
        Ok(Self {
            client: Client::new(servers)?.with_deadline(deadline).with_actor(actor),
            output: global.output,
            screen: Screen::new(),
            wait_limit: global.timeout.unwrap_or(waiting::LIMIT),
        })
    }
}

/// A selection that names something; what is wrong with it is said before anybody is asked.
pub fn some(select: &Select) -> Result<v1::Selection, Failure> {
    if !select.all && select.terms.is_empty() && select.labels.is_empty() {
        return Err(Failure::usage("nothing is selected").hint("write NAME, NAME@HOST, @HOST, -l KEY=VALUE, or --all"));
    }
    any(select)
}

/// A selection in which nothing stands for everything.
pub fn any(select: &Select) -> Result<v1::Selection, Failure> {
    Selection::parse(&select.terms, &select.labels).map_err(|error| Failure::usage(error.to_string()))?;
    let labels = select.labels.iter().flat_map(|text| text.split(',')).filter(|pair| !pair.is_empty());
    // With --all, labels still narrow: the labels alone select then.
    let labels: Vec<String> = labels.map(str::to_owned).collect();
    let all = select.terms.is_empty() && labels.is_empty();
    Ok(v1::Selection { terms: select.terms.clone(), labels, all })
}

impl From<&Change> for Write {
    fn from(change: &Change) -> Self {
        Self { request_id: change.request_id.clone(), expect_revision: change.expect_revision, dry_run: change.dry_run }
    }
}
