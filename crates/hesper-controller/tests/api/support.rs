//! A controller in this process, and clients for it.

use hesper_controller::{
    Controller, Running, StartOptions,
    home::{self, InitOptions},
};
use hesper_pki::{credentials::SharedCredentials, csr, identity_file::IdentityFile, key, tls};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where the management API is.
pub(crate) const MANAGEMENT: &str = "/edge/management/v1";
/// Username and password of the first administrator.
pub(crate) const ADMIN: &str = "admin";

/// A controller with a logged-in administrator.
pub(crate) struct Harness {
    running: Option<Running>,
    dir: TempDir,
    base: String,
    /// Without a client certificate.
    pub(crate) client: Client,
    /// The administrator's token.
    pub(crate) token: String,
}

impl Harness {
    pub(crate) async fn start() -> Self {
        let mut harness = Self::prepare().await;
        harness.resume().await;
        harness
    }

    /// An initialised home directory, nothing running.
    pub(crate) async fn prepare() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let options = InitOptions {
            ctrl_address: "127.0.0.1".into(),
            ctrl_port: 0,
            username: ADMIN.into(),
            password: ADMIN.into(),
            trust_domain: Some("test.hesper".into()),
        };
        home::init(&home_of(dir.path()), &options).await.expect("init");
        Self { running: None, dir, base: String::new(), client: plain_client(), token: String::new() }
    }

    /// Starts the controller (again), and logs in.
    pub(crate) async fn resume(&mut self) {
        let options = StartOptions::new("127.0.0.1:0".parse().expect("address"));
        let running = Controller::start(&self.home(), options).await.expect("start");
        let base = running.url().to_owned();
        self.running = Some(running);
        self.connect(&base).await;
    }

    /// Logs in to the controller of this home directory, wherever it runs.
    pub(crate) async fn connect(&mut self, base: &str) {
        let ca = std::fs::read_to_string(self.home().join("pki/ca.pem")).expect("the CA");
        let config = tls::ca_client(&ca).expect("CA");
        self.client = Client::builder().tls_backend_preconfigured(config).build().expect("client");
        self.base = base.to_owned();
        self.token = self.login(ADMIN, ADMIN).await;
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown().await;
        }
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().expect("running")
    }

    pub(crate) fn home(&self) -> PathBuf {
        home_of(self.dir.path())
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A client with a certificate.
    pub(crate) fn client_of(&self, identity: &IdentityFile) -> Client {
        let credentials = SharedCredentials::new(identity.credentials().expect("credentials"));
        Client::builder()
            .tls_backend_preconfigured(tls::controller_client(credentials))
            .build()
            .expect("client")
    }

    pub(crate) async fn login(&self, username: &str, password: &str) -> String {
        let path = format!("{MANAGEMENT}/authenticate");
        let body = json!({ "username": username, "password": password });
        let answer = self.client.post(self.url(&path)).json(&body).send().await.expect("answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let body: Value = answer.json().await.expect("JSON");
        body["data"]["token"].as_str().expect("token").to_owned()
    }

    /// A request of the administrator below the management API.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let request =
            self.client.request(method, self.url(&format!("{MANAGEMENT}{path}"))).bearer_auth(&self.token);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        read(request.send().await.expect("answer")).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.request(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body["data"].clone()
    }

    /// Creates an entity; the answer's data.
    pub(crate) async fn create(&self, plural: &str, body: Value) -> Value {
        let (status, answer) = self.request(Method::POST, &format!("/{plural}"), Some(&body)).await;
        assert_eq!(status, StatusCode::CREATED, "{plural} {body}: {answer}");
        answer["data"].clone()
    }

    /// Creates an entity; its id.
    pub(crate) async fn create_id(&self, plural: &str, body: Value) -> String {
        self.create(plural, body).await["id"].as_str().expect("id").to_owned()
    }

    pub(crate) async fn delete(&self, path: &str) -> (StatusCode, Value) {
        self.request(Method::DELETE, path, None).await
    }

    /// Shows a token and a key; the answer.
    pub(crate) async fn redeem(&self, jwt: &str, key: &key::PrivateKey) -> (StatusCode, Value) {
        self.try_redeem(jwt, key).await.expect("answer")
    }

    /// Shows a token and a key; the answer, if there is a whole one.
    pub(crate) async fn try_redeem(&self, jwt: &str, key: &key::PrivateKey) -> Option<(StatusCode, Value)> {
        let csr = csr::to_pem(&csr::make(key).expect("CSR"));
        let body = json!({ "token": jwt, "csr": csr });
        let answer = self.client.post(self.url("/edge/client/v1/enroll")).json(&body).send().await.ok()?;
        let status = answer.status();
        Some((status, serde_json::from_str(&answer.text().await.ok()?).ok()?))
    }

    /// Creates and enrolls an identity.
    pub(crate) async fn enroll(&self, name: &str, fields: Value) -> (String, IdentityFile) {
        let mut body = json!({ "name": name });
        body.as_object_mut().expect("object").extend(fields.as_object().expect("object").clone());
        let made = self.create("identities", body).await;
        let key = key::generate().expect("key");
        let (status, answer) = self.redeem(made["enrollment"]["jwt"].as_str().expect("jwt"), &key).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let file = identity_file(&self.base, &answer["data"], &key);
        (made["id"].as_str().expect("id").to_owned(), file)
    }
}

fn home_of(dir: &Path) -> PathBuf {
    dir.join("controller")
}

/// The identity file that an enrolling node writes.
pub(crate) fn identity_file(url: &str, data: &Value, key: &key::PrivateKey) -> IdentityFile {
    let pem = |text: &str| format!("pem:{text}");
    let id = json!({
        "cert": pem(data["cert"].as_str().expect("cert")),
        "key": pem(&key.to_pem()),
        "ca": pem(data["ca"].as_str().expect("ca")),
    });
    let text = json!({ "ztAPI": url, "id": id });
    serde_json::from_value(text).expect("an identity file")
}

/// Status and JSON body of an answer.
pub(crate) async fn read(answer: Response) -> (StatusCode, Value) {
    let status = answer.status();
    let text = answer.text().await.expect("body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// The code of a refusal.
pub(crate) fn code(body: &Value) -> &str {
    body["error"]["code"].as_str().unwrap_or("")
}

/// The message of a refusal.
pub(crate) fn message(body: &Value) -> &str {
    body["error"]["message"].as_str().unwrap_or("")
}

/// A client that trusts nobody yet.
fn plain_client() -> Client {
    let config = tls::pinned_client(&"0".repeat(64));
    Client::builder().tls_backend_preconfigured(config).build().expect("client")
}
