//! The published OpenZiti how-to for Prometheus, with `ziti` written `hesper`: its commands, then the programs that it
//! installs, as we have them.
//!
//! | in the article | here |
//! |---|---|
//! | cluster A: ziti-host | `tunnel host --jwt`, as `kubeA.ziti.id` |
//! | cluster A: reflectz | `examples/reflectz`, as `kubeA.reflect.id` |
//! | cluster A: Prometheus that scrapes over the mesh | Debian's Prometheus and `tunnel run`, as `kubeA.prometheus.id` |
//! | cluster B: reflectz | `examples/reflectz`, as `kubeB.reflect.id` |
//! | cluster B: Prometheus that listens on the mesh only | Debian's on loopback, `tunnel run` as `kubeB.prometheus.id` hosts it |
//! | the central Prometheus that federates | the one of cluster A |

use hesper_integration::{Place, Process, Prometheus, Stack, binaries, http, wait_until};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
};

/// Runs the commands of one cluster; nothing may fail, and each identity is told as OpenZiti tells it.
fn configure(stack: &Stack, cluster: &str) {
    let path = binaries::repository().join(format!("integration/article/cluster-{cluster}.sh"));
    let script = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let script = script.replace("/tmp/prometheus", &stack.path("prometheus"));
    // Traced, so that a failing command is named.
    let done = stack.script(&format!("set -x\n{script}")).ok();
    let commands = script.lines().filter(|line| line.starts_with("hesper ")).count();
    assert_eq!(done.stderr.lines().filter(|line| line.starts_with("+ hesper edge ")).count(), commands);
    let identities = script.lines().filter(|line| line.starts_with("hesper edge create identity ")).count();
    for told in [" created with id: ", "Enrollment expires at "] {
        let lines = done.stdout.lines().filter(|line| line.contains(told));
        assert_eq!(
            lines.filter(|line| !line.starts_with("New ") || line.contains(" identity ")).count(),
            identities
        );
    }
}

/// An identity of the article, by the path of its file.
fn identity(stack: &Stack, name: &str) -> String {
    stack.path(&format!("prometheus/{name}.json"))
}

fn reflectz(stack: &Stack, cluster: &str) -> Process {
    let (echo, scrape) = (format!("{cluster}.reflect.svc"), format!("{cluster}.reflect.scrape.svc"));
    let file = identity(stack, &format!("{cluster}.reflect.id"));
    let arguments = ["--identity", &file, "--service", &echo, "--prometheus-service", &scrape];
    let mut process = stack.example_at(&Place::host(), "reflectz", arguments);
    process.wait_for_line("it serves", Stack::PATIENCE, |line| line.contains("serves").then_some(()));
    process
}

/// Starts a tunneler and waits until it is ready.
fn tunnel(stack: &Stack, arguments: &[&str]) -> (Process, String) {
    let mut process = stack.node(&arguments.join(" "), [&["tunnel"], arguments].concat());
    let ready = process
        .wait_for_line("it is ready", Stack::PATIENCE, |line| line.strip_prefix("ready ").map(str::to_owned));
    (process, ready)
}

/// The address that a tunneler told for `name`.
fn told(ready: &str, name: &str) -> SocketAddr {
    let address = ready.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("no {name} in: {ready}"))
}

/// A configuration of `examples/prometheus/` for the tunneler at `proxy`, scraping every second.
fn example(file: &str, proxy: SocketAddr) -> String {
    let path = binaries::repository().join("examples/prometheus").join(file);
    let text = fs::read_to_string(path).expect("the example's configuration");
    text.replace("127.0.0.1:9180", &proxy.to_string()).replace("15s", "1s")
}

/// The example for `/sd`, of just these services.
fn discovering(proxy: SocketAddr, services: &[&str]) -> String {
    let query = services.iter().map(|s| format!("service={s}")).collect::<Vec<_>>().join("&");
    let config = example("prometheus.yml", proxy);
    assert!(config.contains("/sd?role=%23scrape\n"), "{config}");
    config.replace("/sd?role=%23scrape", &format!("/sd?{query}"))
}

/// The `host.v1` config of a Prometheus on loopback.
fn host_v1(prometheus: &Prometheus, more: &str) -> String {
    let address = prometheus.address();
    format!(r#"{{"protocol":"tcp","address":"{}","port":{}{more}}}"#, address.ip(), address.port())
}

/// Sends one line over a new connection and gives the answer.
fn ask(address: SocketAddr, line: &str) -> String {
    let mut connection = TcpStream::connect(address).expect("the tunneler listens");
    connection.set_read_timeout(Some(Stack::PATIENCE)).expect("a socket option");
    writeln!(connection, "{line}").expect("send");
    let mut answer = String::new();
    BufReader::new(connection).read_line(&mut answer).expect("an answer");
    answer
}

/// `ziti-host` of cluster A: enrolls at its first start, keeps the identity for the next.
fn ziti_host(stack: &Stack) -> Process {
    let (file, token) = (identity(stack, "kubeA.ziti.id"), stack.path("prometheus/kubeA.ziti.id.jwt"));
    let arguments = ["host", "-i", &file, "--jwt", &token];
    let (mut first, _) = tunnel(stack, &arguments);
    let mode = fs::metadata(&file).expect("the identity file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = fs::read(&file).expect("the identity file");
    assert!(first.terminate(Stack::PATIENCE).success());
    let (second, ready) = tunnel(stack, &arguments);
    assert_eq!(ready, "identity=kubeA.ziti.id");
    assert_eq!(fs::read(&file).expect("the identity file"), kept, "enrolled again");
    second
}

#[test]
fn the_article_works_as_published() {
    let stack = Stack::start();
    fs::create_dir(stack.path("prometheus")).expect("the article's directory");
    configure(&stack, "a");
    configure(&stack, "b");

    let _reflectz = [reflectz(&stack, "kubeA"), reflectz(&stack, "kubeB")];
    let _ziti_host = ziti_host(&stack);

    // Cluster B: a Prometheus on loopback, which its tunneler both serves (/sd, proxy) and hosts.
    let file = identity(&stack, "kubeB.prometheus.id");
    let (_run_b, ready) = tunnel(&stack, &["run", "-i", &file, "--proxy", "127.0.0.1:0"]);
    let config = discovering(told(&ready, "proxy"), &["kubeB.reflect.scrape.svc"]);
    // What it passes on in a federation is told apart by its cluster.
    let config = config.replacen("global:\n", "global:\n  external_labels: {cluster: kubeB}\n", 1);
    let prometheus_b = Prometheus::start(&config);
    // The article's binds the service itself; an unmodified one is hosted, by the instance id that dialers ask for.
    let host = host_v1(&prometheus_b, r#","listenOptions":{"bindUsingEdgeIdentity":true}"#);
    stack.cli(["edge", "create", "config", "kubeB.prometheus.svc-host.v1", "host.v1", &host]).ok();
    let configs = "kubeB.prometheus.svc-intercept.v1,kubeB.prometheus.svc-host.v1";
    stack.cli(["edge", "update", "service", "kubeB.prometheus.svc", "--configs", configs]).ok();

    // Cluster A: scrapes both reflectz and both Prometheus servers over the mesh, and federates the other one.
    let file = identity(&stack, "kubeA.prometheus.id");
    let (_run_a, ready) = tunnel(&stack, &["run", "-i", &file, "--proxy", "127.0.0.1:0"]);
    let proxy = told(&ready, "proxy");
    let scraped = [
        "kubeA.reflect.scrape.svc",
        "kubeB.reflect.scrape.svc",
        "kubeA.prometheus.svc",
        "kubeB.prometheus.svc",
    ];
    let federate = example("federate.yml", proxy);
    let (_, federate) = federate.split_once("scrape_configs:\n").expect("scrape_configs");
    let prometheus_a = Prometheus::start(&format!("{}{federate}", discovering(proxy, &scraped)));
    // There is no DNS for the name that the article gives it.
    stack
        .cli(["edge", "update", "config", "kubeA.prometheus.svc-host.v1", "-d", &host_v1(&prometheus_a, "")])
        .ok();

    // The operator sees where each is hosted now, and under which instance id.
    for (service, instance, prometheus) in [
        ("kubeA.prometheus.svc", "kubeA.ziti.id", &prometheus_a),
        ("kubeB.prometheus.svc", "kubeB.prometheus.id", &prometheus_b),
    ] {
        let expected = [instance.to_owned(), format!("tcp:{}", prometheus.address())];
        wait_until("the terminator is as configured", Stack::PATIENCE, || {
            let filter = format!(r#"service.name = "{service}""#);
            let listed = stack.cli(["edge", "list", "terminators", &filter, "-j"]).ok().json();
            let [only] = listed["data"].as_array().map_or(&[][..], Vec::as_slice) else { return false };
            ["identity", "address"].map(|field| only[field].as_str().unwrap_or_default()) == expected
        });
    }

    prometheus_b.wait_all_up("up", 1);
    let found = prometheus_a.wait_all_up(r#"up{job="mesh",cluster=""}"#, scraped.len());
    let mut services: Vec<_> = found.iter().map(|sample| sample.labels["service"].as_str()).collect();
    services.sort_unstable();
    let mut expected = scraped;
    expected.sort_unstable();
    assert_eq!(services, expected);
    prometheus_a.wait_all_up(r#"up{job="federate"}"#, 1);
    // And what came by federation: the other's own scrape. Nothing else is there.
    prometheus_a.wait_all_up(r#"up{cluster="kubeB",service="kubeB.reflect.scrape.svc"}"#, 1);
    prometheus_a.wait_all_up("up", scraped.len() + 2);

    // Connections move the counters, wherever they are read.
    let file = identity(&stack, "kubeA.prometheus.id");
    let services = ["kubeA.reflect.svc:0", "kubeB.reflect.svc:0"];
    let (_proxy, ready) = tunnel(&stack, &["proxy", "-i", &file, services[0], services[1]]);
    for (cluster, connections) in [("kubeA", 3), ("kubeB", 2)] {
        let counter = format!(r#"reflectz_connections_total{{service="{cluster}.reflect.scrape.svc"}}"#);
        prometheus_a.wait_sample(&counter, |sample| sample.value == 0.0);
        let address = told(&ready, &format!("{cluster}.reflect.svc"));
        for number in 0..connections {
            assert_eq!(ask(address, &format!("hello {number}")), format!("you sent me: hello {number}\n"));
        }
        let moved = |sample: &hesper_integration::Sample| sample.value == f64::from(connections);
        prometheus_a.wait_sample(&counter, moved);
    }
    let federated = prometheus_a
        .wait_sample(r#"reflectz_connections_total{cluster="kubeB"}"#, |sample| sample.value == 2.0);
    assert_eq!(federated.labels["identity"], "kubeB.reflect.id");

    // The article's Prometheus of cluster A is there for whoever may dial it, by its intercept address.
    wait_until("Prometheus A answers over the mesh", Stack::PATIENCE, || {
        let url = "http://kubeA.prometheus.svc/api/v1/query?query=up";
        http::curl(None, &["-x", &format!("http://{proxy}"), url]).is_ok_and(|answer| answer.status == 200)
    });
}
