//! Hesper itself: one service, hosted by `tunnel host`, dialed by `tunnel proxy`.

use super::Subject;
use crate::stack::Stack;
use anyhow::{Context, Result};
use std::{net::SocketAddr, path::Path};

/// The service of every measurement.
pub(crate) const SERVICE: &str = "bench";

/// What the other measurements need of it.
pub(crate) struct Hesper {
    /// Controller and router.
    pub(crate) stack: Stack,
}

/// Controller, router, host and proxy.
pub(super) async fn start(binary: &Path, target: SocketAddr) -> Result<Subject> {
    let stack = Stack::start(binary).await?;
    let (host, client) = (stack.enroll("host")?, stack.enroll("client")?);
    stack.publish(SERVICE, target, "host")?;
    let host = stack.tunnel("binder", &["host", "-i", &host]).await?;
    let mut proxy = stack.tunnel("dialer", &["proxy", "-i", &client, &format!("{SERVICE}:0")]).await?;
    let told = |line: &str| {
        let words = line.strip_prefix("ready ")?.split_whitespace();
        words.filter_map(|word| word.strip_prefix(SERVICE)?.strip_prefix('=')?.parse().ok()).next()
    };
    let address = proxy.line(told).await.context("the proxy's address")?;
    // The host has bound when a first exchange comes through.
    let begun = std::time::Instant::now();
    while let Err(error) = crate::load::upload(address, 1).await {
        if begun.elapsed() > crate::process::PATIENCE {
            return Err(error).context("nothing comes through the mesh");
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut subject = Subject::new("hesper", address, vec![proxy, host]);
    subject.hesper = Some(Hesper { stack });
    Ok(subject)
}
