//! Changes of the managers: one call tells its steps until it is done, over a change of leader in its middle.

use std::future::Future;

use minder_proto::v1;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    client::{Client, Control},
    error::Error,
    watch::Broken,
};

impl Client {
    /// Adds the manager at this peer address; the one that `replaces` names, if any, goes in the same change.
    pub async fn add_manager(
        &self,
        peer_address: String,
        replaces: String,
        tell: impl FnMut(v1::MembershipProgress),
    ) -> Result<v1::MembershipProgress, Error> {
        let request = v1::AddManagerRequest { peer_address, replaces };
        self.change_managers(request, |mut control, request| async move { control.add_manager(request).await }, tell)
            .await
    }

    /// Takes a manager out of the cluster, named by id or address.
    pub async fn remove_manager(
        &self,
        manager: String,
        tell: impl FnMut(v1::MembershipProgress),
    ) -> Result<v1::MembershipProgress, Error> {
        let request = v1::RemoveManagerRequest { manager };
        self.change_managers(request, |mut control, request| async move { control.remove_manager(request).await }, tell)
            .await
    }

    /// Gives a learner a vote, once it has caught up.
    pub async fn promote_manager(
        &self,
        manager: String,
        tell: impl FnMut(v1::MembershipProgress),
    ) -> Result<v1::MembershipProgress, Error> {
        let request = v1::PromoteManagerRequest { manager };
        self.change_managers(
            request,
            |mut control, request| async move { control.promote_manager(request).await },
            tell,
        )
        .await
    }

    /// Takes a manager's vote; it follows as a learner.
    pub async fn demote_manager(
        &self,
        manager: String,
        tell: impl FnMut(v1::MembershipProgress),
    ) -> Result<v1::MembershipProgress, Error> {
        let request = v1::DemoteManagerRequest { manager };
        self.change_managers(request, |mut control, request| async move { control.demote_manager(request).await }, tell)
            .await
    }

    /// Notes that a manager runs at another peer address now.
    pub async fn set_manager_address(
        &self,
        id: u64,
        peer_address: String,
        tell: impl FnMut(v1::MembershipProgress),
    ) -> Result<v1::MembershipProgress, Error> {
        let request = v1::SetManagerAddressRequest { id, peer_address };
        self.change_managers(
            request,
            |mut control, request| async move { control.set_manager_address(request).await },
            tell,
        )
        .await
    }

    /// Says it, tells the steps, and says it again when the leader went in the middle: what is done stays done.
    async fn change_managers<Q: Clone, F>(
        &self,
        request: Q,
        send: impl Fn(Control, Request<Q>) -> F,
        mut tell: impl FnMut(v1::MembershipProgress),
    ) -> Result<v1::MembershipProgress, Error>
    where
        F: Future<Output = Result<Response<Streaming<v1::MembershipProgress>>, Status>>,
    {
        let (mut broken, mut again) = (Broken::default(), false);
        loop {
            let opened = self.open(request.clone(), &send).await;
            let (address, mut steps) = match opened {
                Ok(open) => open,
                Err(error) => return gone(again, error),
            };
            let status = loop {
                match steps.message().await {
                    Ok(Some(step)) if step.done => {
                        self.learn_position(step.position.as_ref());
                        self.learn_managers(&step.member);
                        return Ok(step);
                    }
                    Ok(Some(step)) => {
                        broken = Broken::default();
                        tell(step);
                    }
                    Ok(None) => break Status::unavailable("the manager ended its answer in the middle"),
                    Err(status) => break status,
                }
            };
            let verdict = self.learn(&address, &status);
            if let Err(error) = broken.pause(self, verdict).await {
                return gone(again, error);
            }
            again = true;
        }
    }
}

/// What is not there any more when it is said again was removed by the time before.
fn gone(again: bool, error: Error) -> Result<v1::MembershipProgress, Error> {
    match error {
        Error::NothingMatched(_) if again => Ok(v1::MembershipProgress { done: true, ..Default::default() }),
        error => Err(error),
    }
}
