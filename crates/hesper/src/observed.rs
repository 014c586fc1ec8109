//! Where a role serves `/metrics` and `/healthz`: on loopback, or dark, as a service that an identity binds.
//!
//! A dark endpoint is nothing that a role depends on: as long as the identity cannot bind the service, the reason is logged and it is tried
//! again.

use crate::{cli::flags::UsageError, traces::also};
use anyhow::{Context as _, Result};
use clap::Args;
use hesper_collector_config::Endpoint;
use hesper_observe::metrics::{self, Health, Registry, ServeError, serve_loopback};
use hesper_sdk::{BindError, BindOptions, Context};
use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// Between two attempts to bind, unless what this identity may do has changed before.
const REBIND: Duration = Duration::from_secs(10);
/// What has changed is looked at together with what else changes.
const SETTLE: Duration = Duration::from_millis(200);

/// Where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At an address, which must be a loopback one.
    Address(SocketAddr),
    /// As a service of the mesh.
    Service {
        /// Its name.
        service: String,
        /// The instance to bind it as; none: the identity's name.
        instance: Option<String>,
    },
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            let address: SocketAddr = text.parse().map_err(|_| {
                format!("'{text}' is neither an address such as 127.0.0.1:9090 nor hesper://SERVICE")
            })?;
            // Before anything is made or started.
            if !address.ip().is_loopback() {
                return Err(ServeError::NotLoopback(address).to_string());
            }
            return Ok(Self::Address(address));
        }
        match Endpoint::parse(text) {
            Ok(Endpoint::Mesh { service, instance, path, query: None }) if path.is_empty() => {
                Ok(Self::Service { service, instance })
            }
            Ok(_) => Err(format!("'{text}' is no service: write hesper://SERVICE")),
            Err((reason, next)) => Err(format!("{reason}: {next}")),
        }
    }
}

/// `--metrics` of a role that has an identity on the mesh.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct MetricsArgs {
    /// Serve /metrics and /healthz at this loopback address, or dark: at hesper://SERVICE, which this identity must be allowed to bind
    #[arg(long, value_name = "ADDR|hesper://SERVICE", help_heading = "Metrics")]
    pub(crate) metrics: Option<Place>,
}

/// `--metrics` of a role that is not on the mesh itself.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RoleMetricsArgs {
    /// Serve /metrics and /healthz at this loopback address, or dark: at hesper://SERVICE, bound by --metrics-identity
    #[arg(long, value_name = "ADDR|hesper://SERVICE", help_heading = "Metrics")]
    metrics: Option<Place>,
    /// The identity that binds the service of --metrics
    #[arg(long, value_name = "FILE", requires = "metrics", help_heading = "Metrics")]
    metrics_identity: Option<PathBuf>,
}

impl RoleMetricsArgs {
    /// Whether they fit together.
    ///
    /// # Errors
    /// A service without an identity, or the other way round.
    pub(crate) fn check(&self) -> Result<(), UsageError> {
        match (&self.metrics, &self.metrics_identity) {
            (Some(Place::Service { service, .. }), None) => Err(UsageError(format!(
                "hesper://{service} is bound by an identity: give one with --metrics-identity FILE"
            ))),
            (Some(Place::Address(address)), Some(_)) => Err(UsageError(format!(
                "--metrics-identity binds a service, and {address} is none: write --metrics hesper://SERVICE"
            ))),
            _ => Ok(()),
        }
    }

    /// Serves them, as [`serve`], with an identity of its own.
    ///
    /// # Errors
    /// The identity cannot be used, or the address not be listened on.
    pub(crate) async fn serve(&self, registry: &Registry, health: Health) -> Result<Serving> {
        let ctx = self.metrics_identity.as_ref().map(|path| {
            Context::from_identity_file(path)
                .with_context(|| format!("--metrics-identity {} cannot be used", path.display()))
        });
        let ctx = ctx.transpose()?;
        let serving = serve(self.metrics.as_ref(), ctx.as_ref(), registry, health).await?;
        Ok(Serving { own: ctx, ..serving })
    }
}

/// What is being served; no more when it is dropped.
#[derive(Default)]
pub(crate) struct Serving {
    _loopback: Option<metrics::Serving>,
    _dark: Option<AbortOnDropHandle<()>>,
    /// The identity that is there for nothing else.
    own: Option<Context>,
}

impl Serving {
    /// Unbinds what is bound.
    pub(crate) async fn end(self) {
        if let Some(own) = self.own {
            own.shutdown().await;
        }
    }
}

/// Serves the registry and the role's health.
///
/// # Errors
/// The address cannot be listened on. That a service cannot be bound is none.
pub(crate) async fn serve(
    place: Option<&Place>,
    ctx: Option<&Context>,
    registry: &Registry,
    health: Health,
) -> Result<Serving> {
    also::offer_metrics(registry);
    match (place, ctx) {
        (None, _) => Ok(Serving::default()),
        (Some(Place::Address(address)), _) => {
            let serving = serve_loopback(*address, registry.clone(), health).await?;
            tracing::info!("metrics at http://{}/metrics", serving.local_addr);
            Ok(Serving { _loopback: Some(serving), ..Serving::default() })
        }
        (Some(Place::Service { service, instance }), Some(ctx)) => {
            let app = metrics::routes(registry.clone(), health);
            let task = tokio::spawn(bound(ctx.clone(), service.clone(), instance.clone(), app));
            Ok(Serving { _dark: Some(AbortOnDropHandle::new(task)), ..Serving::default() })
        }
        (Some(Place::Service { service, .. }), None) => {
            Err(UsageError(format!("hesper://{service} is in the mesh: give an identity with -i FILE"))
                .into())
        }
    }
}

/// Binds the service, sooner or later, and answers there until the context is shut down.
async fn bound(ctx: Context, service: String, instance: Option<String>, app: axum::Router) {
    let mut told = String::new();
    let mut state = ctx.state();
    loop {
        state.mark_unchanged();
        let options = BindOptions { instance: instance.clone(), ..BindOptions::default() };
        match ctx.bind_with(&service, options).await {
            Ok(listener) => {
                tracing::info!("metrics at hesper://{service}/metrics");
                if let Err(error) = axum::serve(listener, app.clone()).await {
                    tracing::warn!(service, %error, "the metrics are not served any more; trying on");
                }
            }
            Err(BindError::Shutdown) => return,
            Err(error) => {
                let reason = format!("{:#}", anyhow::Error::new(error));
                if reason != told {
                    tracing::warn!(
                        service,
                        reason,
                        "the metrics are not bound yet; trying on: a Bind policy must name this identity and the service"
                    );
                    told = reason;
                }
                // A change of policy comes with a new view.
                if timeout(REBIND, state.changed()).await.is_ok() {
                    sleep(SETTLE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_or_a_service() {
        let service = |service: &str, instance: Option<&str>| Place::Service {
            service: service.into(),
            instance: instance.map(Into::into),
        };
        for (text, place) in [
            ("127.0.0.1:9090", Place::Address(([127, 0, 0, 1], 9090).into())),
            ("hesper://metrics", service("metrics", None)),
            ("hesper://r1@router%20metrics", service("router metrics", Some("r1"))),
        ] {
            assert_eq!(text.parse(), Ok(place), "{text}");
        }
        for text in [
            "",
            "9090",
            "localhost:9090",
            "0.0.0.0:9090",
            "[::]:9090",
            "http://127.0.0.1:1",
            "hesper://",
            "hesper://a/metrics",
            "hesper://a?b",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_service_needs_an_identity_and_an_address_none() {
        let args = |metrics: &str, identity: Option<&str>| RoleMetricsArgs {
            metrics: Some(metrics.parse().expect("a place")),
            metrics_identity: identity.map(Into::into),
        };
        assert!(args("hesper://m", Some("i.json")).check().is_ok());
        assert!(args("127.0.0.1:1", None).check().is_ok());
        assert!(args("hesper://m", None).check().is_err());
        assert!(args("127.0.0.1:1", Some("i.json")).check().is_err());
        assert!(RoleMetricsArgs::default().check().is_ok());
    }
}
