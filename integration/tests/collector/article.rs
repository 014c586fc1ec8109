//! The OpenTelemetry article "Exposing a Collector": its two configurations as they are, in a network with its names, ports, ingress and
//! Kubernetes API; as the operator's manifests; and the same over the mesh, where there is no ingress.

use crate::kubernetes::Kubernetes;
use hesper_integration::{
    Collector, Lan, Netns, Place, Stack, StackOptions, binaries,
    otlp::{OtlpSink, Sdk, Sending},
    pki::Ingress,
    sockets::{self, Socket},
    wait_until,
};
use std::{fs, path::PathBuf, sync::Arc};

/// Where every program listens by default.
const OTLP: &str = "http://localhost:4317";
/// Spans of one test.
const SPANS: usize = 600;
/// What the resource processor would say, if it were in a pipeline.
const RESOURCE: [(&str, &str); 2] =
    [("cloud.availability_zone", "eu-west-1"), ("k8s.cluster.name", "edge-cluster-1")];

/// The two clusters: each a network namespace, and a third with Jaeger's.
struct Clusters {
    edge: Arc<Netns>,
    remote: Netns,
    sink: OtlpSink,
    ingress: Ingress,
    kubernetes: Arc<Kubernetes>,
    remote_place: Place,
    _jaeger: Netns,
    directory: tempfile::TempDir,
    _lan: Lan,
}

impl Clusters {
    fn new() -> Self {
        let lan = Lan::new();
        let [(edge, edge_ip), (remote, remote_ip), (jaeger, jaeger_ip)] =
            ["edge", "remote", "jaeger"].map(|name| lan.host(name));
        remote.hosts(&[("my-in-memory-collector", jaeger_ip)]);
        edge.hosts(&[("traces.example.com", remote_ip)]);
        let [edge_place, remote_place] =
            [(&edge, edge_ip), (&remote, remote_ip)].map(|(n, ip)| Place::namespace(n, ip));
        let directory = tempfile::tempdir().expect("a directory");
        let (outside, inside) = ((remote_ip, 443).into(), ([127, 0, 0, 1], 4317).into());
        let ingress =
            Ingress::start(&remote_place, outside, &["traces.example.com"], inside, directory.path());
        Self {
            sink: OtlpSink::start_in(&jaeger, jaeger_ip),
            ingress,
            kubernetes: Arc::new(Kubernetes::start(&edge_place)),
            edge: Arc::new(edge),
            remote,
            remote_place,
            _jaeger: jaeger,
            directory,
            _lan: lan,
        }
    }

    /// The collector of the remote cluster.
    fn server(&self, file: PathBuf) -> Collector {
        Collector::of_file("server", file).inside(&self.remote)
    }

    /// The one of a node of the edge cluster, in a pod with the article's service account.
    fn edge(&self, file: PathBuf) -> Collector {
        let (netns, kubernetes) = (self.edge.clone(), self.kubernetes.clone());
        Collector::of_file("edge", file)
            .by(move |program| kubernetes.in_pod(&netns, program))
            .env("KUBE_NODE_NAME", "node-a")
            .env("SSL_CERT_FILE", &self.ingress.files.authority.display().to_string())
    }

    /// An unmodified program in a pod of the edge cluster sends all signals.
    fn send(&self, service: &str, further: &str) -> Sending {
        let mut command = self.edge.wrap(&Sdk::Python.command("grpc", OTLP, SPANS, service, &[]));
        command.env("OTEL_RESOURCE_ATTRIBUTES", format!("k8s.pod.ip={}{further}", Kubernetes::POD_IP));
        Sending::by(command)
    }

    /// The same; only spans are taken.
    fn program(&self, service: &str, further: &str) -> Vec<String> {
        // The signals without a pipeline are UNIMPLEMENTED.
        let lines = self.send(service, further).output.fails_with(1).stdout;
        let spans: Vec<String> =
            lines.lines().filter(|line| line.starts_with("span ")).map(str::to_owned).collect();
        assert_eq!(spans.len(), SPANS, "{lines}");
        assert_eq!(
            lines.lines().filter(|line| line.starts_with("refused ")).count(),
            lines.lines().count() - SPANS
        );
        spans
    }

    /// A file that differs from another by this.
    fn changed(&self, name: &str, file: PathBuf, changes: &[(&str, &str)]) -> PathBuf {
        let mut text = fs::read_to_string(&file).expect("the example");
        for (from, to) in changes {
            assert!(text.contains(from), "no {from:?} in {}", file.display());
            text = text.replace(from, to);
        }
        let path = self.directory.path().join(name);
        fs::write(&path, text).expect("write the changed example");
        path
    }

    /// Waits for exactly these spans, each with what Kubernetes knows of its pod.
    #[track_caller]
    fn arrived(&self, spans: &[String]) {
        self.sink.wait_exactly(spans, &[], Stack::PATIENCE);
        for item in self.sink.items() {
            for (key, value) in Kubernetes::POD {
                assert_eq!(item.resource.get(key).as_deref(), Some(value), "{key} of {item:?}");
            }
        }
    }
}

fn example(name: &str) -> PathBuf {
    binaries::repository().join("examples/collector").join(name)
}

/// Number 8: the operator's manifests, of both versions, hold the same.
#[test]
fn the_articles_pair_works_as_it_is_printed() {
    works("article/server.yaml", "article/edge.yaml");
}

#[test]
fn the_operators_manifests_with_a_text_work() {
    works("operator/server-v1alpha1.yaml", "operator/edge-v1alpha1.yaml");
}

#[test]
fn the_operators_manifests_with_a_mapping_work() {
    works("operator/server-v1beta1.yaml", "operator/edge-v1beta1.yaml");
}

/// The eight points of acceptance, but that about the mesh.
fn works(server: &str, edge: &str) {
    let clusters = Clusters::new();
    let mut server = clusters.server(example(server)).start();

    // 1: with a wrong password nothing arrives, and both say why.
    let wrong = clusters.changed("wrong.yaml", example(edge), &[("password: 1234", "password: 12345")]);
    let mut refused = clusters.edge(wrong).start();
    clusters.program("wrong", "");
    wait_until("the edge is refused", Stack::PATIENCE, || {
        let lines = refused.process().lines();
        lines.iter().any(|line| line.to_ascii_uppercase().contains("UNAUTHENTICATED"))
    });
    assert!(refused.terminate().success());
    assert!(clusters.sink.items().is_empty());

    // 5: it is said that the processor is in no pipeline.
    let mut edge_collector = clusters.edge(example(edge));
    let check = edge_collector.check().ok().stdout;
    assert!(check.contains("resource") && check.contains("in no pipeline"), "{check}");
    edge_collector.restart();
    wait_until("the processor is told about", Stack::PATIENCE, || {
        edge_collector.process().said("in no pipeline")
    });

    // 2 and 4: spans arrive, with what Kubernetes knows. 5: without what is in no pipeline.
    let mut spans = clusters.program("shop", "");
    clusters.arrived(&spans);
    for item in clusters.sink.items() {
        assert!(RESOURCE.iter().all(|(key, _)| item.resource.get(key).is_none()), "{item:?}");
        assert_eq!(item.resource.get("hesper.identity.name").as_deref(), Some("user-1"), "{item:?}");
    }
    // 3: the exporter that writes to the log counts them.
    let counted =
        |line: &String| line.to_lowercase().contains("spans") && line.contains(|c: char| c.is_ascii_digit());
    assert!(edge_collector.process().lines().iter().any(counted), "no count of spans in the log");
    assert!(clusters.kubernetes.asked().iter().any(|asked| asked.contains("fieldSelector=spec.nodeName")));
    assert!(edge_collector.terminate().success());

    // 6: in the pipeline it adds both, and does not overwrite.
    let (from, to) = ("processors: [k8sattributes]", "processors: [k8sattributes, resource]");
    let mut edge_collector =
        clusters.edge(clusters.changed("both.yaml", example(edge), &[(from, to)])).start();
    let before = clusters.sink.items().len();
    spans.extend(clusters.program("shop", ",cloud.availability_zone=own"));
    clusters.arrived(&spans);
    for item in &clusters.sink.items()[before..] {
        assert_eq!(item.resource.get("cloud.availability_zone").as_deref(), Some("own"), "{item:?}");
        assert_eq!(item.resource.get("k8s.cluster.name").as_deref(), Some("edge-cluster-1"), "{item:?}");
    }
    assert!(edge_collector.terminate().success());
    assert!(server.terminate().success());
}

/// 7: the endpoint names a dark service, and nothing else changes: the password is still checked.
#[test]
fn the_same_works_without_an_ingress() {
    let clusters = Clusters::new();
    let stack = StackOptions::default().at(clusters.remote_place.clone()).start();
    let [server_id, edge_id] = ["server", "edge"].map(|name| stack.enroll(name, &[]));
    crate::ground::service(&stack, "otlp", "@server", "@edge");
    let from = "\n        auth:\n          authenticator: basicauth/server";
    let to = format!("\n        endpoint: hesper://otlp{from}");
    let server = clusters.changed("server.yaml", example("article/server.yaml"), &[(from, &to)]);
    let mut server = clusters.server(server).identity(&server_id).start();
    let dark = ("\"traces.example.com:443\"", "hesper://otlp");
    for (name, password, arrives) in [("wrong", "12345", false), ("right", "1234", true)] {
        let changes = [dark, ("password: 1234", &format!("password: {password}"))];
        let edge = clusters.changed(&format!("{name}.yaml"), example("article/edge.yaml"), &changes);
        let mut edge = clusters.edge(edge).identity(&edge_id).start();
        let spans = clusters.program(name, "");
        if arrives {
            clusters.arrived(&spans);
        } else {
            wait_until("the edge is refused", Stack::PATIENCE, || {
                edge.process()
                    .lines()
                    .iter()
                    .any(|line| line.to_ascii_uppercase().contains("UNAUTHENTICATED"))
            });
            assert!(clusters.sink.items().is_empty());
        }
        assert!(edge.terminate().success());
    }
    for item in clusters.sink.items() {
        assert_eq!(item.resource.get("hesper.identity.name").as_deref(), Some("edge"), "{item:?}");
    }
    assert!(server.terminate().success());
}

/// The pair of `examples/collector/dark/` as it is, with the policies that its manual names.
#[test]
fn the_dark_pair_works_as_it_is_printed() {
    let clusters = Clusters::new();
    let stack = StackOptions::default().at(clusters.remote_place.clone()).start();
    let policies = binaries::repository().join("policies/gateways.yaml").display().to_string();
    stack.cli(["policy", "apply", &policies, "--yes", "--jwt-dir", "tokens"]).ok();
    let [centre_id, edge_id] = ["centre", "edge-1"].map(|name| {
        let file = stack.path(&format!("{name}.json"));
        stack.cli(["enroll", &format!("tokens/{name}.jwt"), "-o", &file]).ok();
        file
    });
    let queue = |name: &str| clusters.directory.path().join(name).display().to_string();
    let mut centre = clusters
        .server(example("dark/centre.yaml"))
        .env("JAEGER", "my-in-memory-collector:4317")
        .env("HESPER_QUEUE", &queue("centre"))
        .identity(&centre_id)
        .start();
    let mut listeners = sockets::of_process(centre.process().pid());
    listeners.retain(Socket::listens_outside_loopback);
    assert!(listeners.is_empty(), "only the mesh reaches the centre: {listeners:?}");
    let mut edge = clusters
        .edge(example("dark/edge.yaml"))
        .env("HESPER_QUEUE", &queue("edge"))
        .identity(&edge_id)
        .start();
    let sent = clusters.send("shop", "").acknowledged(3 * SPANS);
    clusters.arrived(&sent);
    for item in clusters.sink.items() {
        assert!(
            RESOURCE.iter().all(|(key, value)| item.resource.get(key).as_deref() == Some(value)),
            "{item:?}"
        );
        assert_eq!(item.resource.get("hesper.identity.name").as_deref(), Some("edge-1"), "{item:?}");
    }
    assert!(edge.terminate().success());
    assert!(centre.terminate().success());
}
