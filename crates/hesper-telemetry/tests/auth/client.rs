use crate::{DEADLINE, check, extension, extensions, header};
use bytes::Bytes;
use hesper_telemetry::{
    auth::{
        ClientAuth,
        client::build,
        server::{self, Raw},
    },
    origin::Origin,
};
use http::{HeaderMap, header::AUTHORIZATION};
use std::{fs, sync::Arc, time::Duration};

fn client(id: &str, text: &str) -> Arc<dyn ClientAuth> {
    build(&id.parse().expect("an id"), &extensions(text)).expect("client authentication")
}

async fn applied(auth: &dyn ClientAuth, mut headers: HeaderMap, origin: &Origin) -> HeaderMap {
    auth.apply(&mut headers, origin).await.expect("applied");
    headers
}

#[tokio::test]
async fn what_the_client_sends_the_server_takes() {
    for (client_text, server_text) in [
        (
            "basicauth: {client_auth: {username: user-1, password: 0123}}",
            "basicauth: {htpasswd: {inline: 'user-1:0123'}}",
        ),
        ("bearertokenauth: {token: alpha}", "bearertokenauth: {tokens: [beta, alpha]}"),
    ] {
        let id = client_text.split(':').next().expect("an id");
        let auth = client(id, client_text);
        assert!(auth.needs_secrecy());
        let headers = applied(&*auth, header("authorization", "of before"), &Origin::default()).await;
        assert!(headers[AUTHORIZATION].is_sensitive());
        let server = server::build(&extension(server_text), Raw::Forget).expect("an authenticator");
        check(&*server, &headers).await.expect(client_text);
    }
}

#[tokio::test]
async fn names_and_passwords_in_files_are_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    fs::write(path("user"), "user-1\n").expect("written");
    fs::write(path("password"), "old\n").expect("written");
    let text = format!(
        "basicauth: {{client_auth: {{username_file: '{}', password_file: '{}'}}}}",
        path("user").display(),
        path("password").display()
    );
    let auth = client("basicauth", &text);
    let sends = |password: &'static str| {
        let text = format!("basicauth: {{htpasswd: {{inline: 'user-1:{password}'}}}}");
        let server = server::build(&extension(&text), Raw::Forget).expect("an authenticator");
        let auth = auth.clone();
        async move {
            let headers = applied(&*auth, HeaderMap::new(), &Origin::default()).await;
            check(&*server, &headers).await.is_ok()
        }
    };
    assert!(sends("old").await, "without the line break");
    fs::write(path("password"), "new\n").expect("written");
    let changed = async {
        while !sends("new").await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, changed).await.expect("the change is seen");
}

#[tokio::test]
async fn headers_are_set_as_the_action_says() {
    let text = "headers_setter:
  headers:
    - {key: a, value: set}
    - {action: insert, key: b, value: set}
    - {action: update, key: c, value: set}
    - {action: delete, key: d}
    - {action: upsert, key: tenant, from_context: X-Tenant, default_value: nobody}
    - {key: user, from_attribute: username}
";
    let auth = client("headers_setter", text);
    assert!(!auth.needs_secrecy());
    let shown = |headers: &HeaderMap| {
        let mut shown: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().expect("text"))).collect();
        shown.sort();
        shown.join(" ")
    };
    let nothing = applied(&*auth, HeaderMap::new(), &Origin::default()).await;
    assert_eq!(shown(&nothing), "a=set b=set tenant=nobody");

    let mut all = HeaderMap::new();
    for name in ["a", "b", "c", "d", "user", "other"] {
        all.extend(header(name, "there"));
    }
    let kept = applied(&*auth, all.clone(), &Origin::default()).await;
    assert_eq!(shown(&kept), "a=set b=there c=set other=there tenant=nobody user=there");

    let metadata = |value: &'static [u8]| ("x-tenant".to_owned(), Bytes::from_static(value));
    let origin = Origin {
        metadata: vec![metadata(b"one"), metadata(b"two")],
        auth: [("username".to_owned(), "user-1".to_owned())].into(),
        ..Origin::default()
    };
    let set = applied(&*auth, all, &origin).await;
    assert_eq!(shown(&set), "a=set b=there c=set other=there tenant=one, two user=user-1");
    let odd = Origin { metadata: vec![metadata(b"a\nb")], ..Origin::default() };
    let set = applied(&*auth, HeaderMap::new(), &odd).await;
    assert_eq!(set["tenant"], "nobody", "what no header can have is as good as not there");
}

#[tokio::test]
async fn another_authenticator_goes_first() {
    let text = "bearertokenauth: {token: alpha}
headers_setter:
  additional_auth: bearertokenauth
  headers: [{action: insert, key: authorization, value: mine}, {key: x, value: y}]
";
    let auth = client("headers_setter", text);
    assert!(auth.needs_secrecy());
    let headers = applied(&*auth, HeaderMap::new(), &Origin::default()).await;
    assert_eq!(
        (&headers["authorization"], &headers["x"]),
        (&"Bearer alpha".parse().expect("a value"), &"y".parse().expect("a value"))
    );
}

#[test]
fn what_cannot_be_sent_is_an_error_at_once() {
    let fault = |id: &str, text: &str| {
        build(&id.parse().expect("an id"), &extensions(text)).err().expect(text).to_string()
    };
    let missing = fault("bearertokenauth", "bearertokenauth: {filename: /does/not/exist}");
    assert!(missing.contains("bearertokenauth") && missing.contains("/does/not/exist"), "{missing}");
    let server = fault("basicauth", "basicauth: {htpasswd: {inline: 'a:b'}}");
    assert!(server.contains("does not say who we are"), "{server}");
    let nobody = fault("oidc", "bearertokenauth: {token: a}");
    assert!(nobody.contains("oidc"), "{nobody}");
    let line = fault("bearertokenauth", "bearertokenauth: {token: \"swordfish\\nx\"}");
    assert!(line.contains("line break") && !line.contains("swordfish"), "{line}");
    let circle = "headers_setter/a: {additional_auth: headers_setter/b, headers: [{key: x, value: y}]}
headers_setter/b: {additional_auth: headers_setter/a, headers: [{key: x, value: y}]}
";
    assert!(fault("headers_setter/a", circle).contains("circle"));
}
