//! The demo's network, and who lives in it.

use crate::{
    api_client::{Client, Session},
    cli::serve::Administrator,
    edge::{draft::Draft, requests},
    enrollment_file, output,
    serve::quickstart::{self, Options, Quickstart},
};
use anyhow::{Context as _, Result, bail, ensure};
use hesper_controller::validity::Validities;
use hesper_model::entity::Kind;
use hesper_pki::{identity_file::IdentityFile, tls};
use hesper_router::SessionRate;
use hesper_sdk::Context;
use reqwest::Url;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Hosts both services.
pub(super) const WORKLOAD: &str = "reflectz";
/// May dial both.
pub(super) const CLIENT: &str = "client";
/// Is enrolled, and may do nothing.
pub(super) const OUTSIDER: &str = "outsider";
/// Answers what it is sent.
pub(super) const REFLECT: &str = "demo.reflect";
/// Serves the workload's metrics.
pub(super) const METRICS: &str = "demo.metrics";

const ADMIN_DEADLINE: Duration = Duration::from_secs(10);

/// Controller, router, and an administrator who is logged in.
pub(super) struct Network {
    directory: PathBuf,
    running: Quickstart,
    session: Session,
}

impl Network {
    /// Starts it on free ports of loopback.
    pub(super) async fn start(directory: &Path) -> Result<(Self, String)> {
        let password = Administrator::random_password();
        let options = Options {
            metrics: Default::default(),
            home: None,
            ctrl_address: None,
            ctrl_port: Some(0),
            router_address: None,
            router_port: Some(0),
            administrator: Administrator::new("admin", &password),
            trust_domain: None,
            validities: Validities::default(),
            instance_id: "demo".to_owned(),
            no_router: false,
            max_session_rate: SessionRate::default(),
            configure_and_exit: false,
        };
        let running = quickstart::start(&directory.join("network"), &options).await?;
        let url = Url::parse(running.controller.url())?;
        let client = Client::new(&url, tls::ca_client(&running.controller.ca_pem())?, ADMIN_DEADLINE)?;
        let answer = client.login_by_password("admin", &password).await?;
        let session = client.with_token(output::cell(answer.pointer("/data/token")));
        let network = Self { directory: directory.to_owned(), running, session };
        let found = format!("{} (TCP) and {} (UDP)", network.controller_address(), network.router_address()?);
        Ok((network, found))
    }

    /// Makes identities, services and policies, through the management API like anybody.
    pub(super) async fn populate(&self) -> Result<((), String)> {
        for (name, attributes) in [(WORKLOAD, json!([])), (CLIENT, json!(["clients"])), (OUTSIDER, json!([]))]
        {
            self.create(Kind::Identity, name, |d| {
                d.set("roleAttributes", attributes).set("enrollment", json!({"ott": false}));
            })
            .await?;
        }
        self.create(Kind::Config, "demo.scrape", |d| {
            d.refer("configTypeId", Kind::ConfigType, Some("scrape.v1"))
                .set("data", json!({"path": "/metrics"}));
        })
        .await?;
        self.create(Kind::Service, REFLECT, |_| ()).await?;
        self.create(Kind::Service, METRICS, |d| {
            d.refer_all("configs", Kind::Config, Some(&["demo.scrape".to_owned()]));
        })
        .await?;
        let both = [format!("@{REFLECT}"), format!("@{METRICS}")];
        for (kind, who) in [("Bind", format!("@{WORKLOAD}")), ("Dial", "#clients".to_owned())] {
            self.create(Kind::ServicePolicy, &format!("demo.{kind}"), |d| {
                d.set("type", kind)
                    .set("semantic", "AnyOf")
                    .roles("serviceRoles", Kind::Service, Some(&both))
                    .roles("identityRoles", Kind::Identity, Some(&[who]));
            })
            .await?;
        }
        Ok((
            (),
            format!(
                "@{WORKLOAD} may bind, #clients may dial {REFLECT} and {METRICS}; {OUTSIDER} may do neither"
            ),
        ))
    }

    async fn create(&self, kind: Kind, name: &str, fill: impl FnOnce(&mut Draft)) -> Result<()> {
        let mut draft = Draft::default();
        draft.set("name", name);
        fill(&mut draft);
        requests::create(&self.session, kind, draft).await?;
        Ok(())
    }

    /// Enrolls the three; returns where a copy of the client's token is.
    pub(super) async fn enroll(&self) -> Result<(PathBuf, String)> {
        let copy = self.directory.join("found.jwt");
        for name in [WORKLOAD, CLIENT, OUTSIDER] {
            let jwt = self.directory.join(format!("{name}.jwt"));
            let mut draft = Draft::default();
            draft.set("method", "ott").refer("identityId", Kind::Identity, Some(name));
            let made = requests::create(&self.session, Kind::Enrollment, draft).await?;
            let token =
                made.pointer("/data/jwt").and_then(Value::as_str).context("the answer held no token")?;
            hesper_pki::files::write_new(&jwt, token.as_bytes())?;
            if name == CLIENT {
                hesper_pki::files::write_new(&copy, token.as_bytes())?;
            }
            enrollment_file::enroll(&jwt, &self.identity_path(name), &|_| ()).await?;
        }
        Ok((copy, "three identity files, whose keys never left this machine".to_owned()))
    }

    /// Redeems a used token with another key.
    pub(super) async fn enroll_again(&self, copy: &Path) -> Result<((), String)> {
        match enrollment_file::enroll(copy, &self.directory.join("thief.json"), &|_| ()).await {
            Ok(_) => bail!("the second redemption gave a certificate as well"),
            Err(e) => {
                let text = format!("{:#}", e.root_cause());
                ensure!(
                    text.contains("ENROLLMENT_ALREADY_REDEEMED"),
                    "it was refused for another reason: {e:#}"
                );
                Ok(((), text))
            }
        }
    }

    /// An enrolled identity, on the mesh.
    pub(super) fn node(&self, name: &str) -> Result<Context> {
        Ok(Context::from_identity_file(&self.identity_path(name))?)
    }

    /// An enrolled identity's file.
    pub(super) fn identity(&self, name: &str) -> Result<IdentityFile> {
        Ok(IdentityFile::load(&self.identity_path(name))?)
    }

    fn identity_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }

    /// The controller's URL.
    pub(super) fn url(&self) -> Result<Url> {
        Ok(Url::parse(self.running.controller.url())?)
    }

    /// The controller's TCP address.
    pub(super) fn controller_address(&self) -> SocketAddr {
        self.running.controller.local_addr()
    }

    /// The router's UDP address.
    pub(super) fn router_address(&self) -> Result<SocketAddr> {
        let router = self.running.router.as_ref().context("there is no router")?;
        Ok(router.0.local_addr())
    }

    /// Stops router and controller.
    pub(super) async fn shutdown(self) {
        self.running.shutdown().await;
    }
}
