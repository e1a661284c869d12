//! Somebody who looks at one manager all the time, by what any client can ask it.

use std::{sync::Arc, time::Duration};

use minder_proto::v1;

use crate::{seam, shared::Shared};

const INTERVAL: Duration = Duration::from_millis(120);
const PATIENCE: Duration = Duration::from_millis(400);

/// Looks for as long as the simulation lasts.
pub async fn look(shared: Arc<Shared>, at: usize) -> turmoil::Result {
    let mut control = shared.control(at)?;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let (call_us, run) = (seam::now_us(), shared.places[at].starts());
        let asked = tokio::time::timeout(PATIENCE, control.get_managers(v1::GetManagersRequest { local: true })).await;
        if let Ok(Ok(reply)) = asked
            && run == shared.places[at].starts()
        {
            reply.into_inner().managers.iter().for_each(|status| shared.look(at, (run, call_us), status));
        }
    }
}
