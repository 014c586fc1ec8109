//! Two collectors, one behind the other, with a hop between them that is encrypted and authenticated on both sides: Hesper over the mesh,
//! the Collector by mutual TLS.

use super::{
    Case,
    subjects::{Running, pinned},
};
use crate::{
    process::Program,
    stack::{Stack, free_port},
};
use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{fs, net::SocketAddr, path::Path};

/// The service between the two.
const SERVICE: &str = "otlp";

/// The edge and the centre over the mesh. The router's CPU time counts too.
pub(super) async fn mesh(
    program: &Path,
    case: &Case,
    listen: SocketAddr,
    sink: SocketAddr,
    directory: &Path,
) -> Result<Running> {
    let stack = Stack::start(program).await?;
    let (edge_file, centre_file) = (stack.enroll("edge")?, stack.enroll("centre")?);
    stack.cli(["create", "service", SERVICE])?;
    stack.allow("Bind", SERVICE, "@centre")?;
    stack.allow("Dial", SERVICE, "@edge")?;
    let start = |name: &'static str, from: String, to: String, identity: &str| -> Result<Program> {
        let file = directory.join(format!("{name}.yaml"));
        fs::write(&file, yaml(case, &from, &to))?;
        let mut command = pinned(program)?;
        command.args(["collect", "--config"]).arg(file).args(["-i", identity]);
        Program::start(name, command)
    };
    let mesh = format!("endpoint: 'hesper://{SERVICE}'");
    let plain = format!("endpoint: '{sink}', tls: {{insecure: true}}");
    let mut centre = start("centre", mesh.clone(), plain, &centre_file)?;
    centre.line(|line| line.starts_with("ready ").then_some(())).await?;
    let mut edge = start("edge", format!("endpoint: '{listen}'"), mesh, &edge_file)?;
    edge.line(|line| line.starts_with("ready ").then_some(())).await?;
    let others = vec![stack.router_pid()?];
    Ok(Running { collectors: vec![edge, centre], others, listen, _stack: Some(stack) })
}

/// The same by mutual TLS.
pub(super) async fn mutual_tls(
    program: &Path,
    case: &Case,
    listen: SocketAddr,
    sink: SocketAddr,
    directory: &Path,
) -> Result<Running> {
    certificates(directory)?;
    let between = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let tls = |ca: &str| {
        let file = |name: &str| directory.join(name).display().to_string();
        format!(
            "tls: {{cert_file: {}, key_file: {}, {ca}: {}}}",
            file("cert.pem"),
            file("key.pem"),
            file("ca.pem")
        )
    };
    let start = |name: &'static str, from: String, to: String| -> Result<Program> {
        let file = directory.join(format!("{name}.yaml"));
        fs::write(&file, yaml(case, &from, &to))?;
        let mut command = pinned(program)?;
        command.arg("--config").arg(file);
        Program::start(name, command)
    };
    let secured = format!("endpoint: '{between}', {}", tls("client_ca_file"));
    let plain = format!("endpoint: '{sink}', tls: {{insecure: true}}");
    let mut centre = start("centre", secured, plain)?;
    centre.listens(between).await?;
    let to = format!("endpoint: 'localhost:{}', {}", between.port(), tls("ca_file"));
    let mut edge = start("edge", format!("endpoint: '{listen}'"), to)?;
    edge.listens(listen).await?;
    Ok(Running { collectors: vec![edge, centre], others: Vec::new(), listen, _stack: None })
}

fn yaml(case: &Case, from: &str, to: &str) -> String {
    let signal = case.signal.name();
    format!(
        "receivers:
  otlp: {{protocols: {{grpc: {{{from}, max_recv_msg_size_mib: 64}}}}}}
exporters:
  otlp_grpc:
    {}
    compression: none
    sending_queue: {{queue_size: 100, wait_for_result: true, block_on_overflow: true}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}
  pipelines:
    {signal}: {{receivers: [otlp], exporters: [otlp_grpc]}}
",
        to.replace(", tls:", "\n    tls:")
    )
}

/// `ca.pem`, and `cert.pem` with `key.pem` for both sides.
fn certificates(directory: &Path) -> Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec!["localhost".to_owned()])?;
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;
    fs::write(directory.join("ca.pem"), ca_pem)?;
    fs::write(directory.join("cert.pem"), leaf.pem())?;
    fs::write(directory.join("key.pem"), key.serialize_pem())?;
    Ok(())
}
