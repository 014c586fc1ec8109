//! What the mesh's own tracing costs: dials and a stream through a pair of tunnels that does not trace, beside pairs that record nothing, one
//! trace in a hundred, every one, and every one without a receiver. All run at the same time, and have their turn in each round; the spans go to a real receiver.

use super::Effort;
use crate::{
    load,
    otlp::sink::Sink,
    process::{Program, cpu_seconds},
    report::Recorder,
    stack::{Stack, free_port},
    subjects::Surroundings,
};
use anyhow::{Context, Result};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// New connections at the same time.
const AT_ONCE: usize = 8;
/// Sent in one measurement of a stream.
const BYTES: u64 = 256 << 20;
/// The pairs: what they are called, and how much of a million they record.
const PAIRS: [(&str, Option<&str>); 4] =
    [("off", None), ("0", Some("0")), ("1 %", Some("10000")), ("100 %", Some("1000000"))];
/// One more: every trace, and an exporter that nobody answers for.
const DOWN: &str = "100 %, no receiver";

/// A host and a proxy for it.
struct Pair {
    part: &'static str,
    address: SocketAddr,
    programs: [Program; 2],
}

impl Pair {
    async fn start(
        stack: &Stack,
        target: SocketAddr,
        part: &'static str,
        rate: Option<&str>,
        exporter: &str,
    ) -> Result<Self> {
        let number = if part == DOWN { "down" } else { rate.unwrap_or("off") };
        let (service, host, client) =
            (format!("bench-{number}"), format!("host-{number}"), format!("client-{number}"));
        let (host_file, client_file) = (stack.enroll(&host)?, stack.enroll(&client)?);
        stack.publish(&service, target, &host)?;
        let mut tracing = Vec::new();
        if let Some(rate) = rate {
            let flags = ["--tracing-exporter-url", exporter, "--tracing-sampling-rate-per-million", rate];
            tracing.extend(flags);
        }
        let host = stack.tunnel("binder", &[&["host", "-i", &host_file][..], &tracing].concat()).await?;
        let spec = format!("{service}:0");
        let arguments = [&["proxy", "-i", &client_file, &spec][..], &tracing].concat();
        let mut proxy = stack.tunnel("dialer", &arguments).await?;
        let told = |line: &str| {
            let words = line.strip_prefix("ready ")?.split_whitespace();
            words.filter_map(|word| word.strip_prefix(&*service)?.strip_prefix('=')?.parse().ok()).next()
        };
        let address = proxy.line(told).await.context("the proxy's address")?;
        let begun = Instant::now();
        while let Err(error) = load::upload(address, 1).await {
            if begun.elapsed() > crate::process::PATIENCE {
                return Err(error).context("nothing comes through the mesh");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { part, address, programs: [proxy, host] })
    }

    fn cpu(&self) -> f64 {
        self.programs.iter().map(|program| cpu_seconds(program.pid())).sum()
    }

    async fn measure(&self, round: usize, effort: &Effort, to: &mut Recorder) -> Result<()> {
        let span = Duration::from_secs_f64(effort.seconds);
        let before = self.cpu();
        let times = load::dials(self.address, AT_ONCE, span).await?;
        let (dials, cpu) = (times.len() as f64, self.cpu() - before);
        to.add("traced_dials", "hesper", self.part, round, dials / span.as_secs_f64());
        to.add("traced_dial_cpu", "hesper", self.part, round, cpu * 1e6 / dials.max(1.0));
        let taken = load::upload(self.address, BYTES).await?;
        to.add("traced_throughput", "hesper", self.part, round, BYTES as f64 * 8e-9 / taken);
        Ok(())
    }
}

pub(super) async fn run(around: &Surroundings, effort: &Effort, to: &mut Recorder) -> Result<()> {
    let stack = Stack::start(&around.hesper).await?;
    let sink = Sink::start().await?;
    let exporter = format!("grpc://{}", sink.address);
    let mut pairs = Vec::new();
    for (part, rate) in PAIRS {
        pairs.push(Pair::start(&stack, around.target, part, rate, &exporter).await?);
    }
    let nobody = format!("grpc://127.0.0.1:{}", free_port()?);
    pairs.push(Pair::start(&stack, around.target, DOWN, Some("1000000"), &nobody).await?);
    for round in 0..effort.rounds {
        // Whoever goes first finds the machine another than whoever goes last.
        pairs.rotate_left(1);
        for pair in &pairs {
            pair.measure(round, effort, to).await.with_context(|| format!("tracing {}", pair.part))?;
        }
    }
    Ok(())
}
