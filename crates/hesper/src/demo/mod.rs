//! `hesper demo`: the whole product in one process and one temporary directory, each claim tried out.
//!
//! - [`network`]: controller, router, administrator; identities, services, policies.
//! - [`strangers`]: those who must get nothing.
//! - [`sockets`]: which ports this process has open.
//!
//! Each step prints what was found. The first that is not true ends the demo with exit code 1.

mod network;
mod sockets;
mod strangers;

use crate::{output, serve::Stop};
use anyhow::{Context as _, Result, bail, ensure};
use hesper_sdk::{Context, DialErrorKind};
use hesper_tunnel::run::{self, RunOptions};
use network::{CLIENT, METRICS, Network, OUTSIDER, REFLECT, WORKLOAD};
use serde_json::Value;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    time::{sleep, timeout},
};

/// How long one step may take.
const STEP_DEADLINE: Duration = Duration::from_secs(20);
/// How long a node may take to reach controller and router.
const READY_DEADLINE: Duration = Duration::from_secs(10);
/// How often something is looked for that is on its way.
const POLL: Duration = Duration::from_millis(20);
/// How often it is looked whether the proxy is gone.
const PROXY_GONE_POLLS: usize = 100;
const GREETING: &str = "hello, dark world";

/// Runs the demo.
///
/// # Errors
/// The step that was not true.
pub(crate) async fn run() -> Result<()> {
    let mut stop = Stop::catch()?;
    let directory =
        tempfile::Builder::new().prefix("hesper-demo-").tempdir().context("no temporary directory")?;
    output::line(format_args!(
        "everything in this process and in {}, which is removed at the end\n",
        directory.path().display()
    ))?;
    tokio::select! {
        done = tell(directory.path()) => done,
        () = stop.asked() => bail!("interrupted"),
    }
}

/// Numbers, times and prints the steps.
struct Teller {
    step: usize,
    started: Instant,
}

impl Teller {
    /// One step: `work` returns what the next steps need, and what was found.
    async fn step<T>(&mut self, claim: &str, work: impl Future<Output = Result<(T, String)>>) -> Result<T> {
        self.step += 1;
        let result = timeout(STEP_DEADLINE, work).await;
        let result =
            result.unwrap_or_else(|_| bail!("nothing happened within {} s", STEP_DEADLINE.as_secs()));
        match result {
            Ok((value, found)) => {
                output::line(format_args!("{:>2}. {claim}\n    ok: {found}", self.step))?;
                Ok(value)
            }
            Err(e) => {
                output::line(format_args!("{:>2}. {claim}\n    NOT TRUE", self.step))?;
                Err(e.context(format!("step {} is not true ({claim})", self.step)))
            }
        }
    }
}

async fn tell(directory: &std::path::Path) -> Result<()> {
    let mut teller = Teller { step: 0, started: Instant::now() };
    let network = teller.step("A controller and a router start.", Network::start(directory)).await?;
    teller
        .step(
            "The administrator makes three identities, two services and the policies between them.",
            network.populate(),
        )
        .await?;
    let tokens = teller
        .step("Each identity redeems its one-time token for a key of its own.", network.enroll())
        .await?;
    teller
        .step("A token works once: whoever finds it later gets nothing.", network.enroll_again(&tokens))
        .await?;
    let workload = network.node(WORKLOAD)?;
    let bound = teller
        .step("The workload (reflectz) binds both services and listens on no port.", bind(&workload))
        .await?;
    let serving = tokio::spawn(bound.serve());
    let client = network.node(CLIENT)?;
    teller.step("The client dials the workload by name.", dial(&client)).await?;
    teller
        .step("An unmodified HTTP client finds and scrapes its metrics through the proxy.", scrape(&client))
        .await?;
    let outsider = network.node(OUTSIDER)?;
    teller.step("An enrolled identity without a policy is refused.", refused(&outsider)).await?;
    teller
        .step("A stranger with a certificate of its own making is refused.", strangers::forger(&network))
        .await?;
    teller
        .step(
            "No port listens but the controller's and the router's, and strangers' packets get no answer.",
            silent(&network),
        )
        .await?;
    serving.abort();
    tokio::join!(workload.shutdown(), client.shutdown(), outsider.shutdown());
    network.shutdown().await;
    let (steps, seconds) = (teller.step, teller.started.elapsed().as_secs_f32());
    Ok(output::line(format_args!("\nall {steps} steps are true ({seconds:.1} s)"))?)
}

async fn bind(workload: &Context) -> Result<(reflectz::Reflectz, String)> {
    let bound = reflectz::bind(workload, REFLECT, METRICS).await?;
    Ok((bound, format!("{REFLECT} and {METRICS} are bound")))
}

async fn dial(client: &Context) -> Result<((), String)> {
    client.ready(READY_DEADLINE).await?;
    let mut stream = client.dial(REFLECT).await?;
    stream.write_all(format!("{GREETING}\n").as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(&mut stream).read_line(&mut answer).await?;
    ensure!(answer == format!("you sent me: {GREETING}\n"), "the answer was {answer:?}");
    Ok(((), format!("sent \"{GREETING}\", got back \"{}\"", answer.trim_end())))
}

/// What Prometheus does: ask `/sd`, then send absolute-form GETs to the proxy.
async fn scrape(client: &Context) -> Result<((), String)> {
    let options = RunOptions { proxy: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..RunOptions::default() };
    let tunneler = run::start(client.clone(), options).await?;
    let proxy = format!("http://{}", tunneler.proxy_addr);
    let http = http_client(None)?;
    let target = loop {
        let groups: Value = serde_json::from_str(&text(&http, &format!("{proxy}/sd")).await?)?;
        let ours =
            groups.as_array().into_iter().flatten().find(|g| g["labels"]["__meta_hesper_service"] == METRICS);
        match ours.and_then(|g| g["targets"][0].as_str()) {
            Some(target) => break target.to_owned(),
            None => sleep(POLL).await,
        }
    };
    let metrics = text(&http_client(Some(&proxy))?, &format!("http://{target}/metrics")).await?;
    let connections = metrics.lines().find(|l| l.starts_with("reflectz_connections_total "));
    let connections = connections.context("there is no counter reflectz_connections_total in the metrics")?;
    ensure!(connections == "reflectz_connections_total 1", "after one connection it says {connections:?}");
    Ok(((), format!("/sd gave {target}, which says {connections}")))
}

fn http_client(proxy: Option<&str>) -> Result<reqwest::Client> {
    let builder = crate::plain_http::client(STEP_DEADLINE)?;
    let builder = match proxy {
        Some(proxy) => builder.proxy(reqwest::Proxy::http(proxy)?),
        None => builder,
    };
    Ok(builder.build()?)
}

async fn text(http: &reqwest::Client, url: &str) -> Result<String> {
    let answer = http.get(url).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success(), "GET {url} was answered {status}: {}", text.trim());
    Ok(text)
}

async fn refused(outsider: &Context) -> Result<((), String)> {
    outsider.ready(READY_DEADLINE).await?;
    let mut messages = Vec::new();
    let unknown = "no.such.service";
    for service in [REFLECT, unknown] {
        match outsider.dial(service).await {
            Ok(_) => bail!("the dial of {service} succeeded"),
            Err(e) if e.kind() == DialErrorKind::Denied => messages.push(e.to_string()),
            Err(e) => return Err(e.into()),
        }
    }
    ensure!(
        messages[0].replace(REFLECT, unknown) == messages[1],
        "a service that exists is refused in other words than one that does not: {messages:?}"
    );
    Ok(((), format!("{}; a service that does not exist is refused in the same words", messages[0])))
}

async fn silent(network: &Network) -> Result<((), String)> {
    let (controller, router) = (network.controller_address(), network.router_address()?);
    let mut open = sockets::of_this_process()?;
    // The proxy of an earlier step was told to end; its listener closes when its task is next looked at.
    for _ in 0..PROXY_GONE_POLLS {
        if open.tcp_listening == [controller] {
            break;
        }
        sleep(POLL).await;
        open = sockets::of_this_process()?;
    }
    ensure!(open.tcp_listening == [controller], "these TCP ports listen: {:?}", open.tcp_listening);
    ensure!(open.udp_open == [router], "these UDP ports are open: {:?}", open.udp_open);
    strangers::probe(router).await?;
    Ok(((), format!("TCP {controller} and UDP {router} are all there is, and the router was silent")))
}
