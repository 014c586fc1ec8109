//! What an idle node costs its router, and an idle peer its node: differences of resident memory over many.

use super::{Effort, nodes};
use crate::{bulk, process::resident_bytes, report::Recorder, stack::Stack, subjects::Surroundings};
use anyhow::Result;
use std::time::Duration;
use tokio::time::sleep;

/// Part of the nodes comes first: allocators and tables have then grown once.
const FIRST_SHARE: usize = 5;
/// Handshakes leave buffers behind that are given back after a while.
const SETTLE: Duration = Duration::from_secs(3);
const SERVICE: &str = "memory";

pub(super) async fn run(around: &Surroundings, effort: &Effort, to: &mut Recorder) -> Result<()> {
    let mut stack = Stack::start(&around.hesper).await?;
    let mut files = bulk::identities(&mut stack, "memory", "memory", effort.memory_nodes).await?;
    let host_file = stack.enroll("host")?;
    stack.publish(SERVICE, around.target, "host")?;
    let host = stack.tunnel("binder", &["host", "-i", &host_file]).await?;
    let rest = files.split_off(files.len() / FIRST_SHARE);
    let first = nodes::start(files).await?;
    sleep(SETTLE).await;
    let before = resident_bytes(stack.router_pid()?)?;
    let more = nodes::start(rest).await?;
    sleep(SETTLE).await;
    let after = resident_bytes(stack.router_pid()?)?;
    to.add("router_memory_per_node", "hesper", "", 0, per(before, after, more.len()));

    dial_all(&first).await?;
    sleep(SETTLE).await;
    let before = resident_bytes(host.pid())?;
    dial_all(&more).await?;
    sleep(SETTLE).await;
    let after = resident_bytes(host.pid())?;
    to.add("node_memory_per_peer", "hesper", "", 0, per(before, after, more.len()));
    nodes::stop(first).await;
    nodes::stop(more).await;
    Ok(())
}

async fn dial_all(contexts: &[hesper_sdk::Context]) -> Result<()> {
    for node in contexts {
        nodes::exchange(node, SERVICE).await?;
    }
    Ok(())
}

/// KiB each.
fn per(before: u64, after: u64, count: usize) -> f64 {
    after.saturating_sub(before) as f64 / 1024.0 / count as f64
}
