//! Many nodes in this process, by the SDK.

use anyhow::{Context as _, Result};
use hesper_pki::identity_file::IdentityFile;
use hesper_sdk::Context;
use std::time::Duration;
use tokio::task::JoinSet;

/// Nodes that come up at the same time: their handshakes must not make each other late.
const AT_ONCE: usize = 32;
/// For one node.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a node of each identity and waits until all are attached.
pub(super) async fn start(files: Vec<IdentityFile>) -> Result<Vec<Context>> {
    let mut nodes = Vec::with_capacity(files.len());
    let mut starting = JoinSet::new();
    for file in files {
        if starting.len() == AT_ONCE {
            nodes.push(starting.join_next().await.context("a node")???);
        }
        starting.spawn(async move {
            let node = Context::from_identity(file, None)?;
            node.ready(PATIENCE).await?;
            anyhow::Ok(node)
        });
    }
    while let Some(node) = starting.join_next().await {
        nodes.push(node??);
    }
    Ok(nodes)
}

/// Ends them all.
pub(super) async fn stop(nodes: Vec<Context>) {
    let mut stopping = JoinSet::new();
    for node in nodes {
        stopping.spawn(async move { node.shutdown().await });
    }
    stopping.join_all().await;
}

/// One exchange with the target behind a service, on a stream of its own.
pub(super) async fn exchange(node: &Context, service: &str) -> Result<()> {
    let mut stream = node.dial(service).await?;
    tokio::io::AsyncWriteExt::write_u8(&mut stream, crate::target::Mode::Echo as u8).await?;
    crate::load::exchange(&mut stream).await
}
