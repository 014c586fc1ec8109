//! The vocabulary of the whole-system tests: everything runs for real, as processes of the built binary.
//!
//! ```no_run
//! use hesper_integration::{Prometheus, Stack, wait_until};
//! let stack = Stack::start(); // quickstart on free ports in its own directory, an administrator logged in
//! stack.cli(["create", "service", "metrics"]).ok();
//! assert_eq!(stack.cli(["create", "service"]).code, 2);
//! let identity = stack.enroll("node", &["scraped"]); // a file, as `enroll` leaves it
//! let node = stack.node("host", ["tunnel", "host", "-i", identity.as_str()]);
//! wait_until("the node is online", Stack::PATIENCE, || node.said("attached"));
//! ```
//!
//! - [`Stack`]: controller and router, in one process ([`Stack::start`]) or in two that can be killed and started again
//!   ([`Stack::separate`]); in the host's network or in namespaces. [`Stack::cli`] runs one command and gives an [`Output`].
//!   [`StackOptions`]: with several routers, each behind a link, with settings of the controller.
//! - [`Collector`]: `hesper collect`, which can be killed, started again and told to read its configuration anew.
//! - [`Link`]: a bad network before a router: [`Faults`] that change while it runs, partitions, NAT rebinding, hostile routers.
//! - [`Oracle`]: a server and a client that know at once when a byte is lost, doubled or changed, and how long nothing came.
//! - [`hostile`]: a node that speaks the protocols and decides itself what it shows to whom.
//! - [`Process`]: a running program. Ends with its guard. A test **fails** when one of ours logged at level ERROR or
//!   panicked, unless [`Process::forgive`] said so; when a test fails, the last lines of its processes are printed.
//! - [`wait_until`], [`wait_for`]: the only way to wait. Conditions, never naps. A test that hangs all the same is ended, with the last
//!   lines of its processes.
//! - [`Lan`], [`Netns`]: network namespaces on a bridge; [`sockets`]: who listens where, read from `/proc`;
//!   [`search`]: words in packets and in the memory of a process.
//! - [`Prometheus`], [`NodeExporter`], [`http`] (curl), [`otlp::Sdk`] (OpenTelemetry's SDKs for Python and JavaScript), [`Otelcol`]: the real peers.
//!   `cargo xtask test` installs them.
//! - [`otlp::OtlpSink`] knows what arrived, [`otlp::Load`] what was acknowledged, [`otlp::RpcStatus`] what was refused and how.
//! - [`pki`]: certificates, and an ingress that ends TLS.
//!
//! The tests use `target/<profile>/hesper` (or `$HESPER_BIN`), which `cargo test` does not rebuild:
//! `cargo build -p hesper -p reflectz -p dark-axum` first, or let `cargo xtask test` do it all. Network namespaces need root.

pub mod binaries;
mod collector;
pub mod hostile;
pub mod http;
mod link;
mod netns;
mod oracle;
mod otelcol;
pub mod otlp;
mod output;
pub mod pki;
mod ports;
mod process;
mod prometheus;
pub mod search;
pub mod sockets;
mod stack;
mod wait;
mod watchdog;

pub use collector::Collector;
pub use link::{Burst, Counters, Faults, Link, LinkCounters, Out, Packet, Tamper, Way};
pub use netns::{Lan, Netns};
pub use oracle::{Oracle, Plan, Received, Report, Transfer};
pub use otelcol::Otelcol;
pub use output::{Output, run};
pub use ports::free_port;
pub use process::Process;
pub use prometheus::{NodeExporter, Prometheus, Sample};
pub use stack::{Place, Stack, StackOptions};
pub use wait::{wait_for, wait_until};
