//! `bench-scale`: a large fleet on one machine. Three real managers, and thousands of pretended slaves that speak the real
//! protocol, with a connection of their own to each manager, and do at once what they are told.
//!
//! Managers, slaves and this program share the machine's cores, so every time in here has the cost of the pretended slaves
//! in it; how much CPU they took stands beside it. Nothing of the managers is turned off or tuned.
#![allow(clippy::unwrap_used)]

mod fleet;
mod idle;
mod options;
mod specs;

use minder_chaos_tests::{
    be_a_crowd_if_asked,
    usage::{conditions, load},
};

use crate::{fleet::Fleet, options::Options};

#[tokio::main(worker_threads = 2)]
async fn main() {
    be_a_crowd_if_asked().await;
    let options = Options::read();
    let folder = tempfile::tempdir().unwrap();
    println!("machine: {}", conditions(folder.path()));
    if options.has("idle") {
        idle::measure(options.window).await;
    }
    if options.has("fleet") {
        let mut fleet = Fleet::start(&options).await;
        fleet.come().await;
        fleet.fill(options.few).await;
        let few = fleet.changes("with few instances").await;
        fleet.fill(options.instances).await;
        let many = fleet.changes("with all instances").await;
        println!("change told, all / few instances: {:.2}", many.as_secs_f64() / few.as_secs_f64());
        fleet.everywhere().await;
        fleet.rest(options.window).await;
        fleet.lose_leader().await;
        fleet.start_again().await;
    }
    println!("load at the end {}", load());
}
