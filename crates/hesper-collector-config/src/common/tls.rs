//! `tls`: of listeners and of clients (the Collector's `configtls`).

use crate::{Secret, remark::Topic, section::Section};
use std::time::Duration;

/// A version of TLS that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

/// Who we are: certificate and key, in files or inline.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsIdentity {
    /// `cert_file`
    pub cert_file: Option<String>,
    /// `cert_pem`
    pub cert_pem: Option<String>,
    /// `key_file`
    pub key_file: Option<String>,
    /// `key_pem`
    pub key_pem: Option<Secret>,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate and key; both are there.
    pub identity: TlsIdentity,
    /// Callers must have a certificate of this CA.
    pub client_ca_file: Option<String>,
    /// Read that file again when it changes?
    pub client_ca_file_reload: bool,
    /// How often the certificate is read again; zero means never.
    pub reload_interval: Duration,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// The newest version that is spoken.
    pub max_version: TlsVersion,
}

/// TLS of a client. The default is TLS with the system's roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// No TLS, unless a CA is given: see [`is_plaintext`](Self::is_plaintext).
    pub insecure: bool,
    /// Do not check the server's certificate.
    pub insecure_skip_verify: bool,
    /// The name to ask for and to check instead of the endpoint's host.
    pub server_name_override: Option<String>,
    /// `ca_file`
    pub ca_file: Option<String>,
    /// `ca_pem`
    pub ca_pem: Option<String>,
    /// Trust the system's roots besides that CA?
    pub include_system_ca_certs_pool: bool,
    /// The client certificate, if there is one.
    pub identity: Option<TlsIdentity>,
    /// How often the files are read again; zero means never.
    pub reload_interval: Duration,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// The newest version that is spoken.
    pub max_version: TlsVersion,
}

impl Default for ClientTls {
    fn default() -> Self {
        Self {
            insecure: false,
            insecure_skip_verify: false,
            server_name_override: None,
            ca_file: None,
            ca_pem: None,
            include_system_ca_certs_pool: false,
            identity: None,
            reload_interval: Duration::ZERO,
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
        }
    }
}

impl ClientTls {
    /// No TLS at all: `insecure` without a CA. With a CA the Collector ignores `insecure`.
    pub const fn is_plaintext(&self) -> bool {
        self.insecure && self.ca_file.is_none() && self.ca_pem.is_none()
    }
}

/// Reads `tls` of a listener.
pub(crate) fn server(s: &Section<'_>) -> Option<ServerTls> {
    s.section("tls", |s| {
        let (min_version, max_version) = common(s);
        let identity = identity(s);
        if identity.is_none() {
            s.fault(
                &s.place,
                format!("{} has no certificate", s.what),
                "add cert_file and key_file, or leave tls out",
            );
        }
        for key in ["ca_file", "ca_pem"] {
            s.idle(key, "callers are checked against client_ca_file");
        }
        s.idle("include_system_ca_certs_pool", "callers are checked against client_ca_file");
        ServerTls {
            identity: identity.unwrap_or_default(),
            client_ca_file: s.text("client_ca_file"),
            client_ca_file_reload: s.flag("client_ca_file_reload", false),
            reload_interval: s.duration("reload_interval", Duration::ZERO),
            min_version,
            max_version,
        }
    })
}

/// Reads `tls` of a client.
pub(crate) fn client(s: &Section<'_>) -> ClientTls {
    s.section("tls", |s| {
        let (min_version, max_version) = common(s);
        let tls = ClientTls {
            insecure: s.flag("insecure", false),
            insecure_skip_verify: s.flag("insecure_skip_verify", false),
            server_name_override: s.text("server_name_override"),
            ca_file: s.text("ca_file"),
            ca_pem: s.text("ca_pem"),
            include_system_ca_certs_pool: s.flag("include_system_ca_certs_pool", false),
            identity: identity(s),
            reload_interval: s.duration("reload_interval", Duration::ZERO),
            min_version,
            max_version,
        };
        check_client(s, &tls);
        tls
    })
    .unwrap_or_default()
}

fn check_client(s: &Section<'_>, tls: &ClientTls) {
    if tls.is_plaintext() && tls.insecure_skip_verify {
        let reason = "insecure_skip_verify has no effect beside insecure: there is no TLS at all";
        s.remark(Topic::NoEffect, "insecure_skip_verify", reason, "leave one of them out");
    } else if tls.insecure_skip_verify {
        let reason = "the server's certificate is not checked: anybody between can read and answer";
        s.remark(Topic::Insecure, "insecure_skip_verify", reason, "give the CA with ca_file");
    }
    if tls.insecure && !tls.is_plaintext() {
        let reason = "insecure has no effect beside a CA: there is TLS";
        s.remark(Topic::NoEffect, "insecure", reason, "leave one of them out");
    }
}

fn identity(s: &Section<'_>) -> Option<TlsIdentity> {
    let identity = TlsIdentity {
        cert_file: s.text("cert_file"),
        cert_pem: s.text("cert_pem"),
        key_file: s.text("key_file"),
        key_pem: s.secret("key_pem"),
    };
    let pair = |file: bool, pem: bool, what: &'static str| {
        if file && pem {
            s.refuse(what, "given twice", "keep the file or the inline text");
        }
        file || pem
    };
    let cert = pair(identity.cert_file.is_some(), identity.cert_pem.is_some(), "cert_pem");
    let key = pair(identity.key_file.is_some(), identity.key_pem.is_some(), "key_pem");
    if cert != key {
        let (there, missing) = if cert { ("a certificate", "key_file") } else { ("a key", "cert_file") };
        s.fault(&s.place, format!("{} has only {there}", s.what), format!("add {missing}"));
    }
    (cert || key).then_some(identity)
}

/// The keys of both sides that need no field.
fn common(s: &Section<'_>) -> (TlsVersion, TlsVersion) {
    for key in ["cipher_suites", "curve_preferences"] {
        s.idle(key, "only suites and curves without known weakness are spoken");
    }
    s.unsupported("tpm", "give the key in a file");
    let words =
        [("1.0", None), ("1.1", None), ("1.2", Some(TlsVersion::Tls12)), ("1.3", Some(TlsVersion::Tls13))];
    let min = s.one_of("min_version", &words, Some(TlsVersion::Tls12));
    if min.is_none() {
        s.remark(Topic::NoEffect, "min_version", "TLS before 1.2 is never spoken here", "write 1.2 or 1.3");
    }
    let max = s.one_of("max_version", &words, Some(TlsVersion::Tls13));
    let min = min.unwrap_or(TlsVersion::Tls12);
    if max.is_none_or(|max| max < min) {
        s.refuse("max_version", "no version is left that could be spoken", "write 1.3, or leave it out");
    }
    (min, max.unwrap_or(TlsVersion::Tls13))
}
