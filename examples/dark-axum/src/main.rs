//! An axum server that listens only on the overlay, and a client that dials it by name.
//!
//! ```text
//! dark-axum serve --identity server.json --service greeter
//! dark-axum get   --identity client.json --service greeter --path /hello/world
//! ```

use anyhow::Context as _;
use axum::{Router, extract::Path, routing::get};
use clap::{Parser, Subcommand};
use hesper_sdk::Context;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, header::HOST};
use hyper_util::rt::TokioIo;
use std::{path::PathBuf, time::Duration};

/// Largest answer that `get` prints, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// HTTP over the overlay, with axum on one side and hyper on the other.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve `GET /hello/NAME` on a dark service.
    Serve {
        /// Identity file.
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
        /// Service to bind.
        #[arg(long)]
        service: String,
    },
    /// Fetch one path from a dark service and print the body.
    Get {
        /// Identity file.
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
        /// Service to dial; `instance@service` asks for one instance.
        #[arg(long)]
        service: String,
        /// Path to fetch.
        #[arg(long, default_value = "/")]
        path: String,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match Args::parse().command {
        Command::Serve { identity, service } => serve(open(&identity)?, &service).await,
        Command::Get { identity, service, path } => fetch(open(&identity)?, &service, &path).await,
    }
}

fn open(identity: &std::path::Path) -> anyhow::Result<Context> {
    Context::from_identity_file(identity)
        .with_context(|| format!("cannot use identity {}", identity.display()))
}

async fn serve(overlay: Context, service: &str) -> anyhow::Result<()> {
    let app = Router::new()
        .route("/hello/{name}", get(|Path(name): Path<String>| async move { format!("hello, {name}\n") }));
    let listener = overlay.bind(service).await.with_context(|| format!("cannot bind {service}"))?;
    println!("dark-axum serves {service}");
    axum::serve(listener, app).await.context("server ended")
}

async fn fetch(overlay: Context, service: &str, path: &str) -> anyhow::Result<()> {
    overlay.ready(Duration::from_secs(30)).await.context("the mesh is not reachable")?;
    let stream = overlay.dial(service).await.with_context(|| format!("cannot dial {service}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, service).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await.context("no answer")?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
    print!("{}", String::from_utf8_lossy(&body.to_bytes()));
    anyhow::ensure!(status.is_success(), "{service}{path} answered {status}");
    overlay.shutdown().await;
    Ok(())
}
