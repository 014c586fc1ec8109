//! Certificates of CAs that live as long as a test.

use hesper_collector_config::{ClientTls, Secret, ServerTls, TlsIdentity, TlsVersion};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// A CA.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate with its key, in PEM.
pub(crate) struct Leaf {
    pub(crate) cert: String,
    pub(crate) key: String,
}

fn params(name: &str) -> CertificateParams {
    let mut params =
        CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A certificate that signs itself, and may sign others, as `openssl req -x509` makes it.
pub(crate) fn self_signed() -> Leaf {
    let mut params = params("self");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("signed");
    Leaf { cert: cert.pem(), key: key.serialize_pem() }
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for localhost.
    pub(crate) fn leaf(&self, name: &str) -> Leaf {
        self.sign(&params(name))
    }

    /// One that ended long ago.
    pub(crate) fn expired(&self, name: &str) -> Leaf {
        let mut params = params(name);
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 2, 2));
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed");
        Leaf { cert: cert.pem(), key: key.serialize_pem() }
    }
}

impl Leaf {
    /// In two files, the key first, so that there is a moment in which they do not fit each other.
    pub(crate) fn write(&self, dir: &Path) -> TlsIdentity {
        let path = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
        fs::write(path("key.pem"), &self.key).expect("written");
        fs::write(path("cert.pem"), &self.cert).expect("written");
        TlsIdentity {
            cert_file: Some(path("cert.pem")),
            key_file: Some(path("key.pem")),
            ..TlsIdentity::default()
        }
    }

    /// In the configuration.
    pub(crate) fn inline(&self) -> TlsIdentity {
        TlsIdentity {
            cert_pem: Some(self.cert.clone()),
            key_pem: Some(Secret::new(&*self.key)),
            ..TlsIdentity::default()
        }
    }
}

pub(crate) fn write(path: PathBuf, text: &str) -> String {
    fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

/// A listener that asks nobody for a certificate, and looks at its files all the time.
pub(crate) fn server(identity: TlsIdentity) -> ServerTls {
    ServerTls {
        identity,
        client_ca_file: None,
        client_ca_file_reload: false,
        reload_interval: Duration::from_nanos(1),
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
    }
}

/// A client that trusts this CA, and looks at its files all the time.
pub(crate) fn client(ca: &str) -> ClientTls {
    ClientTls {
        ca_pem: Some(ca.to_owned()),
        reload_interval: Duration::from_nanos(1),
        ..ClientTls::default()
    }
}
