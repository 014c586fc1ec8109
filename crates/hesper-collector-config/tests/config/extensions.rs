//! Extensions: every key, every default.

use crate::{extension, faults};
use hesper_collector_config::{
    Address, Endpoint, Secret,
    extensions::{
        BasicAuth, BasicAuthClient, BasicAuthServer, BearerTokenAuth, Extension, FileStorage, HeaderAction,
        HeaderSource, HeadersSetter, HealthResponses, Oidc, OidcProvider, SetHeader, WhenFull,
    },
};
use std::time::Duration;

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Each body gives one fault with this in it.
fn refused(kind: &str, bodies: &[(&str, &str)]) {
    for (body, reason) in bodies {
        let faults = faults(&format!("extensions: {{{kind}: {body}}}"));
        assert_eq!(faults.len(), 1, "{body}: {faults:#?}");
        assert!(faults[0].contains(reason), "{body}: {faults:#?}");
    }
}

#[test]
fn basicauth() {
    let server = |file: Option<String>, inline: Option<&str>| {
        Extension::BasicAuth(BasicAuth::Server(BasicAuthServer { file, inline: inline.map(Secret::new) }))
    };
    assert_eq!(extension("basicauth", "{htpasswd: {inline: 'a:b'}}"), server(None, Some("a:b")));
    assert_eq!(
        extension("basicauth", "{htpasswd: {file: /f, inline: 'a:b'}}"),
        server(some("/f"), Some("a:b"))
    );
    let client =
        BasicAuthClient { username: "u".into(), password: Secret::new("0123"), ..BasicAuthClient::default() };
    let expected = Extension::BasicAuth(BasicAuth::Client(client.clone()));
    assert_eq!(extension("basicauth", "{client_auth: {username: u, password: 0123}}"), expected);
    let files = BasicAuthClient {
        username_file: some("/u"),
        password_file: some("/p"),
        ..BasicAuthClient::default()
    };
    assert_eq!(
        extension("basicauth", "{client_auth: {username_file: /u, password_file: /p}}"),
        Extension::BasicAuth(BasicAuth::Client(files))
    );
    refused(
        "basicauth",
        &[
            ("", "says nothing"),
            ("{htpasswd: }", "names nobody"),
            ("{client_auth: {username: u}}", "has no password"),
            ("{client_auth: {password: u}}", "has no username"),
            ("{client_auth: {username: 'a:b', password: c}}", "a colon ends the name"),
            (
                "{htpasswd: {file: f}, client_auth: {username: a, password: b}}",
                "has htpasswd and client_auth",
            ),
            ("{htpasswd: {inlin: x, file: f}}", "did you mean 'inline'?"),
            ("{client_auth: {username: u, password: [a]}}", "must be a single value, not a list"),
        ],
    );
    let aws =
        faults("extensions: {basicauth: {aws_secrets_manager: {}, client_auth: {username: a, password: b}}}");
    assert!(aws[0].contains("not supported here"), "{aws:#?}");
}

#[test]
fn bearertokenauth() {
    let default = BearerTokenAuth {
        header: "Authorization".into(),
        scheme: "Bearer".into(),
        tokens: vec![Secret::new("0123")],
        filename: None,
    };
    assert_eq!(extension("bearertokenauth", "{token: 0123}"), Extension::BearerTokenAuth(default));
    let expected = BearerTokenAuth {
        header: "X-A".into(),
        scheme: String::new(),
        tokens: vec![Secret::new("a"), Secret::new("b")],
        filename: some("/f"),
    };
    let body = "{header: X-A, scheme: '', tokens: [a, b], filename: /f}";
    assert_eq!(extension("bearertokenauth", body), Extension::BearerTokenAuth(expected));
    refused(
        "bearertokenauth",
        &[
            ("", "has no token"),
            ("{token: ''}", "an empty token lets everybody in"),
            ("{token: a, tokens: [b]}", "given besides token"),
            ("{tokem: a, filename: x}", "did you mean 'token'?"),
        ],
    );
}

#[test]
fn oidc() {
    let provider = OidcProvider {
        issuer_url: "https://i".into(),
        audience: "a".into(),
        ignore_audience: false,
        issuer_ca_path: None,
        username_claim: "sub".into(),
        groups_claim: None,
        public_keys_file: None,
    };
    let default = Oidc { attribute: "authorization".into(), providers: vec![provider.clone()] };
    for body in
        ["{issuer_url: 'https://i', audience: a}", "{providers: [{issuer_url: 'https://i', audience: a}]}"]
    {
        assert_eq!(extension("oidc", body), Extension::Oidc(default.clone()), "{body}");
    }
    let body = "{attribute: x-token, providers: [{issuer_url: 'https://i', audience: a}, {issuer_url: 'https://j', \
                ignore_audience: true, issuer_ca_path: /ca, username_claim: u, groups_claim: g, public_keys_file: /k}]}";
    let second = OidcProvider {
        issuer_url: "https://j".into(),
        audience: String::new(),
        ignore_audience: true,
        issuer_ca_path: some("/ca"),
        username_claim: "u".into(),
        groups_claim: some("g"),
        public_keys_file: some("/k"),
    };
    let expected = Oidc { attribute: "x-token".into(), providers: vec![provider, second] };
    assert_eq!(extension("oidc", body), Extension::Oidc(expected));
    refused(
        "oidc",
        &[
            ("{issuer_url: 'https://i'}", "has no audience"),
            ("{audience: a}", "has no issuer_url"),
            ("{providers: []}", "names no provider"),
            ("{providers: [{issuer_url: a, audience: b}, {issuer_url: a, audience: c}]}", "a is there twice"),
            ("{providers: [{issuer_url: a, audience: b}], username_claim: x}", "belongs to a provider"),
            ("{issuer_url: a, audience: b, grups_claim: c}", "did you mean 'groups_claim'?"),
        ],
    );
}

#[test]
fn headers_setter() {
    let header = |action, key: &str, source| SetHeader { action, key: key.into(), source };
    let context = |key: &str, default: Option<&str>| HeaderSource::Context {
        key: key.into(),
        default: default.map(Secret::new),
    };
    let body = "{headers: [{key: a, value: 1}, {action: insert, key: b, from_context: tenant, default_value: d}, \
                {action: update, key: c, from_context: auth.x}, {action: delete, key: d}, {key: e, value_file: /f}, \
                {key: f, from_attribute: username}], \
                additional_auth: basicauth}";
    let expected = HeadersSetter {
        headers: vec![
            header(HeaderAction::Upsert, "a", Some(HeaderSource::Value(Secret::new("1")))),
            header(HeaderAction::Insert, "b", Some(context("tenant", Some("d")))),
            header(HeaderAction::Update, "c", Some(context("auth.x", None))),
            header(HeaderAction::Delete, "d", None),
            header(HeaderAction::Upsert, "e", Some(HeaderSource::File("/f".into()))),
            header(
                HeaderAction::Upsert,
                "f",
                Some(HeaderSource::Attribute { key: "username".into(), default: None }),
            ),
        ],
        additional_auth: Some("basicauth".parse().expect("an id")),
    };
    assert_eq!(extension("headers_setter", body), Extension::HeadersSetter(expected));
    refused(
        "headers_setter",
        &[
            ("", "sets nothing"),
            ("{headers: [{value: x}]}", "has no key"),
            ("{headers: [{key: a}]}", "gives 'a' no value"),
            ("{headers: [{key: a, value: b, from_context: c}]}", "gives 'a' two values"),
            ("{headers: [{key: a, value: b, action: add}]}", "'add' is no choice"),
            ("{headers: [{key: a, value: b, actoin: add}]}", "did you mean 'action'?"),
        ],
    );
}

#[test]
fn health_check() {
    let Extension::HealthCheck(health) = extension("health_check", "") else { panic!() };
    assert_eq!(health.server.endpoint, Endpoint::Underlay(Address::new("localhost", 13133)));
    assert_eq!((&*health.path, health.response_body), ("/", None));
    let body = "{endpoint: 'hesper://health', path: /ok, response_body: {healthy: y, unhealthy: n}, \
                check_collector_pipeline: {enabled: true, interval: 5m, exporter_failure_threshold: 5}}";
    let Extension::HealthCheck(health) = extension("health_check", body) else { panic!() };
    assert!(health.server.endpoint.is_mesh());
    let bodies = HealthResponses { healthy: "y".into(), unhealthy: "n".into() };
    assert_eq!((&*health.path, health.response_body), ("/ok", Some(bodies)));
    refused(
        "health_check",
        &[("{path: ok}", "does not begin with /"), ("{endpiont: x}", "did you mean 'endpoint'?")],
    );
}

#[test]
fn file_storage() {
    let default = FileStorage {
        directory: "/var/lib/otelcol/file_storage".into(),
        create_directory: false,
        directory_permissions: 0o750,
        timeout: Duration::from_secs(1),
        max_size: 10 << 30,
        max_age: None,
        when_full: WhenFull::Block,
    };
    assert_eq!(extension("file_storage", ""), Extension::FileStorage(default));
    let body = "{directory: /q, create_directory: true, directory_permissions: '0700', timeout: 2s, fsync: true, \
                recreate: true, compaction: {directory: /q, on_start: true, on_rebound: true, \
                rebound_needed_threshold_mib: 1, rebound_trigger_threshold_mib: 1, max_transaction_size: 1, \
                check_interval: 1s, cleanup_on_start: true}, max_size_mib: 1, max_age: 72h, when_full: drop_oldest}";
    let expected = FileStorage {
        directory: "/q".into(),
        create_directory: true,
        directory_permissions: 0o700,
        timeout: Duration::from_secs(2),
        max_size: 1 << 20,
        max_age: Some(Duration::from_secs(72 * 3600)),
        when_full: WhenFull::DropOldest,
    };
    assert_eq!(extension("file_storage", body), Extension::FileStorage(expected));
    refused(
        "file_storage",
        &[
            ("{directory_permissions: rwx}", "'rwx' is not permissions"),
            ("{max_size_mib: 0}", "'0' is not such a number"),
            ("{when_full: drop_newest}", "'drop_newest' is no choice"),
            ("{compaction: {on_strat: true}}", "did you mean 'on_start'?"),
        ],
    );
}
