//! How spans go out: by an exporter of their own, or by what the command has at hand: its identity on the mesh, its login.

use futures::{FutureExt, future::BoxFuture};
use hesper_client::connect::{ControllerUrl, connect};
use hesper_collect::mesh::MeshConnector;
use hesper_collector_config::Endpoint;
use hesper_controller::Forwarding;
use hesper_otlp::PartialSuccess;
use hesper_pki::{credentials::SharedCredentials, identity_file::IdentityFile, tls};
use hesper_sdk::Context;
use hesper_telemetry::{
    export::{self, Exporter, Failure, Shipment},
    net::{BoxIo, Connector, underlay::UnderlayConnector},
};
use hesper_trace::settings::{Exporter as Settings, ExporterUrl};
use rustls::ClientConfig;
use std::{
    io,
    path::Path,
    sync::{Arc, LazyLock, OnceLock},
    time::Duration,
};
use tokio::sync::watch;

/// How long the controller may take for one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What this process has at hand.
#[derive(Clone, Default)]
struct AtHand {
    mesh: Option<Context>,
    controller: Option<Controller>,
}

/// A controller, and how to speak with it.
#[derive(Clone)]
struct Controller {
    urls: Vec<ControllerUrl>,
    tls: Arc<ClientConfig>,
    /// The session of an administrator; none when the certificate says who we are.
    token: Option<String>,
}

static AT_HAND: LazyLock<watch::Sender<AtHand>> = LazyLock::new(watch::Sender::default);

/// This process is on the mesh: services can be dialed, and its certificate is known to the controller.
pub(crate) fn on_mesh(ctx: &Context, identity: &Path) {
    AT_HAND.send_modify(|at_hand| {
        at_hand.mesh = Some(ctx.clone());
        at_hand.controller = at_hand.controller.take().or_else(|| controller_of(identity));
    });
}

/// The end of a command that was on the mesh: peers and controller are told. Its spans may have gone out that way until now.
pub(crate) async fn leave() {
    let mut ctx = None;
    AT_HAND.send_modify(|at_hand| ctx = at_hand.mesh.take());
    if let Some(ctx) = ctx {
        ctx.shutdown().await;
    }
}

/// Somebody is logged in at this controller.
pub(crate) fn logged_in(url: &str, ca_pem: &str, token: &str) {
    let (Ok(url), Ok(tls)) = (url.parse(), tls::ca_client(ca_pem)) else { return };
    let controller = Controller { urls: vec![url], tls: h2(tls), token: Some(token.to_owned()) };
    AT_HAND.send_modify(|at_hand| at_hand.controller = Some(controller));
}

fn controller_of(identity: &Path) -> Option<Controller> {
    let file = IdentityFile::load(identity).ok()?;
    let credentials = SharedCredentials::new(file.credentials().ok()?);
    let urls: Vec<ControllerUrl> = file.controllers().iter().filter_map(|url| url.parse().ok()).collect();
    let tls = h2(tls::controller_client(credentials));
    (!urls.is_empty()).then_some(Controller { urls, tls, token: None })
}

fn h2(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Where this role's own spans go.
static OWN: OnceLock<(Settings, String)> = OnceLock::new();

/// This role's own spans go there.
pub(super) fn own(settings: Option<&Settings>, name: &str) {
    if let Some(settings) = settings {
        // A process has one role.
        let _ = OWN.set((settings.clone(), name.to_owned()));
    }
}

/// Where a controller forwards to what others send: where its own spans go, and in a file beside its own. None: it was not told.
pub(crate) async fn forwarding() -> Option<Forwarding> {
    let (settings, name) = OWN.get()?;
    let way = exporter(Some(settings.clone()), format!("{name}-forwarded"));
    Some(way.exporter().await.map_or_else(Forwarding::Broken, Forwarding::To))
}

/// A way out that may have to wait until it exists.
pub(super) struct Way {
    settings: Option<Settings>,
    name: String,
}

/// By the exporter of these settings, or by way of the controller.
pub(super) fn exporter(settings: Option<Settings>, name: String) -> Way {
    Way { settings, name }
}

/// Does it need what a process may have at hand, or not?
pub(super) fn is_by_hand(settings: Option<&Settings>) -> bool {
    settings.is_none_or(|settings| {
        settings.identity.is_none() && matches!(settings.url, ExporterUrl::Mesh { .. })
    })
}

/// What was waited for in vain.
pub(super) fn missing() -> Option<String> {
    let at_hand = AT_HAND.borrow();
    (at_hand.mesh.is_none() && at_hand.controller.is_none()).then(|| {
        "this command has neither a login nor an identity: give an exporter with --trace-exporter".to_owned()
    })
}

impl Way {
    /// The exporter, once it can be made.
    ///
    /// # Errors
    /// It never can; the text says why.
    pub(super) async fn exporter(self) -> Result<Arc<dyn Exporter>, String> {
        let name = &*self.name;
        let underlay = Arc::new(UnderlayConnector::default());
        let made = match &self.settings {
            None => through_controller(name).await,
            Some(settings) if matches!(settings.url, ExporterUrl::Mesh { .. }) => {
                let ctx = match &settings.identity {
                    Some(identity) => Context::from_identity_file(identity)
                        .map_err(|error| format!("{:#}", anyhow::Error::new(error)))?,
                    None => mesh().await,
                };
                export::of_url(name, settings, Arc::new(MeshConnector::new(Some(ctx), underlay)))
            }
            Some(settings) => export::of_url(name, settings, underlay),
        };
        made.map_err(|error| error.to_string())
    }
}

async fn mesh() -> Context {
    let mut at_hand = AT_HAND.subscribe();
    loop {
        if let Some(ctx) = &at_hand.borrow_and_update().mesh {
            return ctx.clone();
        }
        // The sender is static.
        let _ = at_hand.changed().await;
    }
}

async fn through_controller(name: &str) -> Result<Arc<dyn Exporter>, export::BuildError> {
    let mut at_hand = AT_HAND.subscribe();
    let controller = loop {
        if let Some(controller) = &at_hand.borrow_and_update().controller {
            break controller.clone();
        }
        let _ = at_hand.changed().await;
    };
    let headers =
        controller.token.iter().map(|token| ("authorization".to_owned(), format!("Bearer {token}")));
    let settings = Settings {
        // Encrypted and proved by the connector: a name that is for messages only.
        url: ExporterUrl::Mesh { service: "controller".to_owned(), instance: None },
        ca_certs: Vec::new(),
        client: None,
        headers: headers.collect(),
        timeout: TIMEOUT,
        gzip: false,
        json: false,
        identity: None,
    };
    let exporter = export::of_url(name, &settings, Arc::new(controller))?;
    Ok(Arc::new(ByController { exporter, called: settings.url.to_string() }))
}

/// An exporter whose messages call the controller by its name, and not by the URL that stands for it.
struct ByController {
    exporter: Arc<dyn Exporter>,
    called: String,
}

impl Exporter for ByController {
    fn export<'a>(&'a self, shipment: &'a Shipment) -> BoxFuture<'a, Result<PartialSuccess, Failure>> {
        async {
            let told = |reason: String| reason.replace(&self.called, "the controller");
            self.exporter.export(shipment).await.map_err(|failure| match failure {
                Failure::Again { reason, after } => Failure::Again { reason: told(reason), after },
                Failure::Never { reason } => Failure::Never { reason: told(reason) },
            })
        }
        .boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.exporter.shutdown()
    }
}

impl Connector for Controller {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        async {
            let mut last = None;
            for url in &self.urls {
                match connect(url, self.tls.clone()).await {
                    Ok(stream) => return Ok(Box::new(stream) as BoxIo),
                    Err(error) => last = Some(error),
                }
            }
            Err(last.map_or_else(|| io::ErrorKind::NotConnected.into(), io::Error::other))
        }
        .boxed()
    }
}
