//! The way to the API of Kubernetes.

use hesper_collector_config::processors::{K8sAttributes, K8sAuth};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{env, net::IpAddr, path::PathBuf, time::Duration};

/// Longest silence of the API. The watcher asks for watches of 290 s, so this ends only what is dead.
const SILENCE: Duration = Duration::from_secs(300);

/// Where the kubeconfig is, for `auth_type: kubeConfig`.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The file. None: what `KUBECONFIG` names, else `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
}

/// Why the API cannot be reached: mostly because this is no pod of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// There is no service account.
    #[error("no service account of a cluster: {0}")]
    InCluster(#[from] kube::config::InClusterError),
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// Nobody says where the API is.
    #[error("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT say no address of an API")]
    NoHost,
    /// The connection cannot be made ready, for example because a certificate cannot be read.
    #[error("no connection to the API: {0}")]
    Client(#[from] kube::Error),
}

impl Access {
    /// A client as the settings have it.
    pub(crate) async fn client(&self, settings: &K8sAttributes) -> Result<Client, AccessError> {
        let mut config = match settings.auth_type {
            K8sAuth::ServiceAccount => Config::incluster()?,
            K8sAuth::KubeConfig => {
                let options =
                    KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
                match &self.kubeconfig {
                    Some(file) => {
                        Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &options).await?
                    }
                    None => Config::from_kubeconfig(&options).await?,
                }
            }
            K8sAuth::None => anonymous(|name| env::var(name).ok())?,
        };
        config.read_timeout = Some(SILENCE);
        Ok(Client::try_from(config)?)
    }
}

/// Without credentials, and without asking for those of the API, as the Collector does it.
fn anonymous(env: impl Fn(&str) -> Option<String>) -> Result<Config, AccessError> {
    let said = |name| env(name).filter(|value| !value.is_empty()).ok_or(AccessError::NoHost);
    let (host, port) = (said("KUBERNETES_SERVICE_HOST")?, said("KUBERNETES_SERVICE_PORT")?);
    let host = match host.parse() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host,
    };
    let port: u16 = port.parse().map_err(|_| AccessError::NoHost)?;
    let url = format!("https://{host}:{port}").parse().map_err(|_| AccessError::NoHost)?;
    let mut config = Config::new(url);
    config.accept_invalid_certs = true;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_where_the_api_is() {
        let config = |host: &str, port: &str| {
            anonymous(|name| Some(if name.ends_with("HOST") { host.to_owned() } else { port.to_owned() }))
        };
        for (host, url) in [
            ("10.96.0.1", "https://10.96.0.1:443/"),
            ("fd00::1", "https://[fd00::1]:443/"),
            ("api.example", "https://api.example:443/"),
        ] {
            assert_eq!(config(host, "443").expect(host).cluster_url.to_string(), url);
        }
        assert!(matches!(config("", "443"), Err(AccessError::NoHost)));
        assert!(matches!(config("10.96.0.1", "x"), Err(AccessError::NoHost)));
    }
}
