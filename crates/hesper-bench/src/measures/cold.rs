//! The first dial of a node: it asks the controller, shows the pass to the router, and shakes hands with the hosting node.

use super::{Effort, nodes};
use crate::{bulk, report::Recorder, stack::Stack, subjects::Surroundings};
use anyhow::Result;
use std::time::Instant;
use tokio::task::JoinSet;

/// Dials of each kind per round.
const NODES: usize = 16;
const AT_ONCE: usize = 8;
const SERVICE: &str = "cold";

pub(super) async fn run(around: &Surroundings, effort: &Effort, to: &mut Recorder) -> Result<()> {
    let mut stack = Stack::start(&around.hesper).await?;
    let files = bulk::identities(&mut stack, "cold", "cold", NODES).await?;
    let host = stack.enroll("host")?;
    stack.publish(SERVICE, around.target, "host")?;
    let _host = stack.tunnel("binder", &["host", "-i", &host]).await?;
    for round in 0..=effort.rounds {
        for at_once in [1, AT_ONCE] {
            let contexts = nodes::start(files.clone()).await?;
            let begun = Instant::now();
            for group in contexts.chunks(at_once) {
                let mut dials = JoinSet::new();
                for node in group {
                    let node = node.clone();
                    dials.spawn(async move { nodes::exchange(&node, SERVICE).await });
                }
                while let Some(done) = dials.join_next().await {
                    done??;
                }
            }
            let rate = NODES as f64 / begun.elapsed().as_secs_f64();
            // The first round warms up the controller and the host.
            if round > 0 {
                to.add(&format!("cold_dial_{at_once}"), "hesper", "", round - 1, rate);
            }
            nodes::stop(contexts).await;
        }
    }
    Ok(())
}
