//! Controller and router are killed and started again: how long until every node is back at both.

use super::{Effort, nodes};
use crate::{bulk, report::Recorder, stack::Stack, subjects::Surroundings};
use anyhow::{Result, bail};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
/// The router's count of attached nodes.
const SESSIONS: &str = "hesper_router_sessions";

pub(super) async fn run(around: &Surroundings, effort: &Effort, to: &mut Recorder) -> Result<()> {
    let mut stack = Stack::start(&around.hesper).await?;
    let count = effort.reconnect_nodes;
    let files = bulk::identities(&mut stack, "reconnect", "reconnect", count).await?;
    let contexts = nodes::start(files).await?;
    for round in 0..effort.rounds.min(3) {
        stack.kill();
        let begun = Instant::now();
        stack.start_controller().await?;
        stack.start_router().await?;
        loop {
            let connected = contexts.iter().filter(|c| c.state().borrow().connected).count();
            let attached = metric(stack.router_metrics(), SESSIONS).await.unwrap_or_default() as usize;
            if connected == count && attached >= count {
                break;
            }
            if begun.elapsed() > PATIENCE {
                bail!("after {PATIENCE:?} {connected} of {count} nodes are connected, {attached} attached");
            }
            sleep(POLL).await;
        }
        to.add("reconnect", "hesper", &count.to_string(), round, begun.elapsed().as_secs_f64());
    }
    nodes::stop(contexts).await;
    Ok(())
}

/// One figure of a `/metrics` page.
pub(super) async fn metric(at: SocketAddr, name: &str) -> Result<f64> {
    let mut tcp = TcpStream::connect(at).await?;
    tcp.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut page = String::new();
    tcp.read_to_string(&mut page).await?;
    match find(&page, name) {
        Some(value) => Ok(value),
        None => bail!("there is no metric {name}"),
    }
}

/// The value of the line `name value`, with or without labels.
fn find(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let page = "# TYPE a gauge\na_b_total 7\na_b{x=\"1\"} 3\na 5\n";
        assert_eq!((find(page, "a"), find(page, "a_b"), find(page, "b")), (Some(5.0), Some(3.0), None));
    }
}
