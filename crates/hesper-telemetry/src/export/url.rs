//! An exporter of a URL: what the mesh's own spans, metrics and events go out by.

use super::{
    BuildError, Exporter,
    file::File,
    otlp::{Grpc, Hop, Http},
};
use crate::net::Connector;
use hesper_collector_config::{
    ClientTls, Compression, Endpoint, GrpcClient, Headers, HttpClient, Retry, Secret, SendingQueue,
    TlsIdentity,
    exporters::{self, Encoding, FileFormat, OtlpExporter, OtlpHttpExporter, Rotation},
};
use hesper_trace::settings::{Exporter as Settings, ExporterUrl};
use std::{path::Path, sync::Arc, time::Duration};

/// How often trace files are brought to the disk.
const FLUSH: Duration = Duration::from_secs(1);

/// One of these settings. `name` is for messages, and for the file in the directory of a `file://` URL; `connector` opens the
/// streams.
///
/// # Errors
/// TLS files that cannot be read; credentials towards a destination that would not keep them; a directory that cannot be made.
pub fn of_url(
    name: &str,
    settings: &Settings,
    connector: Arc<dyn Connector>,
) -> Result<Arc<dyn Exporter>, BuildError> {
    match &settings.url {
        ExporterUrl::Grpc { authority, tls } => {
            let endpoint = endpoint(authority)?;
            // Certificates are for TLS.
            let encrypted = *tls || !settings.ca_certs.is_empty() || settings.client.is_some();
            let tls = ClientTls { insecure: !encrypted, ..tls_of(settings)? };
            grpc(name, GrpcClient { tls, ..GrpcClient::to(endpoint) }, settings, connector)
        }
        ExporterUrl::Mesh { service, instance } => {
            let (service, instance) = (service.clone(), instance.clone());
            let endpoint = Endpoint::Mesh { service, instance, path: String::new(), query: None };
            grpc(name, GrpcClient::to(endpoint), settings, connector)
        }
        ExporterUrl::Http(url) => {
            let base = url.as_str().strip_suffix('/').unwrap_or(url.as_str());
            http(name, endpoint(base)?, settings, connector)
        }
        ExporterUrl::File { dir, limit, total } => file(name, dir, *limit, *total),
    }
}

fn endpoint(text: &str) -> Result<Endpoint, BuildError> {
    Endpoint::parse(text).map_err(|(reason, next)| BuildError(format!("{text} {reason}: {next}")))
}

fn grpc(
    name: &str,
    client: GrpcClient,
    settings: &Settings,
    connector: Arc<dyn Connector>,
) -> Result<Arc<dyn Exporter>, BuildError> {
    let exporter = OtlpExporter {
        client: GrpcClient { headers: headers(settings), compression: compression(settings), ..client },
        timeout: settings.timeout,
        retry_on_failure: Retry::default(),
        sending_queue: SendingQueue::default(),
    };
    Ok(Grpc::new(name, &exporter, connector, None, Hop::Receiver)?)
}

fn http(
    name: &str,
    endpoint: Endpoint,
    settings: &Settings,
    connector: Arc<dyn Connector>,
) -> Result<Arc<dyn Exporter>, BuildError> {
    let exporter = OtlpHttpExporter {
        endpoint: Some(endpoint),
        traces_endpoint: None,
        metrics_endpoint: None,
        logs_endpoint: None,
        profiles_endpoint: None,
        encoding: if settings.json { Encoding::Json } else { Encoding::Proto },
        client: HttpClient {
            tls: tls_of(settings)?,
            headers: headers(settings),
            compression: compression(settings),
            timeout: settings.timeout,
            ..HttpClient::default()
        },
        retry_on_failure: Retry::default(),
        sending_queue: SendingQueue::default(),
    };
    Ok(Http::new(name, &exporter, connector, None, Hop::Receiver)?)
}

/// OTLP/JSON lines in `NAME.jsonl`; as many older files as the total has room for.
fn file(name: &str, dir: &Path, limit: u64, total: u64) -> Result<Arc<dyn Exporter>, BuildError> {
    let cannot = |why: &dyn std::fmt::Display| BuildError(format!("{}: {why}", dir.display()));
    private_dir(dir).map_err(|error| cannot(&format!("the directory cannot be made: {error}")))?;
    let path = dir.join(format!("{name}.jsonl"));
    let settings = exporters::File {
        path: path.to_str().ok_or_else(|| cannot(&"it is no Unicode text"))?.to_owned(),
        format: FileFormat::Json,
        zstd: false,
        rotation: Some(Rotation {
            max_size: limit,
            max_age: None,
            max_backups: 0,
            localtime: false,
            max_total_size: Some(total),
        }),
        append: false,
        flush_interval: FLUSH,
        group_by: None,
        create_directory: true,
    };
    Ok(File::new(name, &settings)?)
}

fn private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn headers(settings: &Settings) -> Headers {
    settings.headers.iter().map(|(name, value)| (name.clone(), Secret::new(value.as_str()))).collect()
}

fn compression(settings: &Settings) -> Compression {
    if settings.gzip { Compression::Gzip } else { Compression::None }
}

fn tls_of(settings: &Settings) -> Result<ClientTls, BuildError> {
    let mut tls = ClientTls::default();
    if !settings.ca_certs.is_empty() {
        let mut pem = String::new();
        for path in &settings.ca_certs {
            let text = std::fs::read_to_string(path)
                .map_err(|error| BuildError(format!("cannot read {}: {error}", path.display())))?;
            pem.push_str(&text);
            pem.push('\n');
        }
        tls.ca_pem = Some(pem);
    }
    if let Some((cert, key)) = &settings.client {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let identity = TlsIdentity {
            cert_file: Some(text(cert)),
            cert_pem: None,
            key_file: Some(text(key)),
            key_pem: None,
        };
        tls.identity = Some(identity);
    }
    Ok(tls)
}
